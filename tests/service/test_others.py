"""A worker with a message of several jobs sees whether somebody waits who goes first."""

from pathlib import Path

from common import lanes
from common.identifiers import new_id
from common.lanes import APPLICANT_LANE, BULK_LANE, PARTNER_LANES
from common.others import Others, go_before
from common.settings import WebSettings
from deploy.servers import embedded_valkey, free_port


def test_everybody_goes_before_the_rest_of_a_dump_and_bulk_before_nobody() -> None:
    assert go_before(BULK_LANE) == (APPLICANT_LANE, *PARTNER_LANES)
    assert go_before(PARTNER_LANES[3]) == go_before(APPLICANT_LANE) == ()


def test_what_is_published_is_seen_until_it_is_taken(
    web_settings: WebSettings, tmp_path: Path
) -> None:
    with embedded_valkey(tmp_path / "valkey") as url:
        app = lanes.make_celery(web_settings.model_copy(update={"broker_url": url}))
        others = Others(url)
        lanes.publish_stamp(app, new_id(), BULK_LANE)
        assert not others.wait(BULK_LANE)
        lanes.publish_stamp(app, new_id(), PARTNER_LANES[2])
        assert others.wait(BULK_LANE)
        assert not others.wait(APPLICANT_LANE)
        with app.connection_for_read() as connection:
            connection.default_channel.basic_get(PARTNER_LANES[2], no_ack=True)
        assert not others.wait(BULK_LANE)


def test_without_valkey_nobody_waits() -> None:
    assert not Others(f"redis://127.0.0.1:{free_port()}/0").wait(BULK_LANE)

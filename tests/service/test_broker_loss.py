"""A Valkey of the test's own that is killed and comes back: publishing and counting go on."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from kombu.exceptions import OperationalError

from common import lanes
from common.pace import Pace
from common.settings import Settings
from deploy.servers import Valkey


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Valkey]:
    server = Valkey(tmp_path / "valkey")
    server.start()
    yield server
    server.stop()


def test_a_broker_that_dies_is_noticed_at_once_and_used_again_when_it_is_back(
    valkey: Valkey,
) -> None:
    celery = lanes.make_celery(Settings(link_key="k" * 32, broker_url=valkey.url))  # type: ignore[arg-type]
    pace = Pace(valkey.url)
    first = pace.enter(("one", "two"))
    lanes.publish_stamp(celery, uuid4(), lanes.BULK_LANE)
    assert (first.lane, first.ticket) == ("one", 1)

    valkey.kill()
    assert pace.enter(("one", "two")).ticket is None
    assert pace.lane("one") is None
    assert not pace.answers()
    pace.progress("one", taken_up=1, waited_seconds=0.1, service_seconds=())
    with pytest.raises(OperationalError):
        lanes.publish_stamp(celery, uuid4(), lanes.BULK_LANE)
    lanes.publish_deliveries(celery, [uuid4()])

    valkey.start()
    assert pace.enter(("two",)).ticket is not None
    lanes.publish_stamp(celery, uuid4(), lanes.BULK_LANE)
    assert pace.answers()


def test_the_shorter_lane_is_entered_and_the_measured_pace_is_told(valkey: Valkey) -> None:
    pace = Pace(valkey.url)
    entered = [pace.enter(("one", "two")).lane for _ in range(4)]
    assert sorted(entered) == ["one", "one", "two", "two"]
    for _ in range(2):
        pace.progress("one", taken_up=1, waited_seconds=0.1, service_seconds=())
    pace.progress("one", taken_up=0, waited_seconds=None, service_seconds=(0.5,))
    numbers = pace.lane("one")
    assert numbers is not None
    assert (numbers.waiting, numbers.service_seconds) == (0, 0.5)
    assert numbers.per_second is not None, "the second left while it had been waiting"
    assert pace.enter(("one",)).wait.seconds_left is not None


def test_the_oldest_has_waited_as_long_as_the_newest_taken_and_since(valkey: Valkey) -> None:
    pace = Pace(valkey.url)
    pace.enter_several("one", 3)
    pace.progress("one", taken_up=1, waited_seconds=0.0, service_seconds=())
    numbers = pace.lane("one")
    assert numbers is not None
    assert numbers.oldest_seconds is not None
    assert 0 <= numbers.oldest_seconds < 30
    pace.progress("one", taken_up=2, waited_seconds=40.0, service_seconds=())
    numbers = pace.lane("one")
    assert numbers is not None
    assert numbers.oldest_seconds == 0, "nothing waits"
    pace.enter(("one",))
    numbers = pace.lane("one")
    assert numbers is not None
    assert numbers.oldest_seconds is not None
    assert numbers.oldest_seconds < 30, "the lane was empty a moment ago"

"""A job that waits for serials, as its owner sees it: by API, on its page, and in the metrics."""

import io
import json
from collections.abc import Iterator

import pytest
from flask import Flask
from flask.testing import FlaskClient

from common.database import Database
from common.documents import Documents
from common.lanes import BULK_LANE
from common.pace import Pace
from common.settings import WebSettings, WorkerSettings
from tests.service import serial_lists
from tests.service.serial_lists import imported
from tests.service.test_job_states import assert_clean
from tests.service.test_serial_stock import caretaker_of
from tests.stack import Account
from web.app import create_app
from workers.upkeep import Caretaker

HTML = {"Accept": "text/html"}


@pytest.fixture(scope="module")
def db(web_settings: WebSettings) -> Iterator[Database]:
    with serial_lists.own_database(web_settings.database_url) as opened:
        yield opened


@pytest.fixture(autouse=True)
def empty_database(db: Database) -> None:
    serial_lists.empty(db)


@pytest.fixture
def app(web_settings: WebSettings, db: Database) -> Flask:
    url = db.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    return create_app(
        web_settings.model_copy(update={"database_url": url, "serial_source": "imported"})
    )


@pytest.fixture
def caretaker(
    worker_settings: WorkerSettings, db: Database, store: Documents, lane_pace: Pace
) -> Caretaker:
    return caretaker_of(worker_settings, db, store, lane_pace)


def submit(
    client: FlaskClient, account: Account, letter: bytes, query: str = ""
) -> dict[str, object]:
    answer = client.post(
        f"/v1/jobs?{query}",
        data=letter,
        content_type="application/pdf",
        headers=account.live | {"Idempotency-Key": "letter 1"},
    )
    assert answer.status_code == 202
    assert answer.json is not None
    return dict(answer.json, retry_after=answer.headers["Retry-After"])


def cancel(client: FlaskClient, headers: dict[str, str], job_id: object) -> None:
    """Leave the lanes' counters, which other tests share, as they were."""
    assert client.post(f"/v1/jobs/{job_id}/cancel", headers=headers).status_code == 200


def waiting_in_lanes(pace: Pace) -> int:
    counted = [pace.lane(f"stamp.partner.{number}") for number in range(8)]
    return sum(lane.accepted - lane.served for lane in counted if lane is not None)


def test_its_owner_is_told_that_it_waits_and_for_what(
    client: FlaskClient,
    account: Account,
    letter: bytes,
    caretaker: Caretaker,
    db: Database,
    lane_pace: Pace,
) -> None:
    before = waiting_in_lanes(lane_pace)
    job = submit(client, account, letter)
    assert (job["state"], job["waiting_for"]) == ("queued", "serials")
    assert (job["serial"], job["position"], job["seconds_left"]) == (None, None, None)
    assert job["stamps"] == [{"serial": None, "placement": job["placement"]}]
    assert job["retry_after"] == "30"
    assert job["receipt"]
    assert waiting_in_lanes(lane_pace) == before, "no lane counts it"
    again = submit(client, account, letter)
    assert again == job, "the answer that was kept"

    address = f"/v1/jobs/{job['id']}"
    shown = client.get(address, headers=account.live)
    assert (shown.json["waiting_for"], shown.headers["Retry-After"]) == ("serials", "30")
    assert client.get(f"{address}/receipt", headers=account.live).status_code == 200
    assert client.get("/v1/quota", headers=account.live).json["held"] == 1
    not_ready = client.get(f"{address}/document", headers=account.live)
    assert (not_ready.status_code, not_ready.headers["Retry-After"]) == (409, "30")

    (number,) = imported(db, 1)
    assert caretaker.serve_waiting() == 1
    shown = client.get(address, headers=account.live)
    assert (shown.json["waiting_for"], shown.json["serial"]) == (None, number)
    assert shown.json["position"] is not None
    assert waiting_in_lanes(lane_pace) == before + 1
    assert client.post(f"{address}/cancel", headers=account.live).json["serial"] is None
    assert waiting_in_lanes(lane_pace) == before
    assert_clean(db)


def test_it_can_be_cancelled_and_no_lane_counts_that(
    client: FlaskClient, account: Account, letter: bytes, db: Database, lane_pace: Pace
) -> None:
    before = waiting_in_lanes(lane_pace)
    job = submit(client, account, letter)
    answer = client.post(f"/v1/jobs/{job['id']}/cancel", headers=account.live)
    assert (answer.json["state"], answer.json["waiting_for"]) == ("cancelled", None)
    assert waiting_in_lanes(lane_pace) == before
    assert client.get("/v1/quota", headers=account.live).json["available"] == 100
    assert_clean(db)


@pytest.mark.parametrize(
    ("lang", "headline", "sentence"),
    [
        ("id", "Menunggu nomor seri", "Persediaan nomor seri sedang habis."),
        ("en", "Waiting for a serial number", "Serial numbers have run out for the moment."),
    ],
)
def test_its_page_says_so_in_a_plain_sentence(
    client: FlaskClient, account: Account, letter: bytes, lang: str, headline: str, sentence: str
) -> None:
    job = submit(client, account, letter)
    links = job["links"]
    assert isinstance(links, dict)
    token = links["status_page"].rpartition("/")[2]
    for part in ("", "/live"):
        page = client.get(f"/j/{token}{part}?lang={lang}", headers=HTML)
        assert page.status_code == 200
        assert headline in page.text
        assert sentence in page.text
        assert page.headers["Retry-After"] == "30"
        assert "None" not in page.text


def test_test_keys_never_wait(client: FlaskClient, account: Account, letter: bytes) -> None:
    answer = client.post(
        "/v1/jobs", data=letter, content_type="application/pdf", headers=account.test
    )
    assert answer.json is not None
    assert answer.json["waiting_for"] is None
    assert answer.json["serial"].startswith("T")
    cancel(client, account.test, answer.json["id"])


def test_the_metrics_say_what_is_in_stock_and_how_many_wait(
    client: FlaskClient, account: Account, letter: bytes, db: Database, web_settings: WebSettings
) -> None:
    submit(client, account, letter)
    imported(db, 5)
    said = client.get("/metrics").text
    assert 'stampede_serial_stock{mode="live"} 5.0' in said
    assert 'stampede_backlog{what="waiting_for_serials"} 1.0' in said
    generated = create_app(web_settings).test_client().get("/metrics").text
    assert "stampede_serial_stock" not in generated


def test_an_imported_serial_is_looked_up_as_it_is_written(
    client: FlaskClient, account: Account, letter: bytes, db: Database
) -> None:
    """The issuer's may have the letters that ours do without, and no check character."""
    listed = "EOIL456789OILUOIL012"
    serial_lists.import_text(db, f"{listed}\nEOIL456789OILUOIL013\n")
    job = submit(client, account, letter)
    assert job["serial"] == listed
    facts = client.get(f"/v1/serials/{listed.lower()}").json
    assert (facts["serial"], facts["state"]) == (listed, "reserved")
    found = client.get("/verify", query_string={"serial": "eoil-4567 89oiluoil012"})
    page = client.get(found.headers["Location"], headers=HTML)
    assert (page.status_code, "Dicadangkan" in page.text) == (200, True)
    in_stock = client.get("/v/EOIL456789OILUOIL013", headers=HTML)
    assert (in_stock.status_code, "Tidak ada dokumen kami" in in_stock.text) == (404, True)
    assert client.get("/v1/serials/EOIL456789OILUOIL013").status_code == 404
    cancel(client, account.live, job["id"])


def test_a_generated_serial_is_found_though_its_digits_were_misread(
    client: FlaskClient, account: Account, letter: bytes
) -> None:
    job = client.post(
        "/v1/jobs", data=letter, content_type="application/pdf", headers=account.test
    ).json
    assert job is not None
    misread = job["serial"].translate(str.maketrans("01", "OI"))
    page = client.get(f"/v/{misread}", headers=HTML)
    assert page.status_code == 200
    assert job["serial"] in page.text
    cancel(client, account.test, job["id"])


def test_jobs_of_a_batch_that_get_no_serials_wait_and_the_others_go_ahead(
    client: FlaskClient,
    account: Account,
    letter: bytes,
    caretaker: Caretaker,
    db: Database,
    lane_pace: Pace,
) -> None:
    def in_bulk() -> int:
        lane = lane_pace.lane(BULK_LANE)
        assert lane is not None
        return lane.accepted - lane.served

    before = in_bulk()
    imported(db, 2)
    form = {
        "jobs": json.dumps([{"document": name} for name in "abc"]),
        **{name: (io.BytesIO(letter), f"{name}.pdf") for name in "abc"},
    }
    answer = client.post("/v1/batches", data=form, headers=account.live)
    assert answer.status_code == 202, answer.json
    batch = answer.json
    waiting = [job for job in batch["jobs"] if job["waiting_for"] == "serials"]
    assert len(waiting) == 1
    assert (waiting[0]["serial"], waiting[0]["position"]) == (None, None)
    assert (batch["total"], batch["counts"]["queued"]) == (3, 3)
    assert in_bulk() == before + 2
    imported(db, 1)
    assert caretaker.serve_waiting() == 1
    assert in_bulk() == before + 3
    shown = client.get(batch["links"]["jobs"], headers=account.live).json["data"]
    assert [job["waiting_for"] for job in shown] == [None] * 3
    assert len({job["serial"] for job in shown}) == 3
    for job in shown:
        cancel(client, account.live, job["id"])
    assert_clean(db)

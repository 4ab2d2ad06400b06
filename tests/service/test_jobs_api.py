"""Looking at jobs, listing them, cancelling, and what belongs to somebody else."""

from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import text

from common.database import Database
from tests.service.test_intake_api import assert_problem
from tests.stack import Account


@pytest.fixture
def submit(client: FlaskClient, account: Account, letter: bytes) -> Callable[..., dict[str, Any]]:
    def submit(query: str = "", *, headers: dict[str, str] | None = None) -> dict[str, Any]:
        response = client.post(
            f"/v1/jobs?{query}",
            data=letter,
            content_type="application/pdf",
            headers=headers or account.live,
        )
        assert response.status_code == 202, response.get_data()
        return dict(response.json or {})

    return submit


Submit = Callable[..., dict[str, Any]]


def test_a_job_looks_the_same_as_when_it_was_accepted(
    client: FlaskClient, account: Account, submit: Submit
) -> None:
    accepted = submit("page=1&corner=top-right&external_reference=a")
    seen = client.get(f"/v1/jobs/{accepted['id']}", headers=account.live)
    accepted.pop("receipt")
    assert seen.json == accepted
    assert int(seen.headers["Retry-After"]) >= 1


def test_a_job_with_a_number_of_hundreds_of_digits_can_be_looked_at(
    client: FlaskClient, account: Account, submit: Submit, db: Database
) -> None:
    # As the problem of a page that is as wide; in jsonb it is an integer.
    job = submit()
    with db.transaction() as connection:
        connection.execute(
            text("update jobs set placements = cast(:placements as jsonb) where id = :id"),
            {"id": job["id"], "placements": '[{"page": 1, "x": 1e300, "y": 1}]'},
        )
    seen = client.get(f"/v1/jobs/{job['id']}", headers=account.live)
    assert seen.status_code == 200
    assert seen.json is not None
    assert seen.json["placement"]["x"] == 1e300
    assert client.get("/v1/jobs", headers=account.live).status_code == 200


def test_an_unchanged_job_is_answered_by_304(
    client: FlaskClient, account: Account, submit: Submit
) -> None:
    url = submit()["links"]["self"]
    first = client.get(url, headers=account.live)
    again = client.get(url, headers=account.live | {"If-None-Match": first.headers["ETag"]})
    assert again.status_code == 304
    assert again.get_data() == b""
    assert again.headers["ETag"] == first.headers["ETag"]
    assert "Retry-After" in again.headers
    client.post(f"{url}/cancel", headers=account.live)
    changed = client.get(url, headers=account.live | {"If-None-Match": first.headers["ETag"]})
    assert changed.status_code == 200
    assert changed.headers["ETag"] != first.headers["ETag"]
    assert "Retry-After" not in changed.headers


def test_the_list_pages_through_every_job_once_newest_first(
    client: FlaskClient, account: Account, submit: Submit
) -> None:
    made = [submit()["id"] for _ in range(7)]
    seen: list[str] = []
    query = "limit=3"
    while True:
        page = client.get(f"/v1/jobs?{query}", headers=account.live).json
        seen += [job["id"] for job in page["data"]]
        if page["next_cursor"] is None:
            break
        query = f"limit=3&cursor={page['next_cursor']}"
    assert seen == made[::-1]


def test_the_list_filters(client: FlaskClient, account: Account, submit: Submit) -> None:
    first = submit("external_reference=a")
    second = submit("external_reference=b")
    client.post(f"/v1/jobs/{first['id']}/cancel", headers=account.live)

    def ids(query: str) -> list[str]:
        response = client.get("/v1/jobs", query_string=query, headers=account.live)
        return [job["id"] for job in response.json["data"]]

    assert ids("external_reference=b") == [second["id"]]
    assert ids("state=cancelled") == [first["id"]]
    assert ids(f"accepted_from={second['accepted_at']}") == [second["id"]]
    assert ids(f"accepted_before={second['accepted_at']}") == [first["id"]]


@pytest.mark.parametrize("cursor", ["x", "AAAA", "%00", "a" * 22 + "!", "é", "a" * 100])
def test_a_malformed_cursor_is_refused(client: FlaskClient, account: Account, cursor: str) -> None:
    response = client.get("/v1/jobs", query_string={"cursor": cursor}, headers=account.live)
    assert_problem(response, 400, "cursor_invalid")


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("limit=0", "field_invalid"),
        ("limit=101", "field_invalid"),
        ("state=lost", "field_invalid"),
        ("accepted_from=yesterday", "field_invalid"),
        ("accepted_from=2026-11-24T10:00:00", "field_invalid"),
        ("sort=asc", "field_unknown"),
    ],
)
def test_a_bad_filter_is_refused(
    client: FlaskClient, account: Account, query: str, code: str
) -> None:
    assert_problem(client.get(f"/v1/jobs?{query}", headers=account.live), 422, code)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""),
        ("GET", "/document"),
        ("GET", "/receipt"),
        ("POST", "/cancel"),
    ],
)
def test_a_job_of_another_partner_or_mode_is_not_there(
    client: FlaskClient,
    account: Account,
    make_account: Callable[..., Account],
    submit: Submit,
    method: str,
    path: str,
) -> None:
    url = f"/v1/jobs/{submit()['id']}{path}"
    for headers in (make_account().live, account.test):
        assert_problem(client.open(url, method=method, headers=headers), 404, "not_found")
    nobodys = "/v1/jobs/01a20da0-51b4-7111-907f-a8c5e5392a49"
    for missing in (nobodys + path, f"/v1/jobs/not-an-id{path}"):
        assert_problem(client.open(missing, method=method, headers=account.live), 404, "not_found")


def test_cancelling_gives_the_quota_back_and_may_be_repeated(
    client: FlaskClient, account: Account, submit: Submit
) -> None:
    job = submit()
    assert client.get("/v1/quota", headers=account.live).json["held"] == 1
    for _ in range(2):
        response = client.post(f"/v1/jobs/{job['id']}/cancel", headers=account.live)
        assert response.status_code == 200
        assert response.json["state"] == "cancelled"
    quota = client.get("/v1/quota", headers=account.live).json
    assert (quota["available"], quota["held"], quota["captured"]) == (100, 0, 0)


def test_a_document_that_is_not_stamped_yet_is_not_ready(
    client: FlaskClient, account: Account, submit: Submit
) -> None:
    job = submit()
    response = client.get(f"/v1/jobs/{job['id']}/document", headers=account.live)
    assert assert_problem(response, 409, "document_not_ready")["state"] == "queued"
    assert int(response.headers["Retry-After"]) >= 1


def test_a_serial_tells_the_public_nothing_about_its_owner(
    client: FlaskClient, submit: Submit
) -> None:
    job = submit()
    facts = client.get(f"/v1/serials/{job['serial']}").json
    assert facts == {
        "serial": job["serial"],
        "mode": "live",
        "state": "reserved",
        "affixed_at": None,
        "document_sha256": None,
        "earlier_document_sha256": None,
        "specimen": False,
    }
    assert client.get(f"/v1/serials/{job['serial'].lower()}").json == facts


@pytest.mark.parametrize("serial", ["S", "S000000000000000000000", "%00", "é" * 22])
def test_a_serial_that_was_never_given_out_is_not_there(client: FlaskClient, serial: str) -> None:
    assert_problem(client.get(f"/v1/serials/{serial}"), 404, "not_found")


def test_addresses_and_methods_that_do_not_exist_are_problems(client: FlaskClient) -> None:
    assert_problem(client.get("/v1/nothing"), 404, "not_found")
    response = client.delete("/v1/jobs")
    assert_problem(response, 405, "method_not_allowed")
    assert "POST" in response.headers["Allow"]


def test_the_pace_is_public(client: FlaskClient, submit: Submit) -> None:
    submit()
    pace = client.get("/v1/pace").json
    assert pace["known"] is True
    assert sum(lane["waiting"] for lane in pace["lanes"]) >= 1


def test_health_and_metrics_answer(client: FlaskClient, submit: Submit) -> None:
    submit()
    assert client.get("/livez").json == {"status": "ok"}
    ready = client.get("/readyz")
    assert ready.json["checks"] == {"database": True, "documents": True, "broker": True}
    metrics = client.get("/metrics").get_data(as_text=True)
    assert 'stampede_backlog{what="queued"}' in metrics
    assert 'stampede_lane_waiting{lane="stamp.applicant"}' in metrics

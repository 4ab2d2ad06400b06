"""`/v1/quota` and its ledger: the owner's own account, every entry once, by filter."""

from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient

from common import jobs, ledger, partners
from common.database import Database
from common.identifiers import new_id
from common.partners import Mode
from tests.service.test_intake_api import assert_problem
from tests.service.test_job_states import accept, claim, finish, new_job
from tests.stack import Account


def listed(client: FlaskClient, account: Account, **query: str) -> list[dict[str, Any]]:
    answer = client.get("/v1/quota/ledger", query_string=query, headers=account.live)
    assert answer.status_code == 200, answer.get_data()
    return list(answer.json["data"])


def moved(entry: dict[str, Any]) -> tuple[str, int, str, str]:
    return entry["kind"], entry["amount"], entry["from"], entry["to"]


def test_a_test_key_has_no_quota_to_lose(
    client: FlaskClient, db: Database, account: Account
) -> None:
    accept(db, new_job(account, Mode.TEST, stamps=2))
    assert client.get("/v1/quota", headers=account.test).json == {
        "mode": "test",
        "unlimited": True,
        "topped_up": partners.SPECIMENS,
        "available": partners.SPECIMENS - 2,
        "held": 2,
        "captured": 0,
        "voucher": None,
    }
    assert client.get("/v1/quota", headers=account.live).json == {
        "mode": "live",
        "unlimited": False,
        "topped_up": 100,
        "available": 100,
        "held": 0,
        "captured": 0,
        "voucher": None,
    }


def test_the_ledger_says_what_every_job_did_to_the_account(
    client: FlaskClient, db: Database, account: Account
) -> None:
    stamped, cancelled = (accept(db, new_job(account, stamps=2)) for _ in range(2))
    taken = claim(db, stamped)
    assert taken is not None
    assert finish(db, taken)
    with db.transaction() as connection:
        assert jobs.cancel(connection, account_id=account.id(), job_id=cancelled)
    with db.transaction() as connection:
        ledger.adjust(
            connection,
            account_id=account.id(),
            amount=-3,
            reference="c-1",
            reason="paid twice",
            by="somebody",
        )
    newest, *others = listed(client, account)
    assert moved(newest) == ("adjust", 3, "available", "outside")
    assert (newest["reference"], newest["reason"], newest["job_id"]) == ("c-1", "paid twice", None)
    assert "by" not in newest, "who did it is the operator's business"
    assert [(moved(entry), entry["job_id"]) for entry in others] == [
        (("release", 2, "held", "available"), str(cancelled)),
        (("capture", 2, "held", "captured"), str(stamped)),
        (("hold", 2, "available", "held"), str(cancelled)),
        (("hold", 2, "available", "held"), str(stamped)),
        (("top_up", 100, "outside", "available"), None),
    ]


def test_the_ledger_pages_through_every_entry_once_newest_first(
    client: FlaskClient, db: Database, account: Account
) -> None:
    made = [str(accept(db, new_job(account))) for _ in range(6)]
    seen: list[str] = []
    query = {"limit": "3", "kind": "hold"}
    while True:
        page = client.get("/v1/quota/ledger", query_string=query, headers=account.live).json
        seen += [entry["job_id"] for entry in page["data"]]
        if page["next_cursor"] is None:
            break
        # What comes meanwhile is newer than the cursor, and not on the pages that follow.
        accept(db, new_job(account))
        query["cursor"] = page["next_cursor"]
    assert seen == made[::-1]


def test_the_ledger_filters(client: FlaskClient, db: Database, account: Account) -> None:
    first, second = (accept(db, new_job(account)) for _ in range(2))
    with db.transaction() as connection:
        assert jobs.cancel(connection, account_id=account.id(), job_id=first)
    release, of_second, of_first, top_up = listed(client, account)

    assert listed(client, account, kind="hold") == [of_second, of_first]
    assert listed(client, account, job_id=str(first)) == [release, of_first]
    assert listed(client, account, job_id=str(second), kind="release") == []
    assert listed(client, account, job_id=str(new_id())) == []
    # Times are shown in milliseconds: what was made within one has to be asked for from its start.
    assert release in listed(client, account, **{"from": release["at"]})
    assert top_up not in listed(client, account, **{"from": of_second["at"]})
    assert listed(client, account, before=of_first["at"]) == [top_up]
    assert listed(client, account, before="2026-01-01T00:00:00Z") == []


def test_nobody_sees_the_entries_of_another_account(
    client: FlaskClient, db: Database, account: Account, make_account: Callable[..., Account]
) -> None:
    job_id = accept(db, new_job(account))
    for headers in (account.test, make_account().live):
        answer = client.get(f"/v1/quota/ledger?job_id={job_id}", headers=headers)
        assert answer.json["data"] == []
    assert_problem(client.get("/v1/quota/ledger"), 401, "key_missing")


@pytest.mark.parametrize("cursor", ["x", "AAAA", "%00", "_" * 11, "a" * 12, "é", "a" * 100])
def test_a_malformed_cursor_is_refused(client: FlaskClient, account: Account, cursor: str) -> None:
    response = client.get("/v1/quota/ledger", query_string={"cursor": cursor}, headers=account.live)
    assert_problem(response, 400, "cursor_invalid")


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("limit=0", "field_invalid"),
        ("limit=101", "field_invalid"),
        ("kind=gift", "field_invalid"),
        ("job_id=7", "field_invalid"),
        ("from=yesterday", "field_invalid"),
        ("before=2026-11-24T10:00:00", "field_invalid"),
        ("at_from=2026-11-24T10:00:00Z", "field_unknown"),
    ],
)
def test_a_bad_filter_is_refused(
    client: FlaskClient, account: Account, query: str, code: str
) -> None:
    response = client.get(f"/v1/quota/ledger?{query}", headers=account.live)
    assert_problem(response, 422, code)

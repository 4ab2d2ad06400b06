"""Operators' keys, and what is done with them: top-ups and adjustments, each counted once."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from click.testing import CliRunner, Result
from flask.testing import FlaskClient
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from common import ledger, partners
from common.database import Database
from common.identifiers import new_id
from common.partners import IssuedKey, Mode
from deploy.cli import main
from tests.stack import Account


@pytest.fixture
def operator(db: Database) -> IssuedKey:
    with db.transaction() as connection:
        return partners.issue_operator_key(connection, label="treasury")


def bearer(key: IssuedKey, **headers: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key.secret}"} | headers


def asked(account: Account, **changed: Any) -> dict[str, Any]:
    return {
        "partner": str(account.partner_id),
        "amount": 40,
        "reference": "invoice-17",
    } | changed


def assert_problem(response: Any, status: int, code: str) -> dict[str, Any]:
    assert (response.status_code, response.json["code"]) == (status, code), response.json
    return dict(response.json)


def available(db: Database, account: Account, mode: Mode = Mode.LIVE) -> int:
    with db.transaction() as connection:
        return ledger.balance(connection, account.id(mode)).available


def test_an_operator_tops_up_by_id_and_by_name(
    client: FlaskClient, account: Account, operator: IssuedKey, db: Database
) -> None:
    by_id = client.post("/v1/top-ups", json=asked(account), headers=bearer(operator))
    assert by_id.status_code == 201
    entry = by_id.json["entry"]
    assert (entry["kind"], entry["amount"], entry["reference"]) == ("top_up", 40, "invoice-17")
    assert (entry["partner_id"], entry["mode"]) == (str(account.partner_id), "live")
    assert entry["by"] == "treasury"
    assert by_id.json["balance"] == {
        "topped_up": 140,
        "available": 140,
        "held": 0,
        "captured": 0,
    }
    with db.transaction() as connection:
        name = connection.execute(
            text("select name from partners where id = :id"), {"id": account.partner_id}
        ).scalar_one()
    by_name = client.post(
        "/v1/top-ups",
        json=asked(account, partner=name, reference="invoice-18"),
        headers=bearer(operator),
    )
    assert by_name.json["balance"]["available"] == 180


def test_a_reference_counts_once_also_without_a_key(
    client: FlaskClient, account: Account, operator: IssuedKey, db: Database
) -> None:
    first = client.post("/v1/top-ups", json=asked(account), headers=bearer(operator))
    again = client.post("/v1/top-ups", json=asked(account), headers=bearer(operator))
    assert first.status_code == again.status_code == 201
    assert again.json == first.json
    other = client.post("/v1/top-ups", json=asked(account, amount=41), headers=bearer(operator))
    assert_problem(other, 409, "reference_reused")
    assert available(db, account) == 140


def test_a_key_replays_the_answer_as_it_was(
    client: FlaskClient, account: Account, operator: IssuedKey
) -> None:
    headers = bearer(operator, **{"Idempotency-Key": '"t1"'})
    first = client.post("/v1/top-ups", json=asked(account), headers=headers)
    client.post("/v1/top-ups", json=asked(account, reference="b"), headers=bearer(operator))
    again = client.post("/v1/top-ups", json=asked(account), headers=headers)
    assert again.get_data() == first.get_data()
    assert again.headers["Idempotent-Replayed"] == "true"
    other = client.post("/v1/top-ups", json=asked(account, amount=1), headers=headers)
    assert_problem(other, 422, "idempotency_key_reused")
    elsewhere = client.post(
        "/v1/adjustments", json=asked(account, reason="r", reference="c"), headers=headers
    )
    assert_problem(elsewhere, 422, "idempotency_key_reused")


def test_two_operators_may_use_the_same_key(
    client: FlaskClient, account: Account, db: Database
) -> None:
    with db.transaction() as connection:
        keys = [partners.issue_operator_key(connection, label=label) for label in ("a", "b")]
    answers = [
        client.post(
            "/v1/top-ups",
            json=asked(account, reference=f"of {number}"),
            headers=bearer(key, **{"Idempotency-Key": "same"}),
        )
        for number, key in enumerate(keys)
    ]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert [answer.json["entry"]["by"] for answer in answers] == ["a", "b"]


def test_one_top_up_sent_many_times_at_once_counts_once(
    server: str, account: Account, operator: IssuedKey, db: Database
) -> None:
    def send(number: int) -> httpx.Response:
        key = {"Idempotency-Key": "k"} if number % 2 else {}
        return httpx.post(
            f"{server}/v1/top-ups", json=asked(account), headers=bearer(operator, **key)
        )

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(send, range(16)))
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert all(answer.status_code == 201 for answer in answers[::2])
    done = {a.json()["entry"]["id"] for a in answers if a.status_code == 201}
    assert len(done) == 1
    assert available(db, account) == 140


def test_the_test_account_is_topped_up_only_when_it_is_named(
    client: FlaskClient, account: Account, operator: IssuedKey, db: Database
) -> None:
    before = available(db, account, Mode.TEST)
    answer = client.post("/v1/top-ups", json=asked(account, mode="test"), headers=bearer(operator))
    assert answer.json["entry"]["mode"] == "test"
    assert available(db, account, Mode.TEST) == before + 40
    assert available(db, account) == 100


def test_an_adjustment_goes_both_ways_and_never_below_zero(
    client: FlaskClient, account: Account, operator: IssuedKey, db: Database
) -> None:
    def adjust(amount: int, reference: str) -> Any:
        return client.post(
            "/v1/adjustments",
            json=asked(account, amount=amount, reference=reference, reason="counted twice"),
            headers=bearer(operator),
        )

    down = adjust(-30, "a")
    assert down.status_code == 201
    assert (down.json["entry"]["from"], down.json["entry"]["to"]) == ("available", "outside")
    assert down.json["entry"]["reason"] == "counted twice"
    assert down.json["balance"]["available"] == 70
    assert adjust(-30, "a").json == down.json
    problem = assert_problem(adjust(-71, "b"), 402, "quota_too_small")
    assert (problem["available"], problem["needed"]) == (70, 71)
    assert adjust(5, "b").json["balance"]["available"] == 75
    assert_problem(adjust(6, "b"), 409, "reference_reused")
    assert available(db, account) == 75


@pytest.mark.parametrize(
    ("changed", "status", "code"),
    [
        ({"partner": "nobody of this name"}, 422, "partner_unknown"),
        ({"partner": str(new_id())}, 422, "partner_unknown"),
        ({"partner": ""}, 422, "field_invalid"),
        ({"amount": 0}, 422, "field_invalid"),
        ({"amount": -5}, 422, "field_invalid"),
        ({"amount": 1.5}, 422, "field_invalid"),
        ({"amount": True}, 422, "field_invalid"),
        ({"amount": "7"}, 422, "field_invalid"),
        ({"amount": 1_000_000_001}, 422, "field_invalid"),
        ({"reference": ""}, 422, "field_invalid"),
        ({"reference": "a\x00b"}, 422, "field_invalid"),
        ({"mode": "both"}, 422, "field_invalid"),
        ({"note": "x"}, 422, "field_unknown"),
    ],
)
def test_a_wrong_top_up_is_refused_and_nothing_changes(
    client: FlaskClient,
    account: Account,
    operator: IssuedKey,
    db: Database,
    changed: dict[str, Any],
    status: int,
    code: str,
) -> None:
    response = client.post("/v1/top-ups", json=asked(account, **changed), headers=bearer(operator))
    assert_problem(response, status, code)
    assert available(db, account) == 100


def test_a_body_that_is_no_json_is_refused(client: FlaskClient, operator: IssuedKey) -> None:
    headers = bearer(operator)
    cut = client.post("/v1/top-ups", data=b"{", content_type="application/json", headers=headers)
    assert_problem(cut, 422, "field_invalid")
    form = client.post("/v1/top-ups", data={"amount": "5"}, headers=headers)
    assert_problem(form, 415, "content_type_unsupported")
    large = client.post(
        "/v1/top-ups", data=b" " * 70_000, content_type="application/json", headers=headers
    )
    assert_problem(large, 400, "bad_request")


def test_a_zero_adjustment_and_one_without_a_reason_are_refused(
    client: FlaskClient, account: Account, operator: IssuedKey
) -> None:
    zero = client.post(
        "/v1/adjustments", json=asked(account, amount=0, reason="r"), headers=bearer(operator)
    )
    assert_problem(zero, 422, "field_invalid")
    silent = client.post("/v1/adjustments", json=asked(account), headers=bearer(operator))
    assert_problem(silent, 422, "field_invalid")


def test_each_kind_of_key_has_addresses_of_its_own(
    client: FlaskClient, account: Account, operator: IssuedKey, letter: bytes
) -> None:
    for path in ("/v1/top-ups", "/v1/adjustments"):
        for own in (account.live, account.test):
            assert_problem(client.post(path, json=asked(account), headers=own), 403, "forbidden")
    for path in ("/v1/jobs", "/v1/quota", "/v1/batches", "/v1/webhook-endpoints"):
        assert_problem(client.get(path, headers=bearer(operator)), 403, "forbidden")
    submitted = client.post(
        "/v1/jobs", data=letter, content_type="application/pdf", headers=bearer(operator)
    )
    assert_problem(submitted, 403, "forbidden")
    nobody = client.post("/v1/top-ups", json=asked(account))
    assert_problem(nobody, 401, "key_missing")


def test_a_revoked_operator_key_is_refused_at_once(
    client: FlaskClient, account: Account, operator: IssuedKey, db: Database
) -> None:
    with db.transaction() as connection:
        partners.revoke_key(connection, operator.id)
    response = client.post("/v1/top-ups", json=asked(account), headers=bearer(operator))
    assert_problem(response, 401, "key_revoked")


@pytest.mark.parametrize(
    ("scope", "owned", "mode"),
    [
        ("operator", True, "live"),
        ("operator", False, "live"),
        ("partner", False, "live"),
        ("partner", True, None),
        ("root", False, None),
    ],
)
def test_the_database_itself_keeps_the_two_kinds_of_keys_apart(
    db: Database, account: Account, scope: str, owned: bool, mode: str | None
) -> None:
    with pytest.raises(IntegrityError), db.transaction() as connection:
        connection.execute(
            text(
                "insert into api_keys (id, scope, partner_id, mode, digest, hint, label)"
                " values (:id, :scope, :partner, :mode, 'd', 'h', 'l')"
            ),
            {
                "id": new_id(),
                "scope": scope,
                "partner": account.partner_id if owned else None,
                "mode": mode,
            },
        )


@pytest.fixture
def stampede(environment: dict[str, str]) -> Callable[..., Result]:
    return lambda *arguments: CliRunner().invoke(main, arguments)


def test_operators_keys_are_issued_listed_and_revoked_on_the_command_line(
    stampede: Callable[..., Result], client: FlaskClient, account: Account
) -> None:
    issued = stampede("key", "issue", "--operator", "--label", "night shift")
    key_id, secret = issued.output.split()
    assert secret.startswith("sk_ops_")
    headers = {"Authorization": f"Bearer {secret}"}
    topped_up = client.post("/v1/top-ups", json=asked(account), headers=headers)
    assert topped_up.json["entry"]["by"] == "night shift"
    (line,) = [x for x in stampede("key", "list").output.splitlines() if x.startswith(key_id)]
    assert "operator" in line
    assert "'night shift'" in line
    assert secret not in line
    assert "revoked" not in line
    assert stampede("key", "revoke", key_id).exit_code == 0
    (line,) = [x for x in stampede("key", "list").output.splitlines() if x.startswith(key_id)]
    assert "revoked" in line


def test_the_keys_of_one_partner_are_listed_alone(
    stampede: Callable[..., Result], account: Account, db: Database
) -> None:
    with db.transaction() as connection:
        name = connection.execute(
            text("select name from partners where id = :id"), {"id": account.partner_id}
        ).scalar_one()
    lines = stampede("key", "list", "--partner", name).output.splitlines()
    assert len(lines) == 2
    assert all(name in line for line in lines)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--operator"],
        ["--operator", "--label", "a", "--mode", "live"],
        ["--operator", "--label", "a", "--partner", "b"],
        ["--mode", "live"],
        ["--partner", "b"],
        [],
    ],
)
def test_a_key_is_for_one_partner_and_mode_or_for_an_operator(
    stampede: Callable[..., Result], arguments: list[str]
) -> None:
    refused = stampede("key", "issue", *arguments)
    assert refused.exit_code == 2
    assert "--partner" in refused.output

"""Callers known from Valkey: right ones and wrong ones, until something takes a secret its worth."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from click.testing import CliRunner
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import event

from common import known_callers, partners
from common.boxes import Boxes
from common.database import Database
from common.known_callers import KnownCallers
from common.problems import Code
from common.settings import WebSettings
from common.wire import Wire
from deploy.cli import main
from deploy.servers import free_port
from tests.stack import Account
from web.parts import Parts

HERE = "/v1/jobs/00000000-0000-7000-8000-000000000000"


@pytest.fixture
def known(web_settings: WebSettings) -> Iterator[KnownCallers]:
    opened = known_callers.connect(web_settings)
    yield opened
    opened.close()


@pytest.fixture
def statements(app: Flask) -> Iterator[list[str]]:
    """What the front end asks its database, from now on."""
    shared: Parts = app.extensions["stampede"]
    asked: list[str] = []

    def note(_c: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        asked.append(statement)

    event.listen(shared.database.engine, "before_cursor_execute", note)
    yield asked
    event.remove(shared.database.engine, "before_cursor_execute", note)


def of_keys(statements: list[str]) -> int:
    return sum("from api_keys" in each for each in statements)


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def test_the_database_is_asked_once_who_has_a_key(
    client: FlaskClient, account: Account, statements: list[str]
) -> None:
    for _ in range(5):
        assert client.get(HERE, headers=account.test).status_code == 404
    assert of_keys(statements) == 1


def test_a_wrong_key_that_is_tried_again_and_again_costs_the_database_one_look(
    client: FlaskClient, account: Account, statements: list[str]
) -> None:
    wrong = bearer(account.test_key[:-6] + "AAAAAA")
    answers = [client.get(HERE, headers=wrong) for _ in range(5)]
    assert {answer.json["code"] for answer in answers} == {"key_invalid"}
    assert all("Bearer" in answer.headers["WWW-Authenticate"] for answer in answers)
    assert of_keys(statements) == 1


def test_what_has_not_the_form_of_a_key_is_asked_of_nobody(
    client: FlaskClient, statements: list[str]
) -> None:
    for secret in ("sk_test_short", "sk_test_" + "a" * 44, "sk_xyz_" + "a" * 43, "'; drop table"):
        assert client.get(HERE, headers=bearer(secret)).json["code"] == "key_invalid"
    assert statements == []


def test_a_key_that_the_command_line_revokes_opens_nothing_from_then_on(
    client: FlaskClient, account: Account
) -> None:
    assert client.get("/v1/quota", headers=account.test).status_code == 200
    done = CliRunner().invoke(main, ["key", "revoke", str(account.test_key_id)])
    assert done.exit_code == 0, done.output
    answer = client.get("/v1/quota", headers=account.test)
    assert (answer.status_code, answer.json["code"]) == (401, "key_revoked")
    assert client.get("/v1/quota", headers=account.live).status_code == 200


def test_a_key_that_was_revoked_behind_our_back_submits_and_cancels_nothing(
    client: FlaskClient, account: Account, web_settings: WebSettings, letter: bytes
) -> None:
    """As when Valkey was away, or the process died between the commit and its word to Valkey."""
    post = {"data": letter, "content_type": "application/pdf", "headers": account.test}
    job: Any = client.post("/v1/jobs", **post).json  # type: ignore[arg-type]
    deaf = Database(web_settings.database_url)
    with deaf.transaction() as connection:
        partners.revoke_key(connection, account.test_key_id)
    deaf.close()
    # What it may still do for half a minute: look.
    assert client.get(f"/v1/jobs/{job['id']}", headers=account.test).status_code == 200
    refused = client.post(f"/v1/jobs/{job['id']}/cancel", headers=account.test)
    assert (refused.status_code, refused.json["code"]) == (401, "key_revoked")
    # Which told the others: now it may not even look.
    assert client.get(f"/v1/jobs/{job['id']}", headers=account.test).status_code == 401
    assert client.post("/v1/jobs", **post).status_code == 401  # type: ignore[arg-type]


def test_who_read_before_a_revocation_remembers_nothing_after_it(
    known: KnownCallers, account: Account
) -> None:
    before = known.recall(account.test_key)
    assert known.forget_all()
    known.remember(before, account.caller())
    assert known.recall(account.test_key).known is None
    known.remember(known.recall(account.test_key), account.caller())
    assert known.recall(account.test_key).known == account.caller()


def test_what_is_remembered_is_gone_after_its_time(
    web_settings: WebSettings, account: Account
) -> None:
    key = web_settings.link_key.get_secret_value().encode()
    short = KnownCallers(Wire(web_settings.broker_url), Boxes(key), key, seconds=0.2)
    short.remember(short.recall(account.test_key), Code.KEY_INVALID)
    assert short.recall(account.test_key).known is Code.KEY_INVALID
    deadline = time.monotonic() + 5
    while short.recall(account.test_key).known is not None:
        assert time.monotonic() < deadline
    short.close()


def test_neither_a_secret_nor_what_stands_for_one_is_in_valkey(
    known: KnownCallers,
    account: Account,
    make_account: Callable[..., Account],
    web_settings: WebSettings,
) -> None:
    known.remember(known.recall(account.live_key), account.caller())
    valkey = redis.Redis.from_url(web_settings.broker_url)
    name, _ = known.names(account.live_key)
    lying: Any = valkey.get(name)
    digest = partners._digest(account.live_key)
    for told in (account.live_key, digest.hex(), str(account.partner_id)):
        assert told not in name and told.encode() not in lying
    # Whoever can write there makes nobody of himself.
    thief = make_account().live_key
    valkey.set(known.names(thief)[0], lying)
    assert known.recall(thief).known is None
    valkey.close()


def test_without_valkey_everybody_is_looked_up(web_settings: WebSettings, account: Account) -> None:
    nowhere = f"redis://127.0.0.1:{free_port()}/0"
    away = known_callers.connect(web_settings.model_copy(update={"broker_url": nowhere}))
    memory = away.recall(account.live_key)
    assert memory.known is None
    away.remember(memory, account.caller())
    assert not away.forget_all()


def test_a_quick_answer_is_the_answer_that_flask_gives(
    client: FlaskClient, app: Flask, account: Account, letter: bytes
) -> None:
    job: Any = client.post(
        "/v1/jobs", data=letter, content_type="application/pdf", headers=account.test
    ).json
    here = f"/v1/jobs/{job['id']}"
    client.get(here, headers=account.test)
    for extra in ({}, {"If-None-Match": client.get(here, headers=account.test).headers["ETag"]}):
        quick = client.get(here, headers={**account.test, **extra})
        # With a query that means nothing it takes the long way.
        slow = client.get(f"{here}?", query_string={"a": "b"}, headers={**account.test, **extra})
        assert (quick.status_code, quick.json if not extra else quick.data) == (
            slow.status_code,
            slow.json if not extra else slow.data,
        )
        told = ("Cache-Control", "ETag", "Content-Type", "X-Content-Type-Options")
        for name in told if not extra else told[:2]:
            assert quick.headers.get(name) == slow.headers.get(name), name

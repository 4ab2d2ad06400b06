"""How much a partner may submit: so many documents a minute, so many at once, or its own numbers."""

import io
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from click.testing import CliRunner
from flask.testing import FlaskClient
from sqlalchemy import text

from common import allowances, lanes
from common.allowances import KEPT_SECONDS, Allowance, Allowances, Own
from common.database import Database
from common.identifiers import new_id
from common.partners import Mode
from common.settings import WebSettings
from common.vouchers import code, issuing
from common.vouchers.issuing import NewBatch
from deploy.cli import main
from deploy.servers import free_port
from tests.service.test_intake_api import assert_problem
from tests.stack import Account
from web.app import create_app

PDF = {"Content-Type": "application/pdf"}


@pytest.fixture
def strict(web_settings: WebSettings) -> FlaskClient:
    """An app that takes three documents a minute of each partner."""
    limits = {"partner_submissions_per_minute": 3}
    return create_app(web_settings.model_copy(update=limits)).test_client()


def batch(letters: int, letter: bytes) -> dict[str, Any]:
    """The form of a batch of so many letters."""
    jobs = [{"document": f"d{number}"} for number in range(letters)]
    files = {f"d{number}": (io.BytesIO(letter), f"{number}.pdf") for number in range(letters)}
    return {"jobs": orjson.dumps(jobs).decode(), **files}


def test_so_many_documents_a_minute_and_every_answer_says_how_many_are_left(
    strict: FlaskClient, make_account: Callable[..., Account], letter: bytes
) -> None:
    one, other = make_account(), make_account()
    for left in (2, 1, 0):
        taken = strict.post("/v1/jobs", data=letter, headers=one.test | PDF)
        assert taken.status_code == 202
        assert taken.headers["RateLimit-Policy"] == '"submissions";q=3;w=60'
        assert taken.headers["RateLimit"].startswith(f'"submissions";r={left};t=')
    # Both modes of a partner count together.
    refused = strict.post("/v1/jobs", data=letter, headers=one.live | PDF)
    assert_problem(refused, 429, "rate_limited")
    assert 18 <= int(refused.headers["Retry-After"]) <= 33
    assert refused.headers["RateLimit"].startswith('"submissions";r=0;t=')
    assert refused.headers["Connection"] == "close"
    assert refused.json["per_minute"] == 3
    assert strict.post("/v1/jobs", data=letter, headers=other.test | PDF).status_code == 202


def test_it_is_refused_before_the_document_is_read(strict: FlaskClient, account: Account) -> None:
    for _ in range(3):
        assert strict.post("/v1/jobs", data=b"", headers=account.test | PDF).status_code == 422
    big = strict.post("/v1/jobs", data=b"x" * 2_000_000, headers=account.test | PDF)
    assert_problem(big, 429, "rate_limited")


def test_a_batch_counts_its_documents(
    strict: FlaskClient, make_account: Callable[..., Account], letter: bytes
) -> None:
    one, other = make_account(), make_account()
    taken = strict.post("/v1/batches", data=batch(2, letter), headers=one.test)
    assert taken.status_code == 202
    assert taken.headers["RateLimit"].startswith('"submissions";r=1;t=')
    refused = strict.post("/v1/batches", data=batch(2, letter), headers=one.test)
    assert_problem(refused, 429, "rate_limited")
    # One that is larger than the limit takes a whole minute's worth, and is not refused for ever.
    large = strict.post("/v1/batches", data=batch(5, letter), headers=other.test)
    assert large.status_code == 202
    assert large.headers["RateLimit"].startswith('"submissions";r=0;t=')


def test_a_partner_may_have_a_number_of_its_own_in_all_processes_soon(
    db: Database, web_settings: WebSettings, account: Account
) -> None:
    now = [0.0]
    everybody = Allowance(100, 10, 1200)
    mine = Allowances(db, everybody, lambda: now[0])
    assert mine.of(account.partner_id) == everybody
    with db.transaction() as connection:
        allowances.set_own(connection, account.partner_id, Own(per_minute=7))
    assert mine.of(account.partner_id) == everybody
    now[0] += KEPT_SECONDS
    assert mine.of(account.partner_id) == Allowance(7, 10, 1200)
    assert mine.of(new_id()) == everybody


def test_while_the_database_is_away_what_was_read_before_counts(
    db: Database, web_settings: WebSettings, account: Account
) -> None:
    nowhere = f"postgresql://nobody@127.0.0.1:{free_port()}/nothing"
    away = Allowances(Database(nowhere, pool_size=1), Allowance(100, 10, 1200), lambda: 0.0)
    assert away.of(account.partner_id) == Allowance(100, 10, 1200)


def test_while_valkey_is_away_everything_is_allowed(
    web_settings: WebSettings, account: Account, letter: bytes
) -> None:
    nowhere = {
        "broker_url": f"redis://127.0.0.1:{free_port()}/0",
        "partner_submissions_per_minute": 1,
    }
    client = create_app(web_settings.model_copy(update=nowhere)).test_client()
    for _ in range(3):
        answer = client.post("/v1/jobs", data=letter, headers=account.test | PDF)
        assert answer.status_code == 202


def test_one_more_at_once_than_a_partner_may_have_is_refused(
    db: Database, web_settings: WebSettings, account: Account, letter: bytes
) -> None:
    with db.transaction() as connection:
        allowances.set_own(connection, account.partner_id, Own(at_once=2))
    app = create_app(web_settings)
    under_way = app.wsgi_app.under_way  # type: ignore[attr-defined]
    for sender in ("a", "b"):
        visit = under_way.enter(sender, submission=True)
        assert under_way.belongs_to(visit, account.partner_id, 2)
    refused = app.test_client().post("/v1/jobs", data=letter, headers=account.test | PDF)
    assert_problem(refused, 429, "rate_limited")
    assert refused.json["at_once"] == 2
    under_way.leave(visit, accepted=True)
    taken = app.test_client().post("/v1/jobs", data=letter, headers=account.test | PDF)
    assert taken.status_code == 202


def test_what_a_partner_submits_beyond_its_pace_goes_to_the_lane_for_bulk(
    web_settings: WebSettings, make_account: Callable[..., Account], db: Database, letter: bytes
) -> None:
    one, other = make_account(), make_account()
    slow = web_settings.model_copy(update={"partner_prompt_per_minute": 1})
    client = create_app(slow).test_client()

    def lane(account: Account) -> str:
        job = client.post("/v1/jobs", data=letter, headers=account.test | PDF).json
        with db.transaction() as connection:
            found = text("select lane from jobs where id = :id")
            return str(connection.execute(found, {"id": (job or {})["id"]}).scalar_one())

    own = lanes.partner_lanes(one.partner_id)
    chosen = [lane(one) for _ in range(3)]
    assert chosen[0] in own
    assert chosen[1:] == [lanes.BULK_LANE] * 2
    assert lane(other) in lanes.partner_lanes(other.partner_id)


@pytest.mark.parametrize(
    ("per_minute", "count", "seconds"), [(1200, 20, 1), (12, 1, 5), (1, 1, 60), (7, 1, 8)]
)
def test_the_pace_of_a_partner_is_kept_whatever_its_number(
    per_minute: int, count: int, seconds: int
) -> None:
    limit = Allowance(1, 1, per_minute).prompt
    assert (limit.count, limit.seconds) == (count, seconds)


def test_an_applicant_is_limited_by_the_voucher_alone(
    strict: FlaskClient, db: Database, account: Account
) -> None:
    voucher = code.generate()
    batch = NewBatch(
        reference=f"batch {new_id()}",
        partner_id=account.partner_id,
        mode=Mode.LIVE,
        stamps=2,
        expires_at=None,
        by="tests",
    )
    with db.transaction() as connection:
        issuing.issue(connection, batch, [voucher])
    for _ in range(5):
        answer = strict.post(
            "/v1/jobs", data=b"", headers={"Authorization": f"Bearer {voucher}"} | PDF
        )
        assert_problem(answer, 422, "document_empty")
        assert "RateLimit" not in answer.headers


def test_the_command_shows_and_changes_the_limits_of_a_partner(
    db: Database, environment: dict[str, str]
) -> None:
    name = f"limits {new_id()}"

    def run(*arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(main, ["partner", *arguments])
        return done.exit_code, done.output

    assert run("create", name)[0] == 0
    assert run("limits", name) == (
        0,
        "documents a minute  default\nat once             default\nprompt a minute     default\n",
    )
    assert run("limits", name, "--per-minute", "600", "--at-once", "4")[0] == 0
    assert run("limits", name, "--at-once", "default") == (
        0,
        "documents a minute  600\nat once             default\nprompt a minute     default\n",
    )
    assert run("limits", name)[1].startswith("documents a minute  600")
    for wrong in ("0", "-1", "many", "99999999999"):
        exit_code, said = run("limits", name, "--per-minute", wrong)
        assert exit_code == 2
        assert "neither 'default' nor a number" in said
    exit_code, said = run("limits", "nobody of this name")
    assert exit_code == 1
    assert "there is no partner" in said


def test_the_defaults_are_the_settings(web_settings: WebSettings) -> None:
    assert allowances.default(web_settings) == Allowance(60_000, 16, 1200)

"""Spending a voucher: by its code, over several jobs, and by nobody else."""

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from flask.testing import FlaskClient
from sqlalchemy import text

from common import audit, jobs
from common.database import Database
from common.identifiers import new_id
from common.lanes import APPLICANT_LANE
from common.pace import Pace
from common.partners import Mode
from common.problems import Code
from common.settings import WebSettings
from common.vouchers import code, issuing, records
from common.vouchers.code import VoucherCode
from common.vouchers.issuing import NewBatch
from deploy import firststart
from tests.service.test_intake_api import assert_problem
from tests.service.test_limits import address
from tests.service.test_stamping import ended, submit
from tests.stack import Account
from web.app import create_app

PDF = {"Content-Type": "application/pdf"}


@dataclass(frozen=True)
class Voucher:
    """A voucher of its own for one test."""

    code: VoucherCode
    reference: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.code}"}


Make = Callable[..., Voucher]


@pytest.fixture(scope="module", autouse=True)
def _leave_the_lane_empty(db: Database, lane_pace: Pace) -> Iterator[None]:
    """Other tests count what waits in the applicants' lane."""
    yield
    with db.transaction() as connection:
        waiting = connection.execute(
            text("select id, account_id from jobs where lane = :lane and state = 'queued'"),
            {"lane": APPLICANT_LANE},
        ).all()
        for job in waiting:
            jobs.cancel(connection, account_id=job.account_id, job_id=job.id)
    lane_pace.recount(APPLICANT_LANE, queued=0, highest_ticket=0)


@pytest.fixture
def make_voucher(db: Database, account: Account) -> Make:
    def make(
        *, stamps: int = 2, mode: Mode = Mode.LIVE, expires_at: datetime | None = None
    ) -> Voucher:
        voucher = Voucher(code.generate(), f"batch {new_id()}")
        batch = NewBatch(
            reference=voucher.reference,
            partner_id=account.partner_id,
            mode=mode,
            stamps=stamps,
            expires_at=expires_at,
            by="tests",
        )
        with db.transaction() as connection:
            issuing.issue(connection, batch, [voucher.code])
        return voucher

    return make


@pytest.fixture
def voucher(make_voucher: Make) -> Voucher:
    return make_voucher()


@pytest.fixture
def send(client: FlaskClient, letter: bytes) -> Callable[..., Any]:
    def send(headers: Mapping[str, str], query: str = "", **more: str) -> Any:
        return client.post(f"/v1/jobs?{query}", data=letter, headers={**headers, **PDF, **more})

    return send


Send = Callable[..., Any]


def left(client: FlaskClient, voucher: Voucher) -> tuple[int, int, int]:
    quota = client.get("/v1/quota", headers=voucher.headers).json or {}
    return quota["available"], quota["held"], quota["captured"]


def void(db: Database, voucher: Voucher) -> int:
    with db.transaction() as connection:
        return records.void(connection, voucher.code, reason="stolen", by="tests")


def wait_for_lock(db: Database, thread: threading.Thread, query: str) -> None:
    """Return once the thread's query waits for a lock."""
    waiting = text(
        "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and query like :query"
    )
    while True:
        # In a transaction of its own: the view stays as it was first seen in one.
        with db.transaction() as watching:
            if watching.execute(waiting, {"query": query}).scalar_one():
                return
        thread.join(0.02)
        assert thread.is_alive()


def assert_books_add_up(db: Database, voucher: Voucher) -> None:
    with db.transaction() as connection:
        account = str(records.show(connection, voucher.code).account)
    with db.transaction() as connection:
        found = audit.audit(connection, ids_shown=10_000)
    assert not [v for v in found.violations if account in v.ids or voucher.reference in v.ids]


def test_a_voucher_is_spent_over_several_jobs_and_says_what_is_left(
    client: FlaskClient, voucher: Voucher, send: Send, db: Database
) -> None:
    quota = client.get("/v1/quota", headers=voucher.headers).json or {}
    expected = {
        "mode": "live",
        "unlimited": False,
        "topped_up": 2,
        "available": 2,
        "held": 0,
        "captured": 0,
        "voucher": {"state": "valid", "expires_at": None},
    }
    assert expected.items() <= quota.items()
    first = send(voucher.headers)
    assert first.status_code == 202
    assert first.headers["Stamps-Left"] == "1"
    assert send(voucher.headers).headers["Stamps-Left"] == "0"
    refused = assert_problem(send(voucher.headers), 402, "quota_too_small")
    assert (refused["available"], refused["needed"]) == (0, 1)
    assert left(client, voucher) == (0, 2, 0)
    assert_books_add_up(db, voucher)


def test_several_stamps_in_a_job_take_as_many_or_none(
    client: FlaskClient, voucher: Voucher, send: Send
) -> None:
    three = 'stamps=[{"page":1},{"page":1,"position":"top-left"},{"page":1,"position":"top"}]'
    refused = assert_problem(send(voucher.headers, three), 402, "quota_too_small")
    assert (refused["available"], refused["needed"]) == (2, 3)
    assert left(client, voucher) == (2, 0, 0)


def test_however_a_code_was_typed_it_is_the_same_voucher(
    client: FlaskClient, voucher: Voucher
) -> None:
    typed = str(voucher.code).lower().replace("0", "o").replace("1", "l").replace("-", " ")
    answer = client.get("/v1/quota", headers={"Authorization": f"bearer  {typed} "})
    assert answer.json["available"] == 2


def test_a_cancelled_job_gives_its_stamps_back(
    client: FlaskClient, voucher: Voucher, send: Send, db: Database
) -> None:
    job = send(voucher.headers).json
    cancelled = client.post(f"/v1/jobs/{job['id']}/cancel", headers=voucher.headers)
    assert cancelled.json["state"] == "cancelled"
    assert left(client, voucher) == (2, 0, 0)
    assert_books_add_up(db, voucher)


def test_a_failed_job_gives_its_stamps_back(
    client: FlaskClient, voucher: Voucher, send: Send, db: Database
) -> None:
    job = send(voucher.headers).json
    with db.transaction() as connection:
        claim = jobs.claim(connection, job["id"], lease_seconds=60)
        assert claim is not None
        jobs.fail(connection, claim, Code.DOCUMENT_NO_PAGES, {})
    assert client.get(job["links"]["self"], headers=voucher.headers).json["state"] == "failed"
    assert left(client, voucher) == (2, 0, 0)
    assert_books_add_up(db, voucher)


def test_its_jobs_are_its_own_and_nobody_elses_not_even_of_who_sold_it(
    client: FlaskClient, account: Account, voucher: Voucher, make_voucher: Make, send: Send
) -> None:
    job = send(voucher.headers, "external_reference=mine").json
    here = f"/v1/jobs/{job['id']}"
    assert client.get(here, headers=voucher.headers).json["id"] == job["id"]
    assert client.get(f"{here}/receipt", headers=voucher.headers).status_code == 200
    not_yet = client.get(f"{here}/document", headers=voucher.headers)
    assert_problem(not_yet, 409, "document_not_ready")
    [listed] = client.get("/v1/jobs", headers=voucher.headers).json["data"]
    assert listed["id"] == job["id"]
    entries = client.get("/v1/quota/ledger", headers=voucher.headers).json["data"]
    assert [(e["kind"], e["amount"], e["job_id"]) for e in entries] == [
        ("hold", 1, job["id"]),
        ("top_up", 2, None),
    ]
    for other in (account.live, account.test, make_voucher().headers):
        assert_problem(client.get(here, headers=other), 404, "not_found")
        assert_problem(client.post(f"{here}/cancel", headers=other), 404, "not_found")
        assert client.get("/v1/jobs", headers=other).json["data"] == []


def test_the_partner_who_sold_it_is_not_told_by_webhook(
    account: Account, client: FlaskClient, voucher: Voucher, send: Send, db: Database
) -> None:
    hook = {"url": "https://93.184.216.34/hook"}
    assert client.post("/v1/webhook-endpoints", json=hook, headers=account.live).status_code == 201
    for headers, told in ((voucher.headers, 0), (account.live, 1)):
        job = send(headers).json
        client.post(f"/v1/jobs/{job['id']}/cancel", headers=headers)
        with db.transaction() as connection:
            deliveries = connection.execute(
                text(
                    "select count(*) from deliveries d join events e on e.id = d.event_id"
                    " where e.job_id = :id"
                ),
                {"id": job["id"]},
            ).scalar_one()
        assert deliveries == told


def test_the_same_idempotency_key_of_two_vouchers_is_two_keys(
    make_voucher: Make, send: Send
) -> None:
    one, other = make_voucher(), make_voucher()
    key = {"Idempotency-Key": "letter-1"}
    first = send(one.headers, **key)
    again = send(one.headers, **key)
    assert again.data == first.data
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.headers["Stamps-Left"] == "1"
    assert send(other.headers, **key).json["id"] != first.json["id"]


def test_its_jobs_go_to_the_applicants_lane(
    voucher: Voucher, account: Account, send: Send, db: Database
) -> None:
    lanes = {}
    for name, headers in (("voucher", voucher.headers), ("key", account.live)):
        with db.transaction() as connection:
            lanes[name] = connection.execute(
                text("select lane from jobs where id = :id"), {"id": send(headers).json["id"]}
            ).scalar_one()
    assert lanes["voucher"] == APPLICANT_LANE
    assert lanes["key"] != APPLICANT_LANE


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/webhook-endpoints"),
        ("POST", "/v1/webhook-endpoints"),
        ("POST", "/v1/verifications"),
    ],
)
def test_what_is_for_partners_is_forbidden_to_a_voucher_and_to_a_mistyped_one(
    client: FlaskClient, voucher: Voucher, method: str, path: str
) -> None:
    for typed in (str(voucher.code), str(voucher.code)[:-1] + "*"):
        answer = client.open(path, method=method, headers={"Authorization": f"Bearer {typed}"})
        if typed.endswith("*"):
            # Of no code's form: it is taken for a key.
            assert_problem(answer, 401, "key_invalid")
        else:
            assert_problem(answer, 403, "forbidden")


def test_a_voucher_of_test_mode_stamps_specimens_and_is_spent_all_the_same(
    client: FlaskClient, make_voucher: Make, send: Send
) -> None:
    voucher = make_voucher(mode=Mode.TEST, stamps=1)
    assert send(voucher.headers).json["mode"] == "test"
    assert_problem(send(voucher.headers), 402, "quota_too_small")
    assert client.get("/v1/quota", headers=voucher.headers).json["unlimited"] is False


def test_an_expired_voucher_opens_what_was_submitted_and_submits_nothing_more(
    client: FlaskClient, make_voucher: Make, send: Send, db: Database
) -> None:
    voucher = make_voucher(expires_at=datetime.now(UTC) + timedelta(hours=1))
    job = send(voucher.headers, **{"Idempotency-Key": "a"}).json
    with db.transaction() as connection:
        connection.execute(
            text("update vouchers set expires_at = now() where digest = :digest"),
            {"digest": voucher.code.digest},
        )
    refused = assert_problem(send(voucher.headers), 403, "voucher_expired")
    assert datetime.fromisoformat(refused["expired_at"]) <= datetime.now(UTC)
    # The answer to an earlier request is still its answer.
    assert send(voucher.headers, **{"Idempotency-Key": "a"}).json["id"] == job["id"]
    assert client.get("/v1/quota", headers=voucher.headers).json["voucher"]["state"] == "expired"
    here = f"/v1/jobs/{job['id']}"
    assert client.get(here, headers=voucher.headers).status_code == 200
    assert client.post(f"{here}/cancel", headers=voucher.headers).status_code == 200
    assert left(client, voucher) == (2, 0, 0)
    assert_books_add_up(db, voucher)


def test_a_void_voucher_loses_what_is_unspent_and_what_is_held_finishes(
    client: FlaskClient, make_voucher: Make, send: Send, db: Database
) -> None:
    voucher = make_voucher(stamps=5)
    job = send(voucher.headers).json
    assert void(db, voucher) == 4
    assert left(client, voucher) == (0, 1, 0)
    assert_problem(send(voucher.headers), 403, "voucher_void")
    with db.transaction() as connection:
        claim = jobs.claim(connection, job["id"], lease_seconds=60)
        assert claim is not None
        result = jobs.Result(key="x", length=1, sha256=b"r" * 32)
        assert jobs.finish(connection, claim, result)
    assert left(client, voucher) == (0, 0, 1)
    seen = client.get(job["links"]["self"], headers=voucher.headers).json
    assert seen["state"] == "stamped"
    with db.transaction() as connection:
        entry = connection.execute(
            text(
                "select amount, source, target, reason, by from ledger_entries"
                " where kind = 'adjust' and account_id ="
                " (select account_id from vouchers where digest = :digest)"
            ),
            {"digest": voucher.code.digest},
        ).one()
    assert entry == (4, "available", "outside", "stolen", "tests")
    assert_books_add_up(db, voucher)


def test_what_comes_back_to_a_void_voucher_is_not_spent_and_is_taken_out_by_voiding_again(
    client: FlaskClient, voucher: Voucher, send: Send, db: Database
) -> None:
    job = send(voucher.headers).json
    assert void(db, voucher) == 1
    client.post(f"/v1/jobs/{job['id']}/cancel", headers=voucher.headers)
    assert left(client, voucher) == (1, 0, 0)
    assert_problem(send(voucher.headers), 403, "voucher_void")
    assert [void(db, voucher) for _ in range(2)] == [1, 0]
    assert left(client, voucher) == (0, 0, 0)
    assert_books_add_up(db, voucher)


def test_a_voucher_that_is_made_void_while_a_document_arrives_is_not_spent(
    client: FlaskClient, voucher: Voucher, send: Send, db: Database
) -> None:
    """The void waits for its commit; the submission, which came past the first look, sees it."""
    answers = []
    with db.transaction() as connection:
        records.void(connection, voucher.code, reason="stolen", by="tests")
        submitting = threading.Thread(target=lambda: answers.append(send(voucher.headers)))
        submitting.start()
        wait_for_lock(db, submitting, "%accept_jobs(%")
    submitting.join()
    assert_problem(answers[0], 403, "voucher_void")
    assert left(client, voucher) == (0, 0, 0)
    assert_books_add_up(db, voucher)


def test_stamps_that_come_back_while_a_voucher_is_made_void_are_taken_out_too(
    client: FlaskClient, voucher: Voucher, send: Send, db: Database
) -> None:
    job = send(voucher.headers).json
    taken = []
    with db.transaction() as connection:
        account = records.show(connection, voucher.code).account
        assert jobs.cancel(connection, account_id=account, job_id=job["id"]) is not None
        voiding = threading.Thread(target=lambda: taken.append(void(db, voucher)))
        voiding.start()
        wait_for_lock(db, voiding, "select count(%for no key update) locked")
    voiding.join()
    assert taken == [2]
    assert left(client, voucher) == (0, 0, 0)
    assert_books_add_up(db, voucher)


def test_many_at_once_spend_no_more_than_there_is(
    client: FlaskClient, make_voucher: Make, send: Send, db: Database
) -> None:
    voucher = make_voucher(stamps=3)
    statuses: list[int] = []
    crowd = [
        threading.Thread(target=lambda: statuses.append(send(voucher.headers).status_code))
        for _ in range(8)
    ]
    for one in crowd:
        one.start()
    for one in crowd:
        one.join()
    assert sorted(statuses) == [202] * 3 + [402] * 5
    assert left(client, voucher) == (0, 3, 0)
    assert_books_add_up(db, voucher)


def ask(client: FlaskClient, typed: str, here: dict[str, str]) -> Any:
    return client.get("/v1/quota", headers={"Authorization": f"Bearer {typed}"}, environ_base=here)


def mistyped(voucher: Voucher) -> str:
    last = voucher.code.characters[-1]
    return voucher.code.characters[:-1] + ("A" if last != "A" else "B")


def test_a_mistyped_and_an_unknown_code_get_the_same_answer_and_count_the_same(
    client: FlaskClient, voucher: Voucher
) -> None:
    here = address()
    answers = [
        ask(client, typed, here)
        for typed in (mistyped(voucher), str(code.generate()), "0" * 12, "U" * 16)
    ]
    for number, answer in enumerate(answers):
        assert_problem(answer, 401, "voucher_invalid")
        assert answer.data == answers[0].data
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="stampede"'
        assert answer.headers["RateLimit-Policy"] == '"wrong-codes";q=10;w=3600'
        assert answer.headers["RateLimit"].startswith(f'"wrong-codes";r={9 - number};t=')


def test_ten_wrong_codes_and_the_address_waits_also_with_a_right_one(
    client: FlaskClient, voucher: Voucher, db: Database
) -> None:
    here = address()
    for _ in range(10):
        assert ask(client, str(code.generate()), here).status_code == 401
    for typed in (str(code.generate()), str(voucher.code)):
        refused = ask(client, typed, here)
        assert_problem(refused, 429, "too_many_attempts")
        assert 350 <= int(refused.headers["Retry-After"]) <= 360
    # A neighbour in the same /64 is the same line; anybody else is served.
    line = here["REMOTE_ADDR"].removesuffix("1")
    assert ask(client, str(voucher.code), {"REMOTE_ADDR": line + "2"}).status_code == 429
    assert ask(client, str(voucher.code), address()).status_code == 200


def test_whoever_is_refused_for_guessing_costs_the_database_nothing(
    client: FlaskClient, voucher: Voucher, db: Database
) -> None:
    here = address()
    for _ in range(10):
        ask(client, str(code.generate()), here)
    with db.transaction() as connection:
        # Whoever asked for a voucher now would wait for this lock.
        connection.execute(text("lock table vouchers in access exclusive mode"))
        assert ask(client, str(voucher.code), here).status_code == 429


def test_a_right_code_is_never_counted_and_never_slowed_by_others(
    web_settings: WebSettings, voucher: Voucher
) -> None:
    """While everybody together sends too many, an address waits after its first wrong one."""
    crowded = create_app(
        web_settings.model_copy(update={"wrong_codes_of_all": 1, "wrong_codes_per_hour": 4})
    ).test_client()
    here, there = address(), address()
    for _ in range(30):
        assert ask(crowded, str(voucher.code), here).status_code == 200
    assert ask(crowded, str(code.generate()), there).status_code == 401
    refused = ask(crowded, str(code.generate()), there)
    assert_problem(refused, 429, "too_many_attempts")
    assert refused.headers["RateLimit-Policy"] == '"wrong-codes-of-all";q=1;w=3600'
    assert int(refused.headers["Retry-After"]) >= 1
    assert ask(crowded, str(voucher.code), here).status_code == 200
    # Also from an address that nobody saw before; its first wrong one is answered as such.
    fresh = address()
    assert ask(crowded, str(voucher.code), fresh).status_code == 200
    assert ask(crowded, str(code.generate()), fresh).status_code == 401


def test_a_data_folder_gets_a_voucher_once_also_one_from_before_there_were_any(
    tmp_path: Path, client: FlaskClient, db: Database
) -> None:
    first = firststart.make_demo(tmp_path, db)
    assert firststart.make_demo(tmp_path, db) == first
    asked = ask(client, first.voucher, address()).json
    assert (asked["mode"], asked["available"]) == ("test", firststart.DEMO_VOUCHER_STAMPS)
    file = tmp_path / firststart.DEMO_FILE_NAME
    variables = firststart.read_variables(file)
    firststart.write_variables(file, {k: v for k, v in variables.items() if k != "VOUCHER"})
    assert firststart.read_demo(tmp_path) is None
    later = firststart.make_demo(tmp_path, db)
    assert (later.test_key, later.live_key) == (first.test_key, first.live_key)
    assert later.voucher != first.voucher
    assert firststart.read_demo(tmp_path) == later


def test_a_letter_comes_back_stamped_for_a_voucher(
    server: str, workers: Path, voucher: Voucher, letter: bytes, client: FlaskClient, db: Database
) -> None:
    job = submit(server, voucher.headers, letter)
    done = ended(job, voucher.headers)
    assert done["state"] == "stamped"
    stamped = httpx.get(done["links"]["document"], headers=voucher.headers).content
    assert stamped.startswith(letter)
    assert left(client, voucher) == (1, 0, 1)
    assert_books_add_up(db, voucher)

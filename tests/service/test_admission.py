"""The gate at a submission: who is let in, what the others are told, and that nothing of it is lost."""

import io
import socket
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from common import lanes
from common.admission import Kind, Setting, State
from deploy.servers import free_port
from tests.service.gate_stage import HORIZON, Stage, stage
from tests.service.test_intake_api import assert_problem
from tests.stack import eventually, serving

__all__ = ["stage"]

CLOSED = Setting(State.CLOSED, reason="The store is full.")


def full_for_partner(stage: Stage, seconds: float = 100.0) -> None:
    for lane in lanes.partner_lanes(stage.account.partner_id):
        stage.lane(seconds, lane=lane)


def batch(stage: Stage) -> dict[str, Any]:
    return {"jobs": '[{"document": "a"}]', "a": (io.BytesIO(stage.letter), "a.pdf")}


def jobs_of(stage: Stage) -> int:
    rows = stage.sql(f"select id from jobs where partner_id = '{stage.account.partner_id}'")
    return len(rows)


def test_past_the_horizon_a_partner_is_told_truthfully_when_to_come_back(stage: Stage) -> None:
    full_for_partner(stage, 100.0)
    told = set()
    client = stage.front_end()
    for _ in range(12):
        refused = stage.submit(client, stage.account.live)
        body = assert_problem(refused, 429, "intake_full")
        assert (body["gate"], body["why"]) == ("partner", "full")
        assert refused.headers["Connection"] == "close"
        told.add(int(refused.headers["Retry-After"]))
    # 100 s are down to nine tenths of 60 s after 46 s; then up to a quarter more, and a second.
    assert min(told) >= 46
    assert max(told) <= 59
    assert len(told) > 1, "not the same for all"
    assert jobs_of(stage) == 0


def test_one_short_lane_of_two_is_enough_for_a_partner(stage: Stage) -> None:
    long, short = lanes.partner_lanes(stage.account.partner_id)
    stage.lane(1000.0, lane=long)
    stage.lane(10.0, lane=short)
    accepted = stage.submit(stage.front_end(), stage.account.live)
    assert accepted.status_code == 202
    [job] = stage.sql(f"select lane from jobs where partner_id = '{stage.account.partner_id}'")
    assert job.lane == short


def test_a_batch_goes_by_the_lane_for_bulk(stage: Stage) -> None:
    full_for_partner(stage)
    accepted = stage.front_end().post("/v1/batches", data=batch(stage), headers=stage.account.live)
    assert accepted.status_code == 202
    stage.lane(100.0, lane=lanes.BULK_LANE)
    refused = stage.front_end().post("/v1/batches", data=batch(stage), headers=stage.account.live)
    assert assert_problem(refused, 429, "intake_full")["gate"] == "bulk"
    single = stage.submit(stage.front_end(), stage.account.live)
    assert_problem(single, 429, "intake_full")


@pytest.mark.parametrize("language", ["en", "id"])
def test_a_closed_gate_says_why_and_until_when_in_both_languages(
    stage: Stage, language: str
) -> None:
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    stage.set(Kind.PARTNER, Setting(State.CLOSED, reason="Pemeliharaan", reopens_at=until))
    refused = stage.submit(stage.front_end(), stage.account.live, **{"Accept-Language": language})
    body = assert_problem(refused, 503, "intake_closed")
    assert body["reason"] == "Pemeliharaan"
    assert datetime.fromisoformat(body["reopens_at"]) == until
    assert ("ditutup" in body["title"]) == (language == "id")
    assert 3500 <= int(refused.headers["Retry-After"]) <= 3600 + 302
    assert refused.headers["Connection"] == "close"
    # The other gates are not closed.
    assert stage.submit(stage.front_end(), stage.voucher()).status_code == 202


def test_a_gate_closed_without_a_time_names_none(stage: Stage) -> None:
    stage.set(Kind.BULK, CLOSED)
    refused = stage.front_end().post("/v1/batches", data=batch(stage), headers=stage.account.live)
    body = assert_problem(refused, 503, "intake_closed")
    assert (body["reason"], body["reopens_at"]) == ("The store is full.", None)
    assert 60 <= int(refused.headers["Retry-After"]) <= 122


def test_a_time_that_has_passed_opens_the_gate_without_anybodys_help(stage: Stage) -> None:
    past = datetime.now(UTC) - timedelta(seconds=1)
    stage.set(Kind.PARTNER, Setting(State.CLOSED, reopens_at=past))
    assert stage.submit(stage.front_end(), stage.account.live).status_code == 202


def test_a_slow_gate_lets_so_many_through_all_front_ends_together(stage: Stage) -> None:
    # One in twenty seconds.
    stage.set(Kind.PARTNER, Setting(State.SLOW, rate=0.05))
    one, other = stage.front_end(), stage.front_end()
    first, second = (stage.submit(client, stage.account.live) for client in (one, other))
    assert first.status_code == 202
    body = assert_problem(second, 429, "intake_full")
    assert body["why"] == "slow"
    assert 18 <= int(second.headers["Retry-After"]) <= 20 * 1.25 + 2
    assert stage.submit(one, stage.account.live).status_code == 429
    # Batches have a gate of their own.
    accepted = one.post("/v1/batches", data=batch(stage), headers=stage.account.live)
    assert accepted.status_code == 202


@pytest.mark.parametrize("setting", [CLOSED, Setting(State.OPEN)])
def test_what_was_accepted_gets_its_answer_also_while_nothing_else_is_taken(
    stage: Stage, setting: Setting
) -> None:
    key = {"Idempotency-Key": "letter-7"}
    voucher = stage.voucher(stamps=1)
    first = stage.submit(stage.front_end(), stage.account.live, **key)
    theirs = stage.submit(stage.front_end(), voucher, **key)
    full_for_partner(stage)
    stage.lane(100.0)
    for kind in Kind:
        stage.set(kind, setting)
    client = stage.front_end()
    again = stage.submit(client, stage.account.live, **key)
    assert (again.status_code, again.json) == (202, first.json)
    assert again.headers["Idempotent-Replayed"] == "true"
    # Its only stamp is spent: no place is needed, or made, to hear that it was accepted.
    again = stage.submit(client, voucher, **key)
    assert (again.status_code, again.json) == (202, theirs.json)
    other = stage.submit(client, stage.account.live, **{"Idempotency-Key": "letter-8"})
    assert other.status_code in {429, 503}
    changed = client.post(
        "/v1/jobs?page=2",
        data=stage.letter,
        headers=stage.account.live | key | {"Content-Type": "application/pdf"},
    )
    assert_problem(changed, 422, "idempotency_key_reused")
    wrong = stage.submit(client, stage.account.live, **{"Idempotency-Key": '"open'})
    assert_problem(wrong, 400, "idempotency_key_invalid")
    assert stage.sql("select * from waiting_places") == []


def test_who_is_asking_comes_before_the_gate(stage: Stage) -> None:
    stage.set(Kind.PARTNER, CLOSED)
    client = stage.front_end()
    assert_problem(client.post("/v1/jobs", data=stage.letter), 401, "key_missing")
    nobody = {"Authorization": "Bearer sk_live_nobody"}
    assert_problem(stage.submit(client, nobody), 401, "key_invalid")


def test_where_nothing_is_known_of_the_lanes_the_gate_is_open(stage: Stage) -> None:
    away = stage.settings.model_copy(update={"broker_url": f"redis://127.0.0.1:{free_port()}/0"})
    client = Stage(away, stage.database, stage.account, stage.letter).front_end()
    assert stage.submit(client, stage.account.live).status_code == 202
    assert stage.submit(client, stage.voucher()).status_code == 202


def test_a_refusal_comes_before_the_body_is_sent_and_ends_the_connection(
    stage: Stage, environment: dict[str, str], tmp_path: Path
) -> None:
    stage.set(Kind.PARTNER, CLOSED)
    port = free_port()
    with (
        serving(environment, port, tmp_path / "web.log"),
        socket.create_connection(("127.0.0.1", port), timeout=10) as wire,
    ):
        wire.sendall(
            b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Type: application/pdf\r\n"
            b"Authorization: " + stage.account.live["Authorization"].encode() + b"\r\n"
            b"Content-Length: 1000000\r\n\r\n%PDF-"
        )
        answer = b""
        while piece := wire.recv(65536):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"intake_closed" in answer


def test_a_change_is_felt_by_every_front_end_within_two_seconds(
    stage: Stage, environment: dict[str, str], tmp_path: Path
) -> None:
    def status(address: str) -> int:
        return httpx.post(
            f"{address}/v1/jobs",
            content=stage.letter,
            headers=stage.account.live | {"Content-Type": "application/pdf"},
        ).status_code

    with (
        serving(environment, free_port(), tmp_path / "one.log") as (one, _),
        serving(environment, free_port(), tmp_path / "two.log") as (two, _),
    ):
        assert (status(one), status(two)) == (202, 202)
        for setting, expected in ((CLOSED, 503), (Setting(State.OPEN), 202)):
            stage.set(Kind.PARTNER, setting)
            for address in (one, two):
                eventually(partial(lambda a, e: status(a) == e, address, expected), seconds=3)


def test_the_home_page_says_so_in_plain_words(stage: Stage) -> None:
    stage.lane(45.0)
    page = stage.front_end().get("/").text
    assert "Dokumen yang diterima sekarang selesai dalam</dt><dd>sekitar 50 detik" in page
    assert "ditutup" not in page
    assert "Di ruang tunggu" not in page
    stage.set(Kind.APPLICANT, Setting(State.CLOSED, reason="<b>Listrik padam"))
    stage.set(Kind.PARTNER, Setting(State.SLOW, rate=2.0))
    page = stage.front_end().get("/").text
    assert "Pengirim dengan voucher:</strong> penerimaan dokumen sedang ditutup." in page
    assert "<bdi>&lt;b&gt;Listrik padam</bdi>." in page
    assert "Portal mitra:</strong> penerimaan dokumen sedang diperlambat." in page
    english = stage.front_end().get("/?lang=en").text
    assert "Senders with a voucher:</strong> the intake of documents is closed for now." in english
    stage.sql(
        "insert into waiting_places (account_id) select id from accounts where"
        f" id = '{stage.account.live_account_id}'"
    )
    stage.doorman().advance()
    page = stage.front_end().get("/").text
    assert "Di ruang tunggu</dt><dd>1</dd>" in page


assert HORIZON == 60, "the figures of these tests go by it"

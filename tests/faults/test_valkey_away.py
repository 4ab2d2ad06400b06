"""Valkey refuses or says nothing: documents are accepted and polls answered, hardly later than else."""

import statistics
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from flask.testing import FlaskClient

from common import lanes
from common.settings import WebSettings
from tests.faults.copies import front_end
from tests.faults.proxy import Endpoint, Proxy
from tests.stack import Account, eventually

# What accepting may take longer, at the median; the few that try pay for the others.
EXTRA_SECONDS = 0.1
REQUESTS = 60


@pytest.fixture
def wire(environment: dict[str, str]) -> Iterator[Proxy]:
    with Proxy(Endpoint.of(environment["STAMPEDE_BROKER_URL"])) as proxy:
        yield proxy


@pytest.fixture
def edge(web_settings: WebSettings, wire: Proxy) -> Iterator[FlaskClient]:
    with front_end(web_settings, broker_url=wire.url(web_settings.broker_url)) as client:
        yield client


def submit(client: FlaskClient, account: Account, letter: bytes) -> Any:
    answer = client.post(
        "/v1/jobs", data=letter, headers=account.test | {"Content-Type": "application/pdf"}
    )
    assert answer.status_code == 202
    return answer.json


def median_seconds(client: FlaskClient, account: Account, letter: bytes) -> float:
    taken = []
    for _ in range(REQUESTS):
        began = time.perf_counter()
        submit(client, account, letter)
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


@pytest.mark.parametrize("how", ["refuse", "stall"])
def test_jobs_are_accepted_and_polls_answered_without_it_and_all_resumes_when_it_is_back(
    edge: FlaskClient,
    wire: Proxy,
    account: Account,
    letter: bytes,
    environment: dict[str, str],
    how: str,
) -> None:
    usual = median_seconds(edge, account, letter)
    getattr(wire, how)()
    assert median_seconds(edge, account, letter) < usual + EXTRA_SECONDS
    job = submit(edge, account, letter)
    assert job["position"] is None
    shown = edge.get(f"/v1/jobs/{job['id']}", headers=account.test)
    assert (shown.status_code, shown.json["state"]) == (200, "queued")
    ready = edge.get("/readyz")
    assert (ready.status_code, ready.json["checks"]["broker"]) == (200, False)

    wire.forward()
    broker = redis.Redis.from_url(environment["STAMPEDE_BROKER_URL"])

    def waiting() -> int:
        return sum(int(broker.llen(lane)) for lane in lanes.partner_lanes(account.partner_id))

    def is_counted() -> bool:
        return submit(edge, account, letter)["position"] is not None

    eventually(is_counted)
    before = waiting()
    eventually(lambda: is_counted() and waiting() > before)
    assert edge.get("/readyz").json["checks"]["broker"] is True


def test_a_question_that_needs_it_is_refused_soon(
    edge: FlaskClient, wire: Proxy, account: Account, letter: bytes
) -> None:
    """Each one holds a thread: they may not wait for as long as an answer would take."""
    wire.stall()
    began = time.monotonic()
    answer = edge.post(
        "/v1/verifications",
        data=letter,
        headers=account.test | {"Content-Type": "application/pdf"},
    )
    assert (answer.status_code, answer.json["code"]) == (503, "service_unavailable")
    assert int(answer.headers["Retry-After"]) >= 1
    assert time.monotonic() - began < 8

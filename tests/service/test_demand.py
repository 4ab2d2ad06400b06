"""How many workers the pools need, as a cluster asks: from Valkey, and honest when it is away."""

from collections.abc import Iterator
from contextlib import closing

import pytest
import redis
from flask.testing import FlaskClient

from common.demand import CHECK_POOL, COURIER_POOL, STAMP_POOL, Demand, load_of
from common.lanes import APPLICANT_LANE, BULK_LANE, WEBHOOK_LANE
from common.pace import LanePace, Pace
from common.settings import WebSettings
from deploy.servers import embedded_valkey, free_port
from web.app import create_app
from web.parts import parts


@pytest.fixture(scope="module")
def valkey_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with embedded_valkey(tmp_path_factory.mktemp("valkey")) as url:
        yield url


@pytest.fixture
def settings(web_settings: WebSettings, valkey_url: str) -> WebSettings:
    with closing(redis.Redis.from_url(valkey_url)) as valkey:
        valkey.flushall()
    return web_settings.model_copy(update={"broker_url": valkey_url})


@pytest.fixture
def pace(settings: WebSettings) -> Pace:
    return Pace(settings.broker_url)


def client(settings: WebSettings) -> Iterator[FlaskClient]:
    app = create_app(settings)
    yield app.test_client()
    with app.app_context():
        parts().database.close()


@pytest.fixture
def front(settings: WebSettings) -> Iterator[FlaskClient]:
    yield from client(settings)


@pytest.fixture
def cut_off(web_settings: WebSettings) -> Iterator[FlaskClient]:
    nobody = f"redis://127.0.0.1:{free_port()}/0"
    yield from client(web_settings.model_copy(update={"broker_url": nobody}))


def fill(pace: Pace, lane: str, jobs: int, service_seconds: float) -> None:
    pace.enter_several(lane, jobs)
    pace.progress(lane, taken_up=0, waited_seconds=None, service_seconds=[service_seconds])


def test_lanes_are_added_up_and_a_slow_one_counts_by_what_waits_in_it() -> None:
    load = load_of(
        [
            LanePace(110, 11, oldest_seconds=3.0, service_seconds=0.1),
            LanePace(0, 0, oldest_seconds=0.0, service_seconds=10.0),
            LanePace(5, 5),
        ]
    )
    assert (load.depth, load.oldest_seconds) == (99, 3.0)
    assert load.service_seconds == pytest.approx((100 * 0.1 + 1 * 10) / 101)


def test_what_waits_asks_for_workers_at_once_and_every_front_end_says_the_same(
    settings: WebSettings, pace: Pace
) -> None:
    first, second = Demand(settings, pace), Demand(settings, Pace(settings.broker_url))
    assert first.workers(STAMP_POOL) == 1
    fill(pace, APPLICANT_LANE, 600, 0.1)
    fill(pace, BULK_LANE, 400, 0.1)
    assert second.workers(STAMP_POOL) == 10
    # Drained: nobody leaves before a quiet time, whoever is asked.
    for lane in (APPLICANT_LANE, BULK_LANE):
        pace.recount(lane, queued=0, highest_ticket=0)
    assert first.workers(STAMP_POOL) == second.workers(STAMP_POOL) == 10


def test_no_pool_is_ever_asked_to_be_larger_than_is_allowed(
    settings: WebSettings, pace: Pace
) -> None:
    fill(pace, BULK_LANE, 1_000_000, 1.0)
    few = settings.model_copy(update={"scaling_max_workers": 7})
    assert Demand(few, pace).workers(STAMP_POOL) == 7


def test_lanes_whose_pace_nobody_measures_go_by_their_messages(
    settings: WebSettings, pace: Pace
) -> None:
    with closing(redis.Redis.from_url(settings.broker_url)) as valkey:
        valkey.rpush(WEBHOOK_LANE, *map(str, range(95)))
    demand = Demand(settings, pace)
    assert demand.workers(COURIER_POOL) == 10
    assert demand.workers(CHECK_POOL) == 1
    assert demand.depths([WEBHOOK_LANE, BULK_LANE]) == [95, 0]


def test_a_memory_of_another_version_is_made_anew(settings: WebSettings, pace: Pace) -> None:
    with closing(redis.Redis.from_url(settings.broker_url)) as valkey:
        valkey.hset("scaling:stamp", mapping={"workers": "many", "looked": "0"})
    demand = Demand(settings, pace)
    assert demand.workers(STAMP_POOL) == 1
    fill(pace, APPLICANT_LANE, 1000, 0.1)
    assert demand.workers(STAMP_POOL) == 10


def test_a_cluster_reads_the_number_and_prometheus_the_same(front: FlaskClient, pace: Pace) -> None:
    fill(pace, APPLICANT_LANE, 1000, 0.1)
    answer = front.get("/scaling/stamp")
    assert answer.json == {"pool": "stamp", "desired_workers": 10}
    assert answer.headers["Cache-Control"] == "no-store"
    said = front.get("/metrics").text
    assert 'stampede_desired_workers{pool="stamp"} 10.0' in said
    assert 'stampede_desired_workers{pool="courier"} 1.0' in said
    assert 'stampede_queue_depth{lane="check"} 0.0' in said
    age = next(
        line
        for line in said.splitlines()
        if 'stampede_lane_oldest_seconds{lane="stamp.applicant"}' in line
    )
    assert 0 <= float(age.split()[-1]) < 60


def test_a_pool_that_there_is_not_is_not_found(front: FlaskClient) -> None:
    assert front.get("/scaling/upkeep").status_code == 404


def test_without_valkey_no_number_is_made_up(cut_off: FlaskClient) -> None:
    answer = cut_off.get("/scaling/stamp")
    assert (answer.status_code, answer.json["code"]) == (503, "service_unavailable")
    assert "Retry-After" in answer.headers
    said = cut_off.get("/metrics").text
    for name in (
        "stampede_desired_workers",
        "stampede_lane_oldest_seconds",
        "stampede_queue_depth",
    ):
        assert f"# TYPE {name} gauge" in said
        assert f"{name}{{" not in said
    assert 'stampede_backlog{what="queued"}' in said

"""Jobs go to their lane behind the back of whoever sent them: soon, together, and never lost."""

import base64
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import httpx
import orjson
import pytest
import redis

from common import lanes
from common.identifiers import new_id
from common.lanes import APPLICANT_LANE, BULK_LANE
from common.settings import WebSettings
from deploy.servers import embedded_valkey, free_port
from tests.stack import Account, eventually, serving
from web.publishing import JOBS_PER_MESSAGE, Publisher


class Broker:
    """A broker of this module's own, whose lanes no worker empties."""

    def __init__(self, url: str, settings: WebSettings) -> None:
        self._client = redis.Redis.from_url(url)
        self.url = url
        self.celery = lanes.make_celery(settings.model_copy(update={"broker_url": url}))

    def messages(self, lane: str) -> list[list[UUID]]:
        """Return the jobs of each message of a lane, the oldest first."""
        raw = [orjson.loads(message) for message in reversed(self._client.lrange(lane, 0, -1))]
        assert all(message["headers"]["task"] == lanes.STAMP_TASK for message in raw)
        bodies = [orjson.loads(base64.b64decode(message["body"])) for message in raw]
        for message, (jobs, _, _) in zip(raw, bodies, strict=True):
            assert message["headers"]["id"] == jobs[0], "Flower finds a message by its first job"
        return [[UUID(job_id) for job_id in jobs] for jobs, _, _ in bodies]

    def clear(self) -> None:
        """Forget all messages."""
        self._client.flushall()


@pytest.fixture(scope="module")
def own(web_settings: WebSettings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """Yield the broker."""
    folder: Path = tmp_path_factory.mktemp("publishing")
    with embedded_valkey(folder / "valkey") as url:
        yield Broker(url, web_settings)


@pytest.fixture
def broker(own: Broker) -> Broker:
    """Return the broker, empty."""
    own.clear()
    return own


def test_a_job_that_comes_alone_is_sent_alone(broker: Broker) -> None:
    publisher, job_id = Publisher(broker.celery), new_id()
    publisher.publish(APPLICANT_LANE, [job_id])
    eventually(lambda: broker.messages(APPLICANT_LANE) == [[job_id]])
    publisher.close()


def test_many_are_sent_together_in_their_order_and_each_once(broker: Broker) -> None:
    publisher, job_ids = Publisher(broker.celery), [new_id() for _ in range(200)]
    for job_id in job_ids:
        publisher.publish(APPLICANT_LANE, [job_id])
    publisher.publish(BULK_LANE, job_ids[:3])
    publisher.close()
    messages = broker.messages(APPLICANT_LANE)
    assert [job_id for message in messages for job_id in message] == job_ids
    assert len(messages) <= len(job_ids) / 2
    assert max(map(len, messages)) == JOBS_PER_MESSAGE
    assert broker.messages(BULK_LANE) == [job_ids[:3]]


def test_what_waits_at_the_end_is_sent_and_nothing_taken_any_more(broker: Broker) -> None:
    publisher, (first, second, third) = Publisher(broker.celery), (new_id() for _ in range(3))
    publisher.publish(APPLICANT_LANE, [first])
    eventually(lambda: broker.messages(APPLICANT_LANE))
    publisher.publish(APPLICANT_LANE, [second])
    publisher.close()
    publisher.publish(APPLICANT_LANE, [third])
    publisher.close()
    assert broker.messages(APPLICANT_LANE) == [[first], [second]]


def test_what_a_broker_does_not_take_is_left_to_the_relay_and_the_next_is_sent(
    broker: Broker, web_settings: WebSettings
) -> None:
    nobody = f"redis://127.0.0.1:{free_port()}/0"
    celery = lanes.make_celery(web_settings.model_copy(update={"broker_url": nobody}))
    publisher = Publisher(celery)
    publisher.publish(APPLICANT_LANE, [new_id()])
    publisher.publish(BULK_LANE, [new_id()])
    publisher.close()
    again, job_id = Publisher(broker.celery), new_id()
    again.publish(APPLICANT_LANE, [job_id])
    again.close()
    assert broker.messages(APPLICANT_LANE) == [[job_id]]


def test_no_more_wait_than_may(broker: Broker) -> None:
    """However slow the broker: the relay has them all, and memory stays what it is."""
    publisher = Publisher(broker.celery, most_waiting=3)
    publisher.publish(APPLICANT_LANE, [new_id() for _ in range(4)])
    taken = [new_id() for _ in range(3)]
    publisher.publish(BULK_LANE, taken)
    publisher.close()
    assert broker.messages(APPLICANT_LANE) == []
    assert broker.messages(BULK_LANE) == [taken]


def test_a_front_end_that_is_ended_kindly_sends_what_it_holds(
    broker: Broker, environment: dict[str, str], account: Account, letter: bytes, tmp_path: Path
) -> None:
    own = environment | {"STAMPEDE_BROKER_URL": broker.url}
    headers = account.test | {"Content-Type": "application/pdf"}
    with (
        serving(own, free_port(), tmp_path / "web.log") as (address, _),
        httpx.Client(base_url=address, headers=headers, timeout=60) as client,
    ):
        sent = [client.post("/v1/jobs", content=letter).json()["id"] for _ in range(6)]
    found = [
        job_id
        for lane in lanes.partner_lanes(account.partner_id)
        for message in broker.messages(lane)
        for job_id in message
    ]
    assert sorted(map(str, found)) == sorted(sent)

"""Whether others wait: what a worker asks between two jobs of one message.

A message may stand for many jobs of a lane. Held for all of them, a worker would let a single document
wait for a dozen jobs of a dump where it waited for one; so the rest of a message of the lane for bulk goes
back when somebody else is there. The other lanes keep their turns: where all of them are long, giving back
after each job would undo what messages of several are for.
"""

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from common.lanes import BULK_LANE, STAMP_LANES
from common.settings import Settings

_TIMEOUT_SECONDS = 0.25


def go_before(lane: str) -> tuple[str, ...]:
    """Return the lanes whose jobs are not to wait for the rest of a message of this lane."""
    return tuple(other for other in STAMP_LANES if other != lane) if lane == BULK_LANE else ()


class Others:
    """Looks into the broker's queues, which are Valkey's lists of the lanes' names."""

    def __init__(self, broker_url: str) -> None:
        """Prepare a client; connects at the first use."""
        self._client = redis.Redis.from_url(
            broker_url,
            socket_timeout=_TIMEOUT_SECONDS,
            socket_connect_timeout=_TIMEOUT_SECONDS,
            retry=Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
        )

    def wait(self, lane: str) -> bool:
        """Say whether somebody waits who goes before the rest of a message of this lane.

        One command. Nobody does while Valkey is away: then nobody would be served either.
        """
        first = go_before(lane)
        if not first:
            return False
        try:
            return bool(self._client.exists(*first))
        except redis.RedisError:
            return False


def connect(settings: Settings) -> Others:
    """Return the queues of the broker that the settings name."""
    return Others(settings.broker_url)

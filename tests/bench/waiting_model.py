"""A stamping service in simulated time, that tells waiting times with the real arithmetic.

Workers take turns between lanes by the real cycle, a message stands for one job or several, and what Valkey
would count is counted here. Nothing else is modelled: what a job costs is drawn from a distribution.
"""

import heapq
import math
import random
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from common.counting import LaneCounts, Look
from common.forecast import INFLOW_SECONDS, Came, Meter
from common.lanes import STAMP_LANES
from common.pace import Outlook
from common.turns import WeightedTurns

# One stamping: the median in seconds, and how much it spreads (sigma of a log-normal distribution).
SERVICE_SECONDS = 0.05
SPREAD = 0.4
POLL_SECONDS = 2.0
# One job in so many is asked for, again and again.
POLLED = 37


class Arrival(NamedTuple):
    """So many jobs of a lane that come together."""

    at: float
    lane: str
    jobs: int


class Told(NamedTuple):
    """What was said of a job at a time, in seconds; None: nothing."""

    at: float
    job: int
    seconds_left: int | None


@dataclass
class Record:
    """What was told, at the acceptance and to polls, and when each job was stamped."""

    accepted: list[Told] = field(default_factory=list)
    polled: list[Told] = field(default_factory=list)
    stamped: dict[int, float] = field(default_factory=dict)


@dataclass
class _Lane:
    messages: deque[list[int]] = field(default_factory=deque)
    accepted: int = 0
    served: int = 0
    since: float | None = None
    last: float | None = None
    service: float | None = None
    per_turn: float | None = None
    came: tuple[Came, ...] = tuple(Came(0) for _ in INFLOW_SECONDS)

    @property
    def waiting(self) -> int:
        return max(0, self.accepted - self.served)

    def counts(self) -> LaneCounts:
        return LaneCounts(
            accepted=self.accepted,
            served=self.served,
            since=self.since,
            last=self.last,
            waited=None,
            service=self.service,
            per_turn=self.per_turn or 1.0,
            came=self.came,
        )


class Service:
    """The lanes, the workers and what is counted of them."""

    def __init__(self, seed: int, group: int) -> None:
        """Begin empty.

        Args:
            seed: of the stampings' lengths.
            group: how many jobs one message stands for at the most.
        """
        self._random = random.Random(seed)
        self._group = group
        self._lanes = {name: _Lane() for name in STAMP_LANES}
        self._turns = WeightedTurns(STAMP_LANES)
        self._meter = Meter()
        self._service, self._stampings, self._hands = 0.0, 0, 0
        self._workers = self._busy = 0
        self._events: list[tuple[float, int, str, tuple[object, ...]]] = []
        self._pushed = 0
        self._tickets: dict[int, tuple[str, int]] = {}
        self.record = Record()

    def run(self, arrivals: Iterable[Arrival], workers: Iterable[tuple[float, int]]) -> Record:
        """Let jobs come, and workers be so many from a time on, until all jobs are stamped."""
        for arrival in arrivals:
            self._push(arrival.at, "arrive", arrival.lane, arrival.jobs)
        for at, count in workers:
            self._push(at, "man", count)
        self._push(0.0, "poll")
        while self._events:
            now, _, what, facts = heapq.heappop(self._events)
            getattr(self, f"_{what}")(now, *facts)
        return self.record

    def look(self, now: float) -> Outlook:
        """Return every lane's numbers, as the service would tell them."""
        return Outlook(
            Look(
                now=now,
                crew=self._meter.counts(),
                hands=self._hands,
                service=self._service if self._stampings else None,
                lanes={name: lane.counts() for name, lane in self._lanes.items()},
            )
        )

    def _push(self, at: float, what: str, *facts: object) -> None:
        self._pushed += 1
        heapq.heappush(self._events, (at, self._pushed, what, facts))

    def _arrive(self, now: float, name: str, jobs: int) -> None:
        lane = self._lanes[name]
        lane.came = tuple(
            came.until(now, lane.accepted, seconds)
            for came, seconds in zip(lane.came, INFLOW_SECONDS, strict=True)
        )
        if not lane.waiting:
            lane.since = now
        first = len(self._tickets)
        ids = list(range(first, first + jobs))
        for job in ids:
            lane.accepted += 1
            self._tickets[job] = name, lane.accepted
        pace = self.look(now)[name]
        self.record.accepted += [
            Told(now, job, pace.wait(self._tickets[job][1]).seconds_left) for job in ids
        ]
        for begin in range(0, jobs, self._group):
            lane.messages.append(ids[begin : begin + self._group])
        self._take(now)

    def _man(self, now: float, count: int) -> None:
        self._workers = count
        self._hands = max(self._hands, count)
        self._take(now)

    def _take(self, now: float) -> None:
        """Let every idle worker take a message."""
        while self._busy < self._workers:
            name = next(
                (each for each in self._turns.consume(99) if self._lanes[each].messages), None
            )
            if name is None:
                return
            self._turns.rotate(name)
            lane = self._lanes[name]
            ids = lane.messages.popleft()
            self._busy += 1
            lane.served += len(ids)
            lane.last = now
            mean = lane.per_turn or len(ids)
            lane.per_turn = mean + 0.1 * (len(ids) - mean)
            self._meter.took(
                now, len(ids), waiting=sum(each.waiting for each in self._lanes.values())
            )
            lengths = [self._random.lognormvariate(math.log(SERVICE_SECONDS), SPREAD) for _ in ids]
            for place, job in enumerate(ids, 1):
                self.record.stamped[job] = now + sum(lengths[:place])
            self._push(now + sum(lengths), "finish", name, lengths)

    def _finish(self, now: float, name: str, lengths: list[float]) -> None:
        lane = self._lanes[name]
        self._busy -= 1
        for length in lengths:
            lane.service = length if lane.service is None else lane.service * 0.9 + length * 0.1
            self._stampings += 1
            self._service += (length - self._service) * max(0.02, 1 / self._stampings)
        self._take(now)

    def _poll(self, now: float) -> None:
        paces = self.look(now)
        for job in range(0, len(self._tickets), POLLED):
            name, ticket = self._tickets[job]
            if job not in self.record.stamped:
                self.record.polled.append(Told(now, job, paces[name].wait(ticket).seconds_left))
        if self._events:
            self._push(now + POLL_SECONDS, "poll")

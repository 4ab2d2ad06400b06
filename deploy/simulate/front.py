"""The front end as a simpy process: once a second it takes in what came, through the gate."""

import random
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from itertools import chain, repeat

import simpy

from common.admission import Admit, Decision, Later
from common.lanes import APPLICANT_LANE
from common.pace import LanePace
from deploy.simulate.arrivals import DAY, DOCUMENTS_A_PERSON, MINUTE, Kind, by_second
from deploy.simulate.cohorts import Cohort
from deploy.simulate.policies import Allowance, Gate, Shedding, later, rate_limited
from deploy.simulate.setup import Policy
from deploy.simulate.stampers import Events, Stampers
from deploy.simulate.world import World

# After the last arrival a run goes on until nobody waits, at most for so long.
LONGEST_AFTERMATH_SECONDS = 2 * DAY
# The gate is asked again after so many documents of the same second.
_AT_ONCE = 64
# Assumption: how long a place of the waiting room takes to notice its turn and to submit.
_LATEST_SUBMISSION_SECONDS = 10
_POLLS_COUNTED_EVERY_SECONDS = 15
# How often the progress of a run is told, in simulated seconds.
_TOLD_EVERY_SECONDS = 15 * MINUTE

Progress = Callable[[float, float], None]


class Front:
    """Takes in documents, keeps the waiting room, and counts what that costs."""

    def __init__(
        self, world: World, stampers: Stampers, rng: random.Random, progress: Progress | None
    ) -> None:
        """Make ready; `rng` draws the seconds at which documents come."""
        self._world = world
        self._stampers = stampers
        self._progress = progress
        self._gates = {lane: Gate(world.means.horizon_of(lane)) for lane in world.lines}
        quiet: Iterator[dict[int, int]] = repeat({})
        self._streams = [
            (stream, chain(by_second(stream, rng), quiet)) for stream in world.arrivals.streams
        ]
        # Cohorts in the order in which their patience ends.
        self._impatient: deque[tuple[float, Cohort]] = deque()
        # Whose turn in the room has come, by the second in which they submit.
        self._turned: dict[int, list[Cohort]] = {}
        self._allowances: defaultdict[int | None, Allowance] = defaultdict(Allowance)
        most = world.cores.accepts_per_second
        self._shedding = None if most is None else Shedding(most)
        # When turns were given last, or the room was empty.
        self._turned_at = 0
        # In this minute: what was still in line when another second began.
        self._most_waiting = 0
        # In this second.
        self._accepted = 0
        self._refused = 0

    def start(self) -> simpy.Process:
        """Start the process; it ends when nobody waits any more, or after a long aftermath."""
        return self._world.env.process(self._serve())

    def _serve(self) -> Events:
        world = self._world
        comes_until = world.arrivals.minutes * MINUTE
        minute = 0
        while minute * MINUTE < comes_until + LONGEST_AFTERMATH_SECONDS:
            if minute * MINUTE >= comes_until and not world.left():
                break
            coming = [(stream, next(minutes)) for stream, minutes in self._streams]
            for second in range(MINUTE):
                now = minute * MINUTE + second
                new = [
                    Cohort(stream.kind, seconds[second], float(now), stream.partner)
                    for stream, seconds in coming
                    if seconds.get(second)
                ]
                self._second(now, new)
                yield world.env.timeout(1)
            self._sample()
            minute += 1
            if self._progress is not None and minute * MINUTE % _TOLD_EVERY_SECONDS == 0:
                self._progress(minute * MINUTE, comes_until)
        self._stampers.count_hours()

    def _second(self, now: int, new: list[Cohort]) -> None:
        world, counts = self._world, self._world.book.counts
        world.lanes.look(now, workers=self._stampers.count)
        self._most_waiting = max(self._most_waiting, world.waiting)
        self._accepted = self._refused = 0
        counts.wanted += sum(cohort.count for cohort in new)
        offered = new + world.returning.due(now)
        world.rng.shuffle(offered)
        for cohort in self._turned.pop(now, ()):
            world.turned -= cohort.count
            self._accept(cohort, APPLICANT_LANE, world.lanes.pace(APPLICANT_LANE), now)
        tries = sum(cohort.count for cohort in offered)
        counts.tries += tries
        world.book.peak_tries = max(world.book.peak_tries, tries)
        for cohort in offered:
            self._offer(cohort, now)
        self._let_go(now)
        self._open_room(now)
        world.book.peak_accepted = max(world.book.peak_accepted, self._accepted)
        self._stampers.wake()
        if now % _POLLS_COUNTED_EVERY_SECONDS == 0:
            self._count_polls(now)
        world.cores.second(
            accepted=self._accepted,
            refused=self._refused,
            polls=world.polls_per_s,
            workers=self._stampers.count,
        )

    def _offer(self, cohort: Cohort, now: int) -> None:
        """Let a cohort's documents be submitted, as many at a time as meet the same answer."""
        world, shedding = self._world, self._shedding
        while cohort.count:
            if shedding is not None and self._accepted >= shedding.accepts_per_second:
                world.book.counts.shed += cohort.count
                self._refuse(cohort, now, shedding.come_back(cohort.count, now))
                return
            part = cohort.split(min(cohort.count, _AT_ONCE))
            if part.kind is not Kind.PARTNER or world.means.policy is Policy.IMPATIENT:
                self._submit(part, now, prompt=True)
                continue
            allowed, prompt, wait = self._allowances[part.partner].take(part.count, now)
            if allowed < part.count:
                self._refuse(part.split(part.count - allowed), now, rate_limited(wait))
            if prompt:
                self._submit(part.split(prompt), now, prompt=True)
            if part.count:
                self._submit(part, now, prompt=False)

    def _submit(self, cohort: Cohort, now: int, *, prompt: bool) -> None:
        world = self._world
        lane = world.lanes.shortest(cohort.kind, cohort.partner, prompt=prompt)
        pace = world.lanes.pace(lane)
        answer = self._ask_gate(cohort, lane, pace, now)
        if isinstance(answer, Admit):
            self._accept(cohort, lane, pace, now)
        elif isinstance(answer, Later):
            self._refuse(cohort, now, later(answer.seconds))
        else:
            world.book.counts.roomed += cohort.count
            self._refused += cohort.count
            cohort.entered = now
            world.room.append(cohort)

    def _ask_gate(self, cohort: Cohort, lane: str, pace: LanePace, now: int) -> Decision:
        world = self._world
        if world.means.policy is not Policy.GATE:
            return Admit()
        return self._gates[lane].decide(cohort.kind, pace, now, world.room.length)

    def _accept(self, cohort: Cohort, lane: str, pace: LanePace, now: int) -> None:
        """Give tickets to a cohort; the one in its middle stands for all where the wait is told."""
        world = self._world
        world.lanes.enter(lane, cohort.count, now)
        cohort.entered = now
        cohort.foretold = pace.wait(pace.accepted + (cohort.count + 1) // 2).seconds_left
        world.lines[lane].append(cohort)
        world.book.counts.accepted += cohort.count
        self._accepted += cohort.count
        if world.manners.patience is not None:
            self._impatient.append((now + world.manners.patience, cohort))

    def _refuse(self, cohort: Cohort, now: int, told: tuple[float, float]) -> None:
        world = self._world
        self._refused += cohort.count
        world.book.counts.refused += cohort.count
        self._send_away(cohort, now, told)

    def _send_away(self, cohort: Cohort, now: int, told: tuple[float, float]) -> None:
        """Let a cohort come back, or give up."""
        world = self._world
        if world.manners.try_again(cohort.tries):
            world.returning.send(cohort, now, world.manners.back_between(told))
        else:
            world.book.counts.gave_up += cohort.count

    def _let_go(self, now: int) -> None:
        """Let those whose patience is over send their documents again; what they sent stays in line."""
        while self._impatient and self._impatient[0][0] <= now:
            _, cohort = self._impatient.popleft()
            if cohort.in_line:
                cohort.left = True
                again = Cohort(
                    cohort.kind, cohort.count, cohort.wanted, cohort.partner, cohort.tries
                )
                self._send_away(again, now, later(None))

    def _open_room(self, now: int) -> None:
        """Give turns to the next in the waiting room."""
        world = self._world
        if not world.room.length:
            self._turned_at = now
            return
        turns = self._gates[APPLICANT_LANE].turns(
            world.lanes.pace(APPLICANT_LANE),
            now,
            people=_people(world.room.length),
            jobs=world.turned,
            since=now - self._turned_at,
        )
        if not turns:
            return
        self._turned_at = now
        for cohort in world.room.take(turns * DOCUMENTS_A_PERSON):
            world.book.room_waits.add(now - cohort.entered, cohort.count)
            world.turned += cohort.count
            self._let_submit(cohort, now)

    def _let_submit(self, cohort: Cohort, now: int) -> None:
        """Spread a cohort whose turn has come over the seconds in which it submits."""
        for second in range(_LATEST_SUBMISSION_SECONDS, 0, -1):
            part = cohort.split(cohort.count // second)
            if part.count:
                self._turned.setdefault(now + second, []).append(part)

    def _count_polls(self, now: int) -> None:
        """Say how often those who wait ask; partners do not, they have webhooks."""
        world = self._world
        world.polls_per_s = world.lanes.polls_per_second()
        if world.room.length:
            world.polls_per_s += self._gates[APPLICANT_LANE].room_polls(
                world.lanes.pace(APPLICANT_LANE),
                now,
                people=_people(world.room.length),
                jobs=world.turned,
            )

    def _sample(self) -> None:
        world = self._world
        self._stampers.count_hours()
        world.book.minute(
            waiting=self._most_waiting,
            room=world.room.length + world.turned,
            back=world.returning.count,
            workers=self._stampers.count,
            polls=world.polls_per_s,
        )
        self._most_waiting = 0


def _people(documents: int) -> int:
    """Return how many people in the room have so many documents."""
    return -(-documents // DOCUMENTS_A_PERSON)

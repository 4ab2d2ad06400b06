"""What is written down during a run: counts, waits, and one sample a minute."""

from dataclasses import dataclass, field, replace

from deploy.simulate.arrivals import Kind
from deploy.simulate.cohorts import Cohort
from deploy.simulate.tally import Spread

# A foretold wait is compared with the true one from here on; a second more or less than two is no error.
SHORTEST_COMPARED_SECONDS = 10.0

DUMPER = "the dumping partner"


@dataclass(slots=True)
class Counts:
    """Documents and tries so far. A try is one submission; a document may need several."""

    wanted: int = 0
    tries: int = 0
    accepted: int = 0
    stamped: int = 0
    # Stamped after whoever had sent it had given that try up: work for nobody.
    in_vain: int = 0
    refused: int = 0
    # Refused because the front end had no time, before anything was looked at.
    shed: int = 0
    gave_up: int = 0
    roomed: int = 0
    late: int = 0
    redone: int = 0


@dataclass(slots=True)
class Samples:
    """One entry a minute."""

    wanted: list[int] = field(default_factory=list)
    tries: list[int] = field(default_factory=list)
    accepted: list[int] = field(default_factory=list)
    stamped: list[int] = field(default_factory=list)
    # The most that was in line at the end of a second.
    waiting: list[int] = field(default_factory=list)
    room: list[int] = field(default_factory=list)
    coming_back: list[int] = field(default_factory=list)
    workers: list[int] = field(default_factory=list)
    polls_per_s: list[float] = field(default_factory=list)
    # The longest wait of what was stamped in the minute, from the first try on.
    longest_wait: list[float] = field(default_factory=list)


class Book:
    """The run's record."""

    def __init__(self, deadline: float | None = None, dumper: int | None = None) -> None:
        """Start with empty pages.

        Args:
            deadline: after which an acceptance is late, in seconds.
            dumper: a partner whose single documents are counted apart from the others'.
        """
        self.counts = Counts()
        self.samples = Samples()
        # From the first try to the stamp, and from acceptance to the stamp, in seconds.
        self.waits: dict[str, Spread] = {kind: Spread() for kind in Kind}
        self.queue_waits: dict[str, Spread] = {kind: Spread() for kind in Kind}
        if dumper is not None:
            self.waits[DUMPER], self.queue_waits[DUMPER] = Spread(), Spread()
        self._dumper = dumper
        self.room_waits = Spread()
        # |foretold - true| / true, in parts of one.
        self.errors = Spread()
        self.told_too_little = 0
        self.peak_accepted = 0
        self.peak_tries = 0
        self.worker_seconds = 0.0
        self.peak_workers = 0
        self._deadline = deadline
        self._longest = 0.0
        self._before = Counts()

    def stamped(self, cohort: Cohort, at: float) -> None:
        """Note that documents are stamped."""
        count = cohort.count
        if cohort.left:
            self.counts.in_vain += count
            return
        self.counts.stamped += count
        if self._deadline is not None and cohort.entered > self._deadline:
            self.counts.late += count
        since_accepted, since_wanted = at - cohort.entered, at - cohort.wanted
        dumps = cohort.kind is Kind.PARTNER and cohort.partner == self._dumper
        who = DUMPER if dumps else cohort.kind
        self.queue_waits[who].add(since_accepted, count)
        self.waits[who].add(since_wanted, count)
        self._longest = max(self._longest, since_wanted)
        if cohort.foretold is not None and since_accepted >= SHORTEST_COMPARED_SECONDS:
            self.errors.add(abs(cohort.foretold - since_accepted) / since_accepted, count)
            if cohort.foretold < since_accepted:
                self.told_too_little += count

    @property
    def all_waits(self) -> Spread:
        """Return the waits of everybody, from the first try to the stamp."""
        together = Spread()
        for spread in self.waits.values():
            together.merge(spread)
        return together

    def minute(self, *, waiting: int, room: int, back: int, workers: int, polls: float) -> None:
        """Take the minute's sample."""
        now, before, samples = self.counts, self._before, self.samples
        samples.wanted.append(now.wanted - before.wanted)
        samples.tries.append(now.tries - before.tries)
        samples.accepted.append(now.accepted - before.accepted)
        samples.stamped.append(now.stamped + now.in_vain - before.stamped - before.in_vain)
        samples.waiting.append(waiting)
        samples.room.append(room)
        samples.coming_back.append(back)
        samples.workers.append(workers)
        samples.polls_per_s.append(polls)
        samples.longest_wait.append(self._longest)
        self._longest = 0.0
        self._before = replace(now)

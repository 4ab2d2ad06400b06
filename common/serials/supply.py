"""Where a new job's serials come from: generated, or out of the imported stock. One per process."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from sqlalchemy import Connection, text

from common.partners import Mode
from common.serials import stock
from common.serials.format import USUAL, Format, generate
from common.serials.stock import Picked, Place

# A job's serials in order, in the select list or the returning clause of a statement over `jobs`;
# an empty array while it waits for them, and when they went back into the stock.
OF_JOB = (
    "coalesce((select array_agg(serial order by position) from serials"
    " where job_id = jobs.id), '{}') as serials"
)
# How long a process goes by what it saw of the stock and those who wait.
LOOK_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Chosen:
    """A serial for a job that is being accepted; an imported one with its place in the stock."""

    serial: str
    number: int | None = None
    import_id: UUID | None = None


class Supply:
    """Chooses serials. Remembers where in the stock it was, so a process makes one and keeps it."""

    def __init__(
        self,
        format: Format = USUAL,
        *,
        source: Literal["generated", "imported"] = "generated",
        reuse: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take the settings.

        Args:
            format: of generated serials.
            source: of live serials; those of test mode are always generated.
            reuse: whether imported serials go back into the stock when their job ends unstamped.
            clock: seconds from any beginning.
        """
        self._format = format
        self._imported = source == "imported"
        self._reuse = reuse
        self._clock = clock
        self._place = Place()
        self._short = False
        self._looked_at = float("-inf")

    @property
    def returns(self) -> bool:
        """Say whether imported serials go back into the stock when their job ends unstamped."""
        return self._reuse

    def makes(self, mode: Mode) -> bool:
        """Say whether serials of this mode are generated: no database is needed to choose some."""
        return mode is Mode.TEST or not self._imported

    def make(self, mode: Mode, stamps: Mapping[UUID, int]) -> dict[UUID, list[Chosen]]:
        """Generate serials for new jobs, one for each of a job's stamps.

        Args:
            stamps: how many each job needs, by its id.
        """
        return {
            job_id: [Chosen(generate(mode, self._format)) for _ in range(count)]
            for job_id, count in stamps.items()
        }

    def choose(
        self, connection: Connection, *, mode: Mode, stamps: Mapping[UUID, int]
    ) -> dict[UUID, list[Chosen]]:
        """Choose serials for new jobs; whoever accepts them in this transaction makes them theirs.

        Args:
            stamps: how many each job needs, by its id.

        Returns:
            The serials of each job: all that it needs, or none where the stock has too few, or only
            enough for those that wait already.
        """
        if self.makes(mode):
            return self.make(mode, stamps)
        if self._is_short(connection):
            return {job_id: [] for job_id in stamps}
        picked = _shared_out(self._place.pick(connection, sum(stamps.values())), stamps)
        if len(picked) < len(stamps):
            self._short, self._looked_at = True, self._clock()
        return {
            job_id: [Chosen(each.serial, each.number, each.import_id) for each in of_job]
            for job_id, of_job in (dict.fromkeys(stamps, ()) | picked).items()
        }

    def give(self, connection: Connection, stamps: Mapping[UUID, int]) -> dict[UUID, list[str]]:
        """Give live jobs serials, one job after the other, until one needs more than there are.

        Args:
            stamps: how many each job needs, by its id.

        Returns:
            The serials of the first of these jobs; the others got none.
        """
        if not self._imported:
            return _reserve(connection, self.make(Mode.LIVE, stamps))
        given = _shared_out(self._place.take(connection, stamps, returns=self._reuse), stamps)
        if not given:
            # Too few ahead: look behind as well, and do with what there is.
            given = _shared_out(self._place.pick(connection, sum(stamps.values())), stamps)
            if given:
                stock.give(connection, given, returns=self._reuse)
        return {job_id: [each.serial for each in of_job] for job_id, of_job in given.items()}

    def _is_short(self, connection: Connection) -> bool:
        """Say whether the stock is no more than waiting jobs need and a little: then it is theirs first.

        Where it is plenty, nobody has to stand behind jobs that upkeep is about to serve.
        """
        now = self._clock()
        if now >= self._looked_at + LOOK_SECONDS:
            self._short, self._looked_at = stock.is_short(connection), now
        return self._short


def _reserve(
    connection: Connection, made: Mapping[UUID, Sequence[Chosen]]
) -> dict[UUID, list[str]]:
    """Bind generated live serials to jobs that are accepted already."""
    rows = [
        (chosen.serial, job_id, position)
        for job_id, of_job in made.items()
        for position, chosen in enumerate(of_job, start=1)
    ]
    connection.execute(
        text(
            "insert into serials (serial, mode, job_id, position, state)"
            " select serial, 'live', job_id, position, 'reserved'"
            " from unnest(cast(:serials as text[]), cast(:jobs as uuid[]),"
            " cast(:positions as smallint[])) as made (serial, job_id, position)"
        ),
        {
            "serials": [serial for serial, _, _ in rows],
            "jobs": [job_id for _, job_id, _ in rows],
            "positions": [position for _, _, position in rows],
        },
    )
    return {job_id: [chosen.serial for chosen in of_job] for job_id, of_job in made.items()}


def _shared_out(
    picked: Sequence[Picked], stamps: Mapping[UUID, int]
) -> dict[UUID, Sequence[Picked]]:
    """Return what each job gets, in order, up to the first that needs more than is left."""
    shared: dict[UUID, Sequence[Picked]] = {}
    used = 0
    for job_id, count in stamps.items():
        if used + count > len(picked):
            break
        shared[job_id] = picked[used : used + count]
        used += count
    return shared


# For live serials that are made here in the usual format; it remembers nothing.
GENERATED = Supply()

"""When documents come: arrival curves, as pure functions of time.

What is known of September 2024 is little: 2,718,663 people had registered and 952,581 of them had
finished when two days were left, each of the others owed two stamped letters, and the two highest
days saw just over a million stamps each while the service was impaired. So the demand was higher
than what was served, and its course was never published. Everything else here is an assumption,
and is called one where it stands.
"""

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate, pairwise

MINUTE = 60
HOUR = 3600
DAY = 86_400

# Known: 2,718,663 registered less 952,581 finished leaves 1,766,082; the round figure is used.
SEPTEMBER_PEOPLE = 1_770_000
DOCUMENTS_A_PERSON = 2
# Assumption: nobody hurries more in the last ten minutes than at their beginning.
LAST_RUSH_SECONDS = 10 * MINUTE

# Assumption: how busy an hour is by local time (WIB), with straight lines between: lows from 01:00 to
# 05:00, highs around 10:00 and 14:00 and from 20:00 to 23:00.
_DAY_CURVE = (
    (0.0, 0.90),
    (1.0, 0.20),
    (3.0, 0.10),
    (5.0, 0.20),
    (8.0, 0.80),
    (10.0, 1.00),
    (12.0, 0.75),
    (14.0, 1.00),
    (17.0, 0.70),
    (20.0, 1.00),
    (23.0, 1.00),
    (24.0, 0.90),
)


class Kind(StrEnum):
    """Kinds of clients, as the lanes know them."""

    APPLICANT = "applicant"
    PARTNER = "partner"
    BULK = "bulk"


@dataclass(frozen=True, slots=True)
class Stream:
    """The documents of one source: an applicant's are anybody's, a partner's have its number.

    Attributes:
        kind: of client.
        by_minute: documents that come in each minute.
        partner: which partner, counted from 0; None for applicants.
        within_seconds: a minute's documents come in its first so many seconds.
    """

    kind: Kind
    by_minute: tuple[int, ...]
    partner: int | None = None
    within_seconds: int = MINUTE

    @property
    def documents(self) -> int:
        """Return how many documents come in all."""
        return sum(self.by_minute)


def day_factor(hour: float) -> float:
    """Return how busy an hour of the local day is, from 0 to 1; hours beyond 24 wrap around."""
    hour %= 24
    for (before, low), (after, high) in pairwise(_DAY_CURVE):
        if hour <= after:
            return low + (high - low) * (hour - before) / (after - before)
    raise AssertionError("the day curve ends at 24")


def towards_a_deadline(days: int, deadline_hour: float = 24.0) -> tuple[float, ...]:
    """Return weights by minute: like 1 / (time left), times the day curve.

    Args:
        days: length, which ends at the deadline.
        deadline_hour: local hour of the deadline.
    """
    end = days * DAY
    middles = (minute * MINUTE + MINUTE / 2 for minute in range(end // MINUTE))
    return tuple(
        day_factor(deadline_hour - (end - at) / HOUR) / max(end - at, LAST_RUSH_SECONDS)
        for at in middles
    )


def level(minutes: int) -> tuple[float, ...]:
    """Return weights of an even flow."""
    return (1.0,) * minutes


def spread(documents: int, weights: Sequence[float]) -> tuple[int, ...]:
    """Return how many documents come in each minute; they add up to `documents` exactly."""
    total = sum(weights)
    reached = [round(documents * so_far / total) for so_far in accumulate(weights)]
    return tuple(after - before for before, after in pairwise([0, *reached]))


def in_bursts(
    by_minute: Sequence[int], rng: random.Random, *, mean_minutes: float
) -> tuple[int, ...]:
    """Gather what comes by minute and let it go in bursts, the last one in the last minute.

    Args:
        by_minute: what a portal's own people hand in.
        rng: draws when a burst goes out.
        mean_minutes: how far bursts are apart, on average.
    """
    sent = []
    gathered = 0
    last = len(by_minute) - 1
    for minute, documents in enumerate(by_minute):
        gathered += documents
        goes = minute == last or rng.random() < 1 / mean_minutes
        sent.append(gathered if goes else 0)
        gathered = 0 if goes else gathered
    return tuple(sent)


def by_second(stream: Stream, rng: random.Random) -> Iterator[dict[int, int]]:
    """Yield for each minute how many documents come in which of its seconds (0 to 59).

    Within a minute each document comes at a second of its own, so seconds vary as independent
    clients do, while the minutes add up to exactly what the curve says.
    """
    seconds = range(stream.within_seconds)
    for documents in stream.by_minute:
        yield Counter(rng.choices(seconds, k=documents)) if documents else {}


def mixed(
    documents: int,
    weights: Sequence[float],
    rng: random.Random,
    *,
    partners: int = 5,
    partner_share: float = 0.25,
    bulk_share: float = 0.05,
    burst_minutes: float = 5.0,
) -> list[Stream]:
    """Return applicants, partners in bursts and bulk over one curve.

    Assumption: 30% come through a handful of partners, a sixth of it as batches; a portal sends
    what it has gathered every few minutes, within 20 seconds, a batch within a minute.

    Args:
        documents: of all together.
        weights: the curve, by minute.
        rng: draws the bursts.
        partners: how many there are.
        partner_share: part that comes as partners' single documents.
        bulk_share: part that comes in their batches.
        burst_minutes: how far a partner's bursts are apart, on average.
    """
    of_partner = round(documents * partner_share / partners)
    of_bulk = round(documents * bulk_share)
    applicants = documents - of_partner * partners - of_bulk
    streams = [Stream(Kind.APPLICANT, spread(applicants, weights))]
    streams += [
        Stream(
            Kind.PARTNER,
            in_bursts(spread(of_partner, weights), rng, mean_minutes=burst_minutes),
            partner=number,
            within_seconds=20,
        )
        for number in range(partners)
    ]
    streams.append(
        Stream(
            Kind.BULK,
            in_bursts(spread(of_bulk, weights), rng, mean_minutes=burst_minutes),
            partner=0,
        )
    )
    return streams


def added(by_minute: Sequence[int], more: dict[int, int]) -> tuple[int, ...]:
    """Return the minutes with more documents in some of them."""
    return tuple(documents + more.get(minute, 0) for minute, documents in enumerate(by_minute))

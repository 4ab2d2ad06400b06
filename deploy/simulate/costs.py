"""What a document costs, in CPU milliseconds: read from what the benches printed.

A bench prints one JSON object as its last line; a file may hold one of these objects, a bench's
whole output, or several of them by name: `{"pipeline": {…}, "intake": {…}, "engine": {…}}`. What a
file does not tell is taken from bench.json beside this module, which holds runs of these benches.
"""

import json
import math
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

SHIPPED = Path(__file__).with_name("bench.json")
CORES = 2
# Assumption, where no bench of the intake is given: what answering one status poll takes.
POLL_MS = 0.5
# Assumption: a request that is refused before its body is read costs what a poll does.

_KB = 1000
_MB = 1_000_000
# Assumption: sizes are log-normal around 350 KB, and none is under 50 KB or over 5 MB.
MEDIAN_BYTES = 350 * _KB
_SPREAD = 0.9
SMALLEST_BYTES = 50 * _KB
LARGEST_BYTES = 5 * _MB
# How many sizes are drawn; they are then used again and again from random places.
_SAMPLE = 16_384
# Documents a worker takes in one message, at most.
MESSAGE = 16


class BenchError(Exception):
    """A file is no bench's output; says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """CPU time by document, in milliseconds, everything included.

    Attributes:
        accept_ms: the front end, and half of what web and workers share.
        stamp_ms: a worker, and the other half.
        database_ms: PostgreSQL's part of both, which no second machine takes over.
        stamp_ms_per_mb: what each further megabyte adds to stamping.
        poll_ms: one answered status poll, or one refusal before the body.
        bench_bytes: size of the documents that the bench stamped.
    """

    accept_ms: float
    stamp_ms: float
    database_ms: float
    stamp_ms_per_mb: float
    poll_ms: float = POLL_MS
    bench_bytes: int = 355_000

    @property
    def job_ms(self) -> float:
        """Return what one document costs in all."""
        return self.accept_ms + self.stamp_ms


def read(files: Iterable[Path]) -> Costs:
    """Return the costs that these files tell, the shipped ones for the rest.

    Raises:
        BenchError: a file tells nothing, or nothing usable.
    """
    found = _objects(SHIPPED)
    for file in files:
        found |= _objects(file)
    return from_benches(found)


def from_benches(found: Mapping[str, Mapping[str, Any]]) -> Costs:
    """Return the costs from the benches' objects by name.

    What is neither web nor stamping (database, broker, beat, Flower, webhooks) counts half to each.

    Raises:
        BenchError: a figure is missing or no positive number.
    """
    by_process = found["pipeline"].get("cpu_ms_by_process")
    if not isinstance(by_process, Mapping) or not by_process:
        raise BenchError("the pipeline bench tells no cpu_ms_by_process")
    spent = {name: _figure(by_process, name) for name in by_process}
    web = sum(ms for name, ms in spent.items() if name.startswith("web"))
    stamp = sum(ms for name, ms in spent.items() if name.startswith("stamp"))
    if not web or not stamp:
        raise BenchError("cpu_ms_by_process names no 'web' or no 'stamp'")
    shared = sum(spent.values()) - web - stamp
    polls = found.get("intake", {}).get("polls_per_s")
    return Costs(
        accept_ms=web + shared / 2,
        stamp_ms=stamp + shared / 2,
        database_ms=spent.get("PostgreSQL", 0.0),
        stamp_ms_per_mb=_slope(found.get("engine", {}).get("documents", [])),
        # The bench's own client takes part of the two cores, so this is the most that a poll takes.
        poll_ms=POLL_MS
        if polls is None
        else CORES * 1000 / _figure(found["intake"], "polls_per_s", above_zero=True),
    )


class Sizes:
    """Documents' sizes as one long sample, so that the cost of many is one subtraction."""

    def __init__(self, rng: random.Random) -> None:
        """Draw the sample."""
        self._rng = rng
        sizes = [
            min(LARGEST_BYTES, max(SMALLEST_BYTES, MEDIAN_BYTES * math.exp(rng.gauss(0, _SPREAD))))
            for _ in range(_SAMPLE)
        ]
        self.mean = sum(sizes) / _SAMPLE
        self._reached = [0.0, *accumulate(sizes + sizes[:MESSAGE])]

    def of(self, count: int) -> float:
        """Return the bytes of so many documents together, at most MESSAGE."""
        first = int(self._rng.random() * _SAMPLE)
        return self._reached[first + count] - self._reached[first]


def _objects(file: Path) -> dict[str, dict[str, Any]]:
    """Return a file's objects by the bench that prints them."""
    try:
        text = file.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BenchError(f"{file} cannot be read: {error}") from error
    told = _json(text)
    if told is None:
        told = _json(text.rpartition("\n")[2])
    if told is None:
        raise BenchError(f"{file} holds no JSON object, and its last line is none")
    for name, mark in (
        ("pipeline", "cpu_ms_by_process"),
        ("intake", "polls_per_s"),
        ("engine", "documents"),
    ):
        if mark in told:
            return {name: told}
    known = {
        name: told[name]
        for name in ("pipeline", "intake", "engine")
        if isinstance(told.get(name), dict)
    }
    if not known:
        raise BenchError(
            f"{file} is not what the pipeline, intake or engine bench prints with --json"
        )
    return known


def _json(text: str) -> dict[str, Any] | None:
    try:
        told = json.loads(text)
    except ValueError:
        return None
    return told if isinstance(told, dict) else None


def _figure(found: Mapping[str, Any], name: str, *, above_zero: bool = False) -> float:
    value = found.get(name)
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not 0 <= value < math.inf
        or (above_zero and not value)
    ):
        raise BenchError(f"'{name}' is {value!r} and not a positive number")
    return float(value)


def _slope(documents: Any) -> float:
    """Return CPU milliseconds for each further megabyte, from the bench's smallest and 6 MB."""
    if not isinstance(documents, list) or not all(isinstance(row, dict) for row in documents):
        raise BenchError("the engine bench tells no documents")
    rows = sorted(
        (_figure(row, "bytes"), _figure(row, "seal_ms"))
        for row in documents
        if _figure(row, "bytes") <= 10 * _MB
    )
    if len(rows) < 2 or rows[-1][0] == rows[0][0]:
        return 0.0
    return (rows[-1][1] - rows[0][1]) * _MB / (rows[-1][0] - rows[0][0])

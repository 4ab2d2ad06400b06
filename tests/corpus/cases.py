"""The documents of a corpus, and how each must end.

A corpus is a folder of PDFs and a MANIFEST.csv with the columns `name`, `expected` (`stamp`, `reject`
or `either`) and `classes`: the one that STAMPEDE_CORPUS names, or one that lies beside the checkout
as `corpus` in some folder. Without one, documents that the tests make stand in.
"""

import csv
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.unit.sealing.test_seal import BUILDS, REFUSED

BESIDE = Path(__file__).parents[3].glob("*/corpus/MANIFEST.csv")
NAMED = os.environ.get("STAMPEDE_CORPUS")
MANIFEST = Path(NAMED) / "MANIFEST.csv" if NAMED else next(BESIDE, None)


@dataclass(frozen=True)
class Case:
    """A document, how it must end, and what is special about it."""

    name: str
    expected: str
    content: bytes
    classes: tuple[str, ...] = ()


def cases() -> Iterator[Case]:
    """Yield every document of the corpus, or those that stand in for one."""
    if MANIFEST is not None:
        with MANIFEST.open(newline="") as rows:
            for row in csv.DictReader(rows):
                content = MANIFEST.with_name(row["name"]).read_bytes()
                classes = tuple((row.get("classes") or "plain").split())
                yield Case(row["name"], row["expected"], content, classes)
        return
    for name, content in BUILDS.items():
        yield Case(name, "stamp", content, (name,))
    for name, (content, _) in REFUSED.items():
        yield Case(name, "reject", content, (name,))


CASES = list(cases())

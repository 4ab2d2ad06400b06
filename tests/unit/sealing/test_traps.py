"""Documents made to hang or fill a reader: each ends at once, in little memory, with a code."""

import json
import subprocess
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy.specimen import SpecimenChain
from tests.unit.sealing.damage import startxref
from tests.unit.sealing.documents import classic, objects, streamed

SECONDS = 2.0
BYTES = 512 * 1024 * 1024
MB = 1_000_000
WRONG = startxref(lambda _: b"7")
TABLE = classic(objects())
PACKED = streamed(objects(), packed=(1, 2, 10))


def amid(flood: bytes) -> bytes:
    """Put a flood between the objects and the table of a document that has to be repaired."""
    return WRONG(TABLE.replace(b"xref\n0 1", flood + b"\nxref\n0 1"))


def section(rows: bytes, entries: bytes) -> bytes:
    """Return a document whose cross-reference stream has these rows and entries."""
    document = streamed(objects())
    start = document.rindex(b"12 0 obj")
    body = zlib.compress(rows)
    return document[:start] + (
        b"12 0 obj\n<</Type/XRef/Root 1 0 R/Filter/FlateDecode/Length %d%s>>stream\n%s\nendstream\n"
        b"endobj\nstartxref\n%d\n%%%%EOF\n" % (len(body), entries, body, start)
    )


def object_stream(content: bytes, entries: bytes, number: int = 20) -> bytes:
    body = zlib.compress(content, 9)
    return (
        b"%d 0 obj\n<</Type/ObjStm/Filter/FlateDecode/Length %d%s>>stream\n%s\nendstream\nendobj\n"
        % (
            number,
            len(body),
            entries,
            body,
        )
    )


def chain_of_sections(count: int) -> bytes:
    """Return a document of empty sections, each pointing to the one before."""
    out = bytearray(TABLE)
    before = TABLE.rindex(b"xref\n0 1")
    for _ in range(count):
        start = len(out)
        out += b"xref\n0 0\ntrailer\n<</Size 11/Root 1 0 R/Prev %d>>\n" % before
        before = start
    return bytes(out) + b"startxref\n%d\n%%%%EOF\n" % before


def many_lookups(nodes: int, extra: bytes) -> bytes:
    """Return a document whose page tree must be walked, with more subsections in its table."""
    kids = b" ".join(b"%d 0 R" % (5_000_000 + n) for n in range(nodes))
    made = objects() | {2: b"<</Type/Pages/Count 3/Kids[%s]>>" % kids}
    return classic(made).replace(b"xref\n0 1\n", b"xref\n" + extra + b"0 1\n")


# The catalogue is in stream 5, that is in stream 6, and that in stream 5.
NESTED = b"".join(
    bytes((kind,)) + where.to_bytes(4) + bytes(2)
    for kind, where in [(0, 0), (2, 5), (1, 9), (1, 9), (1, 9), (2, 6), (2, 5)]
)
TRAPS: dict[str, Callable[[], bytes]] = {
    # For the scan that a repair makes.
    "six million words obj": lambda: amid(b"obj" * 6_000_000),
    "two million beginnings of objects": lambda: amid(b"1 0 obj " * 2_000_000),
    "a million empty objects": lambda: amid(b"1 0 obj endobj " * MB),
    "a million objects with numbers of their own": lambda: amid(
        b"".join(b"%d 0 obj\n1 endobj\n" % n for n in range(20, 1_000_020))
    ),
    "numbers and nothing else": lambda: amid(b"1 " * 8_000_000),
    "numbers before many words obj": lambda: amid((b"1 " * 30 + b"obj ") * 200_000),
    "blanks before words obj": lambda: amid((b"1 0" + b" " * 60 + b"obj") * 200_000),
    "20 MB of blanks": lambda: amid(b"1 0 " + b" " * 20_000_000 + b"obj"),
    "a million trailers": lambda: amid(b"trailer<<>>\n" * MB),
    "trailers without an end": lambda: amid(b"trailer<</X(" * MB),
    "a million streams that do not end": lambda: amid(b"20 0 obj<<>>stream " * MB),
    "streams with lengths that lie": lambda: amid(
        b"20 0 obj<</Length 99999999>>stream\nx endstream endobj\n" * 400_000
    ),
    "a million words stream": lambda: amid(b"20 0 obj (" + b"stream" * 2_000_000 + b") endobj"),
    "three million references": lambda: amid(b"20 0 obj[" + b"3 0 R " * 3_000_000 + b"]endobj"),
    "5,000 streams of objects that inflate": lambda: amid(
        b"".join(
            object_stream(b" " * 100_000, b"/N 0/First 0", number) for number in range(20, 5_020)
        )
    ),
    "a bomb as a stream of objects": lambda: amid(object_stream(bytes(200 * MB), b"/N 1/First 5")),
    "a stream of objects that is all numbers": lambda: amid(
        object_stream(b"1 0 " * 5_000_000, b"/N 5000000/First 20000000")
    ),
    "words obj behind the end": lambda: TABLE + b"obj " * 5_000_000,
    # For the cross-reference.
    "the size of all numbers": lambda: TABLE.replace(b"/Size 11", b"/Size 99999999999999999999"),
    "a negative size": lambda: TABLE.replace(b"/Size 11", b"/Size -11"),
    "a previous section beyond all numbers": lambda: TABLE.replace(
        b"/Size 11", b"/Size 11/Prev " + b"9" * 400 + b".0"
    ),
    "a previous section before the file": lambda: TABLE.replace(b"/Size 11", b"/Size 11/Prev -5"),
    "10,000 sections in a row": lambda: chain_of_sections(10_000),
    "loose entries by the million": lambda: TABLE.replace(
        b"xref\n0 1\n", b"xref\n100 2000000\n" + b"0 0 n\n" * 2_000_000 + b"0 1\n"
    ),
    "a million numbers beyond the size": lambda: TABLE.replace(
        b"xref\n0 1\n",
        b"xref\n11 1000000\n" + b"0000000009 00000 n \n" * MB + b"0 1\n",
    ),
    "subsections and lookups": lambda: many_lookups(8_000, b"0 0\n" * 8_000),
    "fewer subsections and more lookups": lambda: many_lookups(15_000, b"0 0\n" * 2_000),
    "widths of a thousand bytes": lambda: section(b"\1" * 40, b"/Size 13/W[1000 1000 1000]"),
    "negative widths": lambda: section(b"\1" * 40, b"/Size 13/W[1 -4 2]"),
    "no widths": lambda: section(b"\1" * 40, b"/Size 13"),
    "widths of nothing": lambda: section(b"", b"/Size 13/W[0 0 0]"),
    "ranges of all numbers": lambda: section(b"\1" * 40, b"/Size 13/W[1 4 2]/Index[0 99999999999]"),
    "negative ranges": lambda: section(b"\1" * 40, b"/Size 13/W[1 4 2]/Index[-5 10]"),
    "half a range": lambda: section(b"\1" * 40, b"/Size 13/W[1 4 2]/Index[0]"),
    "30,000 ranges in no order": lambda: section(
        b"\1" * 40, b"/Size 13/W[1 4 2]/Index[%s]" % (b"9 1 5 1 " * 15_000)
    ),
    "an index that is no array": lambda: section(b"\1" * 40, b"/Size 13/W[1 4 2]/Index 5"),
    "a loop through lengths": lambda: WRONG(
        classic(objects() | {3: b"<</Length 3 0 R>>stream\nx\nendstream"})
    ),
    "a stream of objects in a stream of objects": lambda: section(NESTED, b"/Size 7/W[1 4 2]"),
    # For the objects.
    "a negative length": lambda: PACKED.replace(b"/Length", b"/Length -5/X"),
    "a length of minus one": lambda: PACKED.replace(b"/Length", b"/Length -1/X"),
    "a length of all numbers": lambda: PACKED.replace(
        b"/Length", b"/Length 99999999999999999999/X"
    ),
    "a reference to object 10 to the 400": lambda: classic(
        objects(page=b"/MediaBox " + b"9" * 400 + b" 0 R")
    ),
    "10,000 arrays in an annotation": lambda: classic(
        objects(page=b"/Annots[" + b"[" * 10_000 + b"]" * 10_000 + b"]")
    ),
    "10,000 dictionaries in a box": lambda: classic(
        objects(page=b"/MediaBox" + b"<</a" * 10_000 + b">>" * 10_000)
    ),
    "a chain of 100,000 references": lambda: classic(
        objects(page=b"/MediaBox 20 0 R") | {n: b"%d 0 R" % (n + 1) for n in range(20, 100_020)}
    ),
    "two references to each other": lambda: classic(
        objects(page=b"/Annots 20 0 R") | {20: b"21 0 R", 21: b"20 0 R"}
    ),
    "kids of each other": lambda: classic(
        objects()
        | {
            2: b"<</Type/Pages/Count 9/Kids[20 0 R]>>",
            20: b"<</Type/Pages/Count 9/Kids[2 0 R]>>",
        }
    ),
    "a page tree that doubles 60 times": lambda: classic(
        objects()
        | {
            n: b"<</Type/Pages/Count 5/Kids[%d 0 R %d 0 R]>>" % (n + 1, n + 1)
            for n in (2, *range(20, 80))
        }
        | {2: b"<</Type/Pages/Count 5/Kids[20 0 R 20 0 R]>>"}
    ),
}
# What some readers make do with, and so do we: in the same time, and in the same memory.
HARMLESS = {
    "numbers and nothing else",
    "20 MB of blanks",
    "a previous section before the file",
    "a negative size",
    "widths of a thousand bytes",
    "negative widths",
    "no widths",
    "widths of nothing",
    "ranges of all numbers",
    "negative ranges",
    "half a range",
    "an index that is no array",
}


@dataclass(frozen=True)
class Costs:
    """How each trap ended, the seconds of CPU it took, and the memory of all (bytes)."""

    endings: dict[str, str]
    seconds: dict[str, float]
    memory: int


@pytest.fixture(scope="module")
def costs(chain: SpecimenChain) -> Costs:
    """Seal them all in a fresh process: its peak is theirs alone, and no other test's objects slow it."""
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, chain.signer_key, chain.chain],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[3],
    )
    return Costs(**json.loads(run.stdout))


@pytest.mark.parametrize("kind", TRAPS)
def test_a_trap_costs_less_than_two_seconds(kind: str, costs: Costs) -> None:
    assert costs.seconds[kind] < SECONDS
    endings = {"document_unprocessable", "document_unreadable", "document_no_pages"}
    code = costs.endings[kind]
    assert code == "sealed" if kind in HARMLESS else code in endings


def test_all_traps_together_take_little_memory(costs: Costs) -> None:
    assert costs.memory < BYTES


PROGRAM = """
import json, sys, time
from pathlib import Path
from tests.bench.processes import peak_memory
from tests.unit.sealing.conftest import AT, stamp
from tests.unit.sealing.test_traps import TRAPS
from workers.sealing import SealingError, Signer, seal
signer = Signer.from_pem(Path(sys.argv[1]).read_bytes(), Path(sys.argv[2]).read_bytes())
endings, seconds = {}, {}
for kind, trap in TRAPS.items():
    document = trap()
    started = time.process_time()
    try:
        seal(document, [stamp()], signer=signer, at=AT, reason="trap")
        endings[kind] = "sealed"
    except SealingError as error:
        endings[kind] = error.code
    seconds[kind] = time.process_time() - started
print(json.dumps({"endings": endings, "seconds": seconds, "memory": peak_memory()}))
"""

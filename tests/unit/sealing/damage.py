"""What happens to documents on their way: damage that readers repair, applied to sound documents."""

import re
from collections.abc import Callable

Damage = Callable[[bytes], bytes]

_END = re.compile(rb"startxref\s+(\d+)")


def startxref(change: Callable[[int], bytes]) -> Damage:
    """Return a damage that writes something else into the last `startxref`."""

    def damaged(document: bytes) -> bytes:
        at = document.rindex(b"startxref")
        found = _END.match(document, at)
        assert found is not None
        return document[:at] + b"startxref\n" + change(int(found[1])) + document[found.end() :]

    return damaged


def without_startxref(document: bytes) -> bytes:
    return document[: document.rindex(b"startxref")]


def without_end_mark(document: bytes) -> bytes:
    return document.rstrip().removesuffix(b"%%EOF")


def with_longer_first_line(document: bytes) -> bytes:
    """Move everything, as a mail gateway does that writes another end of line."""
    return document.replace(b"\n", b" with some words behind it\n", 1)


# Readers see the same document after each of these.
REPAIRABLE: dict[str, Damage] = {
    "startxref one too high": startxref(lambda n: b"%d" % (n + 1)),
    "startxref three too low": startxref(lambda n: b"%d" % (n - 3)),
    "startxref 20 too high": startxref(lambda n: b"%d" % (n + 20)),
    "startxref at the header": startxref(lambda _: b"0"),
    "startxref behind the end": startxref(lambda _: b"99999999999"),
    "startxref without a number": startxref(lambda _: b""),
    "no startxref": without_startxref,
    "no mark at the end": without_end_mark,
    "all offsets wrong": with_longer_first_line,
    "junk behind the end": lambda document: document + b"\0junk" * 1000,
}

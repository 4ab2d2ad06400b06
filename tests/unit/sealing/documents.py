"""Small documents of every build that the standard allows, and of some that it does not."""

import zlib
from collections.abc import Mapping, Sequence

CONTENT = b"<</Length 42>>stream\nBT /F 12 Tf 72 720 Td (Sample text) Tj ET   \nendstream"
FONT = b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>"


def objects(
    *, page: bytes = b"", pages: bytes = b"", catalogue: bytes = b"", count: int = 1
) -> dict[int, bytes]:
    """Return the objects of a document; the arguments are further dictionary entries."""
    kids = b" ".join(b"%d 0 R" % (10 + n) for n in range(count))
    made = {
        1: b"<</Type/Catalog/Pages 2 0 R%s>>" % catalogue,
        2: b"<</Type/Pages/Count %d/Kids[%s]%s>>" % (count, kids, pages),
        3: CONTENT,
        4: FONT,
    }
    box = b"" if b"/MediaBox" in page + pages else b"/MediaBox[0 0 595 842]"
    for number in range(10, 10 + count):
        made[number] = (
            b"<</Type/Page/Parent 2 0 R/Contents 3 0 R/Resources<</Font<</F 4 0 R>>>>%s%s>>"
            % (box, page)
        )
    return made


def classic(
    made: Mapping[int, bytes],
    *,
    head: bytes = b"%PDF-1.7\n",
    trailer: bytes = b"",
    end: bytes = b"\n",
) -> bytes:
    """Write objects with a cross-reference table."""
    out, offsets = _bodies(made, head)
    start = len(out)
    out += b"xref\n0 1\n0000000000 65535 f \n"
    for number in sorted(offsets):
        if number - 1 not in offsets:
            count = next(n for n in range(len(offsets) + 1) if number + n not in offsets)
            out += b"%d %d\n" % (number, count)
        out += b"%010d 00000 n \n" % offsets[number]
    out += b"trailer\n<</Size %d/Root 1 0 R%s>>\nstartxref\n%d\n%%%%EOF" % (
        max(made) + 1,
        trailer,
        start,
    )
    return bytes(out) + end


def streamed(made: Mapping[int, bytes], *, packed: Sequence[int] = ()) -> bytes:
    """Write objects with a cross-reference stream, some of them inside an object stream."""
    plain = {number: body for number, body in made.items() if number not in packed}
    container, own = max(made) + 1, max(made) + 2
    if packed:
        bodies = [made[number] for number in packed]
        places = [sum(len(b) + 1 for b in bodies[:n]) for n in range(len(bodies))]
        index = b" ".join(b"%d %d" % pair for pair in zip(packed, places, strict=True)) + b" "
        body = zlib.compress(index + b" ".join(bodies))
        plain[container] = (
            b"<</Type/ObjStm/N %d/First %d/Filter/FlateDecode/Length %d>>stream\n%s\nendstream"
            % (len(packed), len(index), len(body), body)
        )
    out, offsets = _bodies(plain, b"%PDF-1.7\n")
    start = len(out)
    rows = {0: (0, 0, 65535), own: (1, start, 0)}
    rows |= {number: (1, offset, 0) for number, offset in offsets.items()}
    rows |= {number: (2, container, n) for n, number in enumerate(packed)}
    for number in range(own + 1):
        rows.setdefault(number, (0, 0, 0))
    table = zlib.compress(
        b"".join(
            bytes((kind,)) + second.to_bytes(4) + third.to_bytes(2)
            for _, (kind, second, third) in sorted(rows.items())
        )
    )
    out += (
        b"%d 0 obj\n<</Type/XRef/Size %d/W[1 4 2]/Root 1 0 R/Filter/FlateDecode/Length %d>>"
        b"stream\n%s\nendstream\nendobj\nstartxref\n%d\n%%%%EOF\n"
    ) % (own, own + 1, len(table), table, start)
    return bytes(out)


def _bodies(made: Mapping[int, bytes], head: bytes) -> tuple[bytearray, dict[int, int]]:
    out = bytearray(head)
    offsets = {}
    for number, body in sorted(made.items()):
        offsets[number] = len(out)
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    return out, offsets

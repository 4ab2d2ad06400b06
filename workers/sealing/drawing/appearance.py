"""What a stamp looks like: a form XObject of vector drawing, lettering and a QR code.

Every stamp is a layout (where things go), a ground (what all stamps of a design have in common) and
what is its own. The built-in design says SPECIMEN, whatever mode it is drawn in, and shows no
national emblem: it cannot pass for a genuine stamp. An issuer's own design says so in test mode.
Colours are CalRGB, which PDF/A allows with any output intent (ISO 19005-1, 6.2.3.3), and nothing is
transparent.
"""

import zlib
from dataclasses import dataclass
from datetime import date
from functools import lru_cache

from workers.sealing.drawing.lettering import HEIGHT, Area, text_width
from workers.sealing.drawing.matrix import dark_modules
from workers.sealing.placing.placement import Box
from workers.sealing.stamps import Stamp

SPECIMEN = "SPECIMEN"
_INK = b"0.05 0.16 0.35"
_RED = b"0.74 0.05 0.10"
_WHITE = b"1 1 1"
_BEGIN = b"/C cs /C CS 1 J 1 j\n"

# Of deflate. What all stamps of a day share is packed once, as well as can be; the rest of each at
# level 1: level 6 makes it 400 bytes shorter and takes 0.2 ms more.
_BEST, _QUICK = 9, 1
# zlib's default memory, 256 KB fetched from the system and given back each time, costs more than the
# deflating; a window of 8 KB holds the whole drawing. Negative: without zlib's frame.
_WINDOW_BITS, _MEMORY_LEVEL = 13, 5

_COLOURS = (
    b"/ColorSpace<</C[/CalRGB<</WhitePoint[0.9505 1 1.089]/Gamma[2.2 2.2 2.2]"
    b"/Matrix[0.4124 0.2126 0.0193 0.3576 0.7152 0.1192 0.1805 0.0722 0.9505]>>]>>"
)


# Compared by identity: there is one a process.
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Layout:
    """Where a design has what, in units of its own; the lower left corner is at 0, 0.

    `quiet` is how many modules of white the code keeps on each side within its area, `specimen` where
    the word goes that tells a stamp of no value.
    """

    width: float
    height: float
    serial: Area
    code: Area
    quiet: int
    date: Area | None
    face_value: Area | None
    specimen: Area


BUILT_IN = Layout(
    width=80.0,
    height=80.0,
    serial=Area(3.6, 3.5, 72.8, 3.5),
    code=Area(3.5, 8.2, 61.0, 61.0),
    quiet=0,
    date=Area(72.2, 40.2, 3.0, 29.0),
    face_value=Area(72.0, 8.2, 3.4, 29.0),
    specimen=Area(3.9, 70.6, 56.0, 6.0),
)


def form(stamp: Stamp, box: Box, layout: Layout = BUILT_IN, ground: int | None = None) -> bytes:
    """Return the form XObject that shows a stamp upright (ISO 32000-2, 8.10), serialised.

    The design is drawn in its own units; the annotation's rectangle scales it (12.5.5). In a box of
    another shape it is centred.

    Args:
        stamp: what it says.
        box: where it goes.
        layout: of the design.
        ground: the object that an issuer's own design was imported as; None draws the built-in one.
    """
    packed, check = _shared(
        layout, stamp.face_value, stamp.date, test=stamp.specimen, built_in=ground is None
    )
    own = _own(layout, stamp)
    deflater = zlib.compressobj(_QUICK, zlib.DEFLATED, -_WINDOW_BITS, _MEMORY_LEVEL)
    content = b"".join(
        (packed, deflater.compress(own), deflater.flush(), zlib.adler32(own, check).to_bytes(4))
    )
    scale = min(box.width / layout.width, box.height / layout.height)
    spare_width = (box.width / scale - layout.width) / 2
    spare_height = (box.height / scale - layout.height) / 2
    return (
        b"<</Type/XObject/Subtype/Form/BBox[%.4f %.4f %.4f %.4f]/Matrix[%d %d %d %d 0 0]"
        b"/Resources<<%b%b>>/Filter/FlateDecode/Length %d>>stream\n%b\nendstream"
    ) % (
        -spare_width,
        -spare_height,
        layout.width + spare_width,
        layout.height + spare_height,
        *box.upright,
        _COLOURS,
        b"" if ground is None else b"/XObject<</D %d 0 R>>" % ground,
        len(content),
        content,
    )


@lru_cache(maxsize=16)
def _shared(
    layout: Layout, face_value: int, day: date, *, test: bool, built_in: bool
) -> tuple[bytes, int]:
    """Return what all stamps of a day share: the packed beginning of a zlib stream, and its checksum.

    It ends with a full flush, so that what follows can be packed alone (RFC 1950, RFC 1951).
    """
    value = f"RP {face_value:,}".replace(",", ".")
    parts = [_frame() if built_in else b"q /D Do Q", _BEGIN]
    if test or built_in:
        parts.append(_specimen(layout.specimen))
    if test and built_in:
        parts.append(Area(62.0, 71.2, 14.0, 4.2).line("UJI", _RED, weight=0.85))
    if layout.date is not None:
        parts.append(layout.date.line(day.strftime("%d-%m-%Y"), _INK))
    if layout.face_value is not None:
        parts.append(layout.face_value.line(value, _INK, weight=0.85))
    content = b"\n".join(parts) + b"\n"
    deflater = zlib.compressobj(_BEST, zlib.DEFLATED, _WINDOW_BITS)
    packed = deflater.compress(content) + deflater.flush(zlib.Z_FULL_FLUSH)
    return packed, zlib.adler32(content)


def _own(layout: Layout, stamp: Stamp) -> bytes:
    """Return what no other stamp has: its serial and its code, on white."""
    side, path = dark_modules(stamp.qr_text)
    place = layout.code.square
    module = place.width / (side + 2 * layout.quiet)
    ground = b"%b sc %.2f %.2f %.2f %.2f re f" % (
        _WHITE,
        place.left,
        place.bottom,
        place.width,
        place.height,
    )
    corner = layout.quiet * module
    return b"%b\n%b\nq %.5f 0 0 %.5f %.3f %.3f cm 0 0 0 sc\n%bf Q" % (
        layout.serial.line(stamp.serial, _INK),
        ground,
        module,
        module,
        place.left + corner,
        place.bottom + corner,
        path,
    )


def _frame() -> bytes:
    """Return the built-in design's ground."""
    return b"\n".join(
        (
            _BEGIN + b"%b sc 0 0 80 80 re f" % _WHITE,
            b"%b SC 0.9 w 1 1 78 78 re S" % _INK,
            b"%b SC 0.35 w 2.3 2.3 75.4 75.4 re S" % _RED,
            Area(66.4, 8.2, 3.4, 61.0).line("METERAI ELEKTRONIK", _INK),
        )
    )


def _specimen(area: Area) -> bytes:
    """Return the word that tells a stamp of no value, on a white edge that parts it from any ground."""
    halo = area.line(SPECIMEN, _WHITE, weight=2.2)
    return halo + b"\n" + area.line(SPECIMEN, _RED, weight=0.9)


def height_of_specimen(area: Area) -> float:
    """Return how high the letters of the word stand in an area."""
    along, across = max(area.width, area.height), min(area.width, area.height)
    return min(across, along * HEIGHT / text_width(SPECIMEN))

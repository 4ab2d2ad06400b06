"""What a stamp looks like: vector drawing and a QR code, as the content of a form XObject.

The built-in design says SPECIMEN, whatever mode it is drawn in, and shows no national emblem: it
cannot pass for a genuine stamp. Colours are CalRGB, which PDF/A allows with any output intent
(ISO 19005-1, 6.2.3.3), and nothing is transparent.
"""

import re
import zlib
from datetime import date
from functools import lru_cache

import zxingcpp

from workers.sealing.lettering import HEIGHT, strokes, text_width

# The design is drawn on a square of this side and scaled to the box.
SIDE = 80.0
# Of deflate: level 6 makes it 230 bytes shorter and costs 0.09 ms more a stamp.
_LEVEL = 3
_WINDOW_BITS, _MEMORY_LEVEL = 13, 5
# Trying all eight masks (ISO/IEC 18004, 7.8) takes four fifths of making a code and buys nothing: of
# 1,000 codes read back blurred, noisy and askew, 498 were read with the mask so chosen and 484 to 518
# with each of the eight alone, which is within chance.
_MASK = 4
_QR_SIDE = 57.0
_QR_LEFT, _QR_BOTTOM = 3.5, 10.0

RESOURCES = (
    b"<</ColorSpace<</C[/CalRGB<</WhitePoint[0.9505 1 1.089]/Gamma[2.2 2.2 2.2]"
    b"/Matrix[0.4124 0.2126 0.0193 0.3576 0.7152 0.1192 0.1805 0.0722 0.9505]>>]>>>>"
)
_INK = "0.05 0.16 0.35"
_RED = "0.74 0.05 0.10"
_WHITE = "1 1 1"
_DARK = re.compile(rb"\x00+")


def draw(
    *,
    serial: str,
    qr_text: str,
    face_value: int,
    day: date,
    test: bool,
    width: float,
    height: float,
) -> bytes:
    """Return the deflated content stream of a stamp.

    Args:
        serial: printed under the code.
        qr_text: what the code holds; capitals, digits and `$%*+-./: ` keep it small.
        face_value: in rupiah.
        day: printed beside the code.
        test: also print UJI, 'test', for stamps that cost nothing.
        width: of the box, in the page's units; the square design is centred in it.
        height: of the box.
    """
    scale = min(width, height) / SIDE
    left, bottom = (width - SIDE * scale) / 2, (height - SIDE * scale) / 2
    content = "\n".join(
        (
            f"q {scale:.5f} 0 0 {scale:.5f} {left:.3f} {bottom:.3f} cm",
            _frame(face_value),
            _line(day.strftime("%d-%m-%Y"), 76.4, 10.5, 3.15, _INK, upwards=True),
            _line("UJI", 65.6, 70.9, 3.9, _RED, weight=0.85) if test else "",
            _line(serial, 3.6, 3.6, _height_for(serial, 72.8), _INK),
            _code(qr_text),
            "Q",
        )
    )
    # zlib's default memory, 256 KB fetched from the system and given back each time, costs more than
    # the deflating; a window of 8 KB holds the whole drawing.
    deflater = zlib.compressobj(_LEVEL, zlib.DEFLATED, _WINDOW_BITS, _MEMORY_LEVEL)
    return deflater.compress(content.encode("ascii")) + deflater.flush()


@lru_cache(maxsize=8)
def _frame(face_value: int) -> str:
    """Return what every stamp of a face value has in common."""
    value = f"RP {face_value:,}".replace(",", ".")
    return "\n".join(
        (
            "/C cs /C CS 1 J 1 j",
            f"{_WHITE} sc 0 0 80 80 re f",
            f"{_INK} SC 0.9 w 1 1 78 78 re S",
            f"{_RED} SC 0.35 w 2.3 2.3 75.4 75.4 re S",
            _line("SPECIMEN", 3.9, 70.0, _height_for("SPECIMEN", 56.2), _RED, weight=0.9),
            _line("METERAI ELEKTRONIK", 65.6, 10.5, 3.15, _INK, upwards=True),
            _line(value, 71.9, 10.5, 5.0, _INK, upwards=True, weight=0.85),
        )
    )


def _height_for(text: str, width: float) -> float:
    """Return the letter height at which a text is `width` wide, 7 at the most."""
    return min(7.0, width * HEIGHT / text_width(text))


def _line(
    text: str,
    x: float,
    y: float,
    height: float,
    colour: str,
    *,
    upwards: bool = False,
    weight: float = 0.75,
) -> str:
    """Return one line of text; `upwards` turns it to be read from below, `x` then its right edge."""
    scale = height / HEIGHT
    turn = (
        f"0 {scale:.4f} {-scale:.4f} 0 {x:.2f} {y:.2f}"
        if upwards
        else f"{scale:.4f} 0 0 {scale:.4f} {x:.2f} {y:.2f}"
    )
    return f"q {turn} cm {colour} SC {weight} w {strokes(text)} S Q"


def _code(text: str) -> str:
    """Return the QR code (ISO/IEC 18004), level M, as one filled path of row runs."""
    barcode = zxingcpp.create_barcode(
        text, zxingcpp.BarcodeFormat.QRCode, ec_level="M", data_mask=_MASK
    )
    image = barcode.to_image(scale=1, add_quiet_zones=False)
    modules = image.shape[0]
    pixels = bytes(image)  # type: ignore[call-overload]
    # A light column behind each row keeps runs from going on in the next.
    rows = (pixels[start : start + modules] for start in range(0, modules * modules, modules))
    known = _rectangles(modules)
    runs = [known[run.span()] for run in _DARK.finditer(b"\xff".join(rows))]
    scale = _QR_SIDE / modules
    return (
        f"q {scale:.5f} 0 0 {scale:.5f} {_QR_LEFT} {_QR_BOTTOM} cm 0 0 0 sc\n"
        + "\n".join(runs)
        + "\nf Q"
    )


class _Rectangles(dict[tuple[int, int], str]):
    """The path of each run of dark modules, by where it begins and ends in the rows read as one.

    The same few hundred runs come back in every code; writing their numbers out anew took longer
    than making the code.
    """

    def __init__(self, modules: int) -> None:
        """Take the number of modules in a row."""
        super().__init__()
        self._modules = modules

    def __missing__(self, run: tuple[int, int]) -> str:
        row, left = divmod(run[0], self._modules + 1)
        path = f"{left} {self._modules - 1 - row} {run[1] - run[0]} 1 re"
        self[run] = path
        return path


@lru_cache(maxsize=4)
def _rectangles(modules: int) -> _Rectangles:
    return _Rectangles(modules)

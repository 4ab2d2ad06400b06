"""Letters drawn as strokes, so that a stamp needs no font and stays valid in PDF/A.

Each letter is a set of lines on a grid 4 wide and 6 high; `"00 06 46"` goes from (0, 0) over (0, 6)
to (4, 6). A text is drawn in grid units and scaled by the caller.
"""

from dataclasses import dataclass
from functools import lru_cache

WIDTH = 4
HEIGHT = 6
ADVANCE = 6

_STROKES = {
    "0": "10 30 41 45 36 16 05 01 10",
    "1": "04 26 20;10 30",
    "2": "05 16 36 45 43 00 40",
    "3": "05 16 36 45 44 33 42 41 30 10 01;13 33",
    "4": "30 36 02 42",
    "5": "46 06 03 33 42 41 30 10 01",
    "6": "45 36 16 05 01 10 30 41 42 33 03",
    "7": "06 46 10",
    "8": "13 04 05 16 36 45 44 33 13 02 01 10 30 41 42 33",
    "9": "01 10 30 41 45 36 16 05 04 13 43",
    "A": "00 04 26 44 40;02 42",
    "B": "03 33 44 45 36 06 00 30 41 42 33",
    "C": "45 36 16 05 01 10 30 41",
    "D": "00 06 26 44 42 20 00",
    "E": "46 06 00 40;03 33",
    "F": "46 06 00;03 33",
    "G": "45 36 16 05 01 10 30 41 43 23",
    "H": "00 06;40 46;03 43",
    "I": "10 30;16 36;20 26",
    "J": "01 10 30 41 46",
    "K": "00 06;46 03 40",
    "L": "06 00 40",
    "M": "00 06 23 46 40",
    "N": "00 06 40 46",
    "O": "10 30 41 45 36 16 05 01 10",
    "P": "00 06 36 45 44 33 03",
    "Q": "10 30 41 45 36 16 05 01 10;22 40",
    "R": "00 06 36 45 44 33 03;23 40",
    "S": "45 36 16 05 04 13 33 42 41 30 10 01",
    "T": "06 46;20 26",
    "U": "06 01 10 30 41 46",
    "V": "06 20 46",
    "W": "06 10 23 30 46",
    "X": "00 46;06 40",
    "Y": "06 23 46;20 23",
    "Z": "06 46 00 40",
    "-": "13 33",
    # A dot is a line of no length with round ends.
    ".": "20 20",
}


def text_width(text: str) -> int:
    """Return how wide a text is, in grid units."""
    return max(0, len(text) * ADVANCE - (ADVANCE - WIDTH))


def strokes(text: str) -> bytes:
    """Return the path of a text in grid units, to be stroked; unknown letters are left blank."""
    return b" ".join(map(_letter, text.upper(), range(len(text))))


@lru_cache(maxsize=4096)
def _letter(letter: str, place: int) -> bytes:
    """Return the path of a letter at a place of its line."""
    path = []
    for line in filter(None, _STROKES.get(letter, "").split(";")):
        points = [f"{int(point[0]) + place * ADVANCE} {point[1]}" for point in line.split()]
        path.append(f"{points[0]} m " + " ".join(f"{point} l" for point in points[1:]))
    return " ".join(path).encode("ascii")


@dataclass(frozen=True, slots=True)
class Area:
    """A rectangle of a design, in the design's own units, and how text and squares fit into it."""

    left: float
    bottom: float
    width: float
    height: float

    def line(self, text: str, colour: bytes, *, weight: float = 0.75) -> bytes:
        """Return a text as large as the area allows, centred; upwards where that is the longer way.

        Args:
            text: drawn in capitals.
            colour: three components of the colour space that is set.
            weight: of the strokes, in grid units.
        """
        upwards = self.height > self.width
        along, across = (self.height, self.width) if upwards else (self.width, self.height)
        scale = min(across / HEIGHT, along / max(1, text_width(text)))
        begin, rise = (along - text_width(text) * scale) / 2, (across - HEIGHT * scale) / 2
        turn = (
            (0.0, scale, -scale, 0.0, self.left + self.width - rise, self.bottom + begin)
            if upwards
            else (scale, 0.0, 0.0, scale, self.left + begin, self.bottom + rise)
        )
        return b"q %.4g %.4g %.4g %.4g %.2f %.2f cm %b SC %g w %b S Q" % (
            *turn,
            colour,
            weight,
            strokes(text),
        )

    @property
    def square(self) -> "Area":
        """Return the largest square of the area, centred."""
        side = min(self.width, self.height)
        left, bottom = (self.width - side) / 2, (self.height - side) / 2
        return Area(self.left + left, self.bottom + bottom, side, side)

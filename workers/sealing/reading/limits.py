"""How much one document may ask for: bounds on what is read and unpacked for one sealing.

A few hundred bytes can ask for hours: arrays of millions, streams that inflate a thousandfold,
strings that never end. Work is counted in bytes of objects rather than seconds, so that a document
is refused on every machine or on none. Real documents need some thousand of the 1.5 million.
"""

from io import BytesIO

from pypdf.errors import LimitReachedError

from workers.sealing.errors import SealingError

MAX_WORK = 1_500_000
MAX_DECODED = 32 * 1024 * 1024
# Seconds of CPU: only a renderer knows what its work is. Twenty words looked for in 200 pages take five.
MAX_RENDERING = 8.0
# Looking an object up, however small it is.
OBJECT = 64
# Each reading call of pypdf's, which mostly takes a byte at a time from what is long.
_CALL = 3


class Budget:
    """What is left to one sealing: bytes to be parsed, bytes to be inflated, and seconds of rendering."""

    __slots__ = ("decoded", "rendering", "work")

    def __init__(self) -> None:
        """Begin with all of it."""
        self.work = MAX_WORK
        self.decoded = MAX_DECODED
        self.rendering = MAX_RENDERING

    def rendered(self, seconds: float) -> None:
        """Take some of the time that a renderer may have, for all stamps together.

        Raises:
            SealingError: `document_unprocessable`, when there is none left.
        """
        self.rendering -= seconds
        if self.rendering < 0:
            raise SealingError("document_unprocessable", reason="rendering")

    def spend(self, work: int) -> None:
        """Take some of the work.

        Raises:
            SealingError: `document_unprocessable`, when there is none left.
        """
        self.work -= work
        if self.work < 0:
            raise SealingError("document_unprocessable", reason="limits")


class Metered(BytesIO):
    """Bytes whose every reading is paid for out of a budget."""

    def __init__(self, content: bytes, budget: Budget) -> None:
        """Share the bytes, without copying them."""
        super().__init__(content)
        self._budget = budget

    def read(self, size: int | None = -1, /) -> bytes:
        """Read as BytesIO does.

        Raises:
            LimitReachedError: the budget is spent; the one error that pypdf never makes do with.
        """
        self._budget.work -= _CALL
        if self._budget.work < 0:
            raise LimitReachedError("too much to read")
        return super().read(size)

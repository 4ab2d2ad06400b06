"""What a stream holds, decoded and bounded."""

import zlib
from typing import Any

from pypdf.generic import DictionaryObject, StreamObject

from workers.sealing.errors import SealingError
from workers.sealing.reading.limits import Budget

# Rows under a predictor take several times their size to undo; a million objects take 6 MB.
_MAX_PREDICTED = 8 * 1024 * 1024
# What only pypdf can decode, or undo row by row in Python; no real cross-reference needs it.
_MAX_RARE = 64 * 1024
_PNG = 10
_UP = 2


def decoded(stream: StreamObject, what: str, budget: Budget) -> bytes:
    """Return a stream's content.

    pypdf makes do with deflated data that breaks off; other readers do not, so neither do we.

    Raises:
        SealingError: `document_unreadable`, `document_unprocessable` for a decompression bomb.
    """
    if stream.get("/Filter") in ("/FlateDecode", ["/FlateDecode"]):
        plain = _inflated(stream._data, what, budget)
        if "/DecodeParms" not in stream:
            return plain
        columns = _columns_of_png(stream.get("/DecodeParms"))
        if len(plain) <= _MAX_PREDICTED and columns and _all_up(plain, columns + 1):
            return undo_up(plain, columns)
        if len(plain) > _MAX_RARE:
            raise SealingError("document_unprocessable", reason=what)
    elif "/Filter" not in stream:
        return stream._data
    elif len(stream._data) > _MAX_RARE or _inflations(stream) > 1:
        raise SealingError("document_unprocessable", reason=what)
    try:
        return stream.get_data()
    except Exception as error:
        # pypdf's filters raise whatever the damage leads to.
        raise SealingError("document_unreadable", reason=what) from error


def _inflations(stream: StreamObject) -> int:
    """Return how many filters of a stream make more of less, one inside the other."""
    filters = stream.get("/Filter")
    names = filters if isinstance(filters, list) else [filters]
    return sum(name not in ("/ASCIIHexDecode", "/ASCII85Decode") for name in names)


def _inflated(raw: bytes, what: str, budget: Budget) -> bytes:
    inflater = zlib.decompressobj()
    try:
        # One byte more than there may be tells a stream that ends there from one that goes on.
        plain = inflater.decompress(raw, budget.decoded + 1)
    except zlib.error as error:
        raise SealingError("document_unreadable", reason=what) from error
    budget.decoded -= len(plain)
    if budget.decoded < 0:
        raise SealingError("document_unprocessable", reason=what)
    if not inflater.eof:
        raise SealingError("document_unreadable", reason=what)
    return plain


def _columns_of_png(parameters: Any) -> int:
    """Return the bytes of a row under a PNG predictor of one byte a column, or 0 (7.4.4.4)."""
    if not isinstance(parameters, DictionaryObject):
        return 0
    predictor, columns = parameters.get("/Predictor", 1), parameters.get("/Columns", 1)
    plain_bytes = parameters.get("/Colors", 1) == 1 and parameters.get("/BitsPerComponent", 8) == 8
    fits = isinstance(predictor, int) and predictor >= _PNG and isinstance(columns, int)
    return int(columns) if plain_bytes and fits and 0 < columns <= 64 else 0


def _all_up(plain: bytes, stride: int) -> bool:
    rows, rest = divmod(len(plain), stride)
    return rows > 0 and rest == 0 and plain[::stride].count(_UP) == rows


def undo_up(plain: bytes, columns: int) -> bytes:
    """Undo PNG's Up filter on every row, all rows at once.

    A row is the sum of the differences above it, byte by byte modulo 256. The running sums come from
    doubling, each byte in 16 bits of one large integer, so that the work is done in C: writers of
    cross-reference streams use this filter, and adding row by row in Python would cost more than
    the whole sealing.

    Args:
        plain: rows of one filter byte and `columns` differences.
        columns: bytes of a row without its filter byte.
    """
    stride = columns + 1
    rows = len(plain) // stride
    lanes = bytearray(2 * rows * columns)
    for column in range(columns):
        lanes[2 * column :: 2 * columns] = plain[column + 1 :: stride]
    bits = 8 * len(lanes)
    mask = int.from_bytes(b"\xff\x00" * (rows * columns), "little")
    sums = int.from_bytes(lanes, "little")
    shift = 16 * columns
    while shift < bits:
        sums = (sums + (sums << shift)) & mask
        shift *= 2
    return sums.to_bytes(len(lanes), "little")[::2]

"""The QR code of a stamp (ISO/IEC 18004), level M, as the path of its dark modules.

One path for the whole code: renderers that smooth edges would leave hairlines between parts that are
filled one after the other.
"""

import re
from functools import lru_cache
from operator import getitem

import zxingcpp

# Trying all eight masks (ISO/IEC 18004, 7.8) takes four fifths of making a code and buys nothing: of
# 1,000 codes read back blurred, noisy and askew, 498 were read with the mask so chosen and 484 to 518
# with each of the eight alone, which is within chance.
_MASK = 4
_ALPHABET = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:"
_CAPITALS = re.compile(r"[0-9A-Z $%*+\-./:]+")
_VALUES = bytes.maketrans(_ALPHABET, bytes(range(len(_ALPHABET))))
# zxing's pixels, 0 for dark, as binary digits.
_DIGITS = bytes.maketrans(b"\x00\xff", b"10")
_ROW = b"#"
_ROW_NUMBERS = [b"%d" % row for row in range(177)]


def dark_modules(text: str) -> tuple[int, bytes]:
    """Return how many modules a side of the code has, and the path of the dark ones, a unit each.

    Args:
        text: what the code holds; capitals, digits and `$%*+-./: ` keep it small, and the making quick.
    """
    sum_of = _sums(len(text)) if _CAPITALS.fullmatch(text) else None
    side, packed = _packed(text) if sum_of is None else sum_of.packed(text)
    width = -(-side // 8)
    strips = _strips(side)
    rows = []
    for row in range(side):
        path = b"".join(map(getitem, strips, packed[row * width : (row + 1) * width]))
        rows.append(path.replace(_ROW, _ROW_NUMBERS[side - 1 - row]))
    return side, b"".join(rows)


@lru_cache(maxsize=4)
def _strips(side: int) -> list[list[bytes]]:
    """Return the paths of eight neighbouring modules, by place in a row and by their byte.

    The same ones come back in every code; writing their numbers out anew took longer than making the
    code. `#` stands for the row.
    """
    return [[_strip(left, byte) for byte in range(256)] for left in range(0, side, 8)]


def _strip(left: int, byte: int) -> bytes:
    runs = re.finditer("1+", f"{byte:08b}")
    return b"".join(
        b"%d %b %d 1 re\n" % (left + run.start(), _ROW, run.end() - run.start()) for run in runs
    )


def _packed(text: str) -> tuple[int, bytes]:
    """Return the modules of a side and the code's rows, each filled up to whole bytes, as zxing makes it."""
    code = zxingcpp.create_barcode(
        text, zxingcpp.BarcodeFormat.QRCode, ec_level="M", data_mask=_MASK
    )
    image = code.to_image(scale=1, add_quiet_zones=False)
    side = image.shape[0]
    digits = bytes(image).translate(_DIGITS)  # type: ignore[call-overload]
    width = -(-side // 8)
    rows = [digits[row * side : (row + 1) * side].ljust(8 * width, b"0") for row in range(side)]
    return side, int(b"".join(rows), 2).to_bytes(side * width)


class _Sums:
    """Makes codes for texts of one length by adding up what each pair of characters contributes.

    With version, level and mask fixed, every module is a sum modulo 2 of bits of the text: characters go
    in as pairs of 11 bits (7.4.4), and error correction is linear. So the code of any text is one code
    that zxing made, with the differences added that the text's own bits make; zxing is asked for each
    bit's once. It takes a third of the time of making a code anew, and a tenth of a second at first.
    """

    # Every bit of "A" (10) and of "AA" (45 * 10 + 10) can be turned without leaving the alphabet, and
    # letters are never packed as digits.
    _PAIR, _PAIR_BITS, _LAST, _LAST_BITS = 460, 11, 10, 6
    _LOW_BITS = 5

    def __init__(self, length: int) -> None:
        """Ask zxing for the code of a text of this length, and for what each bit changes in it."""
        self._side, begin = _packed("A" * length)
        self._bytes = len(begin)
        self._begin = int.from_bytes(begin)
        self._tables: list[tuple[list[int], list[int]]] = []
        for at in range(0, length, 2):
            pair = at + 1 < length
            value, bits = (self._PAIR, self._PAIR_BITS) if pair else (self._LAST, self._LAST_BITS)
            changes = [self._change(length, at, value ^ (1 << bit), pair) for bit in range(bits)]
            low, high = changes[: self._LOW_BITS], changes[self._LOW_BITS :]
            self._tables.append(
                (_all_sums(high, value >> self._LOW_BITS), _all_sums(low, value & 31))
            )

    def _change(self, length: int, at: int, value: int, pair: bool) -> int:
        characters = bytes(
            _ALPHABET[v] for v in (divmod(value, len(_ALPHABET)) if pair else (value,))
        ).decode("ascii")
        text = "A" * at + characters + "A" * (length - at - len(characters))
        _, packed = _packed(text)
        return int.from_bytes(packed) ^ self._begin

    def packed(self, text: str) -> tuple[int, bytes]:
        """Return what `_packed` returns."""
        values = text.encode("ascii").translate(_VALUES)
        pairs = [
            45 * first + second for first, second in zip(values[::2], values[1::2], strict=False)
        ]
        if len(values) % 2:
            pairs.append(values[-1])
        total = self._begin
        for (high, low), value in zip(self._tables, pairs, strict=True):
            total ^= high[value >> 5] ^ low[value & 31]
        return self._side, total.to_bytes(self._bytes)


def _all_sums(changes: list[int], begin: int) -> list[int]:
    """Return what to add for each value of some bits, where `begin` is what they are to begin with."""
    sums = [0]
    for change in changes:
        sums += [each ^ change for each in sums]
    return [sums[value ^ begin] for value in range(len(sums))]


@lru_cache(maxsize=4)
def _sums(length: int) -> _Sums | None:
    """Return the sums for a length, or None where they would not give what zxing gives."""
    made = _Sums(length)
    trial = ("KZ$7:Q" * length)[:length]
    return made if made.packed(trial) == _packed(trial) else None

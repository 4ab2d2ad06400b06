"""The code of a voucher: what an applicant types on a phone. Pure: asks no database.

16 characters of Crockford's base 32 in four groups, `7K3M-9QXA-2RTB-C4W6`: 15 random ones (75 bits)
and a Luhn mod 32 check character. Typing forgives: I and L are read as 1, O as 0, small letters as
capitals, and spaces and dashes are nothing.

Every single wrong character and every swap of two neighbours gives a text that is no code. Luhn alone
would miss one swap, of 0 and Z; so no code that is made has these two side by side.
"""

import hashlib
import re
import secrets
from dataclasses import dataclass

from stdnum import luhn

from common.serials import ALPHABET

LENGTH = 16
_GROUP = 4
_OF_BYTES = (ALPHABET * (256 // len(ALPHABET))).encode("ascii")
_SWAP_THAT_LUHN_MISSES = re.compile("0Z|Z0")
_MISREAD = str.maketrans("ILO", "110")
_BETWEEN = re.compile(r"[\s-]+")
# A little shorter and longer than a code: what somebody who meant one may have typed.
_MEANT_AS_CODE = re.compile(r"[A-Z0-9]{12,20}")


@dataclass(frozen=True, slots=True)
class VoucherCode:
    """A code in its one written form; `characters` are 16 without dashes."""

    characters: str

    def __str__(self) -> str:
        """Return the code as it is printed: four groups of four."""
        return "-".join(
            self.characters[start : start + _GROUP] for start in range(0, LENGTH, _GROUP)
        )

    def __repr__(self) -> str:
        """Show the first group only: whoever has a code can spend it, and logs keep what they get."""
        return f"VoucherCode({self.characters[:_GROUP]}…)"

    @property
    def digest(self) -> bytes:
        """Return what is kept of a code: its SHA-256. 75 random bits need no slow hash."""
        return hashlib.sha256(self.characters.encode("ascii")).digest()


class MistypedError(ValueError):
    """This is no code: its length, a character or the check character is wrong."""


def generate() -> VoucherCode:
    """Return a new code that nobody can guess."""
    while True:
        # Every character stands for eight of the 256 bytes, so each is as likely as the others.
        body = secrets.token_bytes(LENGTH - 1).translate(_OF_BYTES).decode("ascii")
        made = body + str(luhn.calc_check_digit(body, alphabet=ALPHABET))
        # Three in a hundred are thrown away, which takes 0.04 of the 75 bits.
        if not _SWAP_THAT_LUHN_MISSES.search(made):
            return VoucherCode(made)


def read(typed: str) -> VoucherCode:
    """Return the code that somebody typed.

    Raises:
        MistypedError: it cannot be one that was ever given out.
    """
    written = as_written(typed)
    if (
        len(written) != LENGTH
        or not all(character in ALPHABET for character in written)
        or _SWAP_THAT_LUHN_MISSES.search(written)
        or not luhn.is_valid(written, alphabet=ALPHABET)
    ):
        raise MistypedError("this is no voucher code: a character is wrong, missing or too much")
    return VoucherCode(written)


def as_written(typed: str) -> str:
    """Return a typed text without what typing may add, whether or not it is a code."""
    return _BETWEEN.sub("", typed).upper().translate(_MISREAD)


def is_meant_as_code(secret: str) -> bool:
    """Say whether a secret has the form of a code, mistyped or not; API keys have an underscore."""
    return _MEANT_AS_CODE.fullmatch(as_written(secret)) is not None

"""What serials look like, ours and the issuer's; asks no database.

Generated ones are Crockford's base 32 (no I, L, O, U): a prefix that tells the mode (`T` test, by default
`S` live), random characters and a Luhn mod 32 check character. Imported ones are whatever the issuer
writes, as long as a QR code, an address and the reason of a signature can carry it.
"""

import re
import secrets
from dataclasses import dataclass

from stdnum import luhn

from common.codes import LONGEST_SERIAL
from common.partners import Mode

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
# Signatures name serials in brackets; shorter ones could be anybody's words there.
SHORTEST_SERIAL = 16
# Five bits each: 80 that nobody can guess.
FEWEST_RANDOM = 16
TEST_PREFIX = "T"
_OF_BYTES = (ALPHABET * (256 // len(ALPHABET))).encode("ascii")
_OURS = re.compile(rf"[0-9A-Z]{{{SHORTEST_SERIAL},{LONGEST_SERIAL}}}")


@dataclass(frozen=True, slots=True)
class Format:
    """How generated serials are written: all characters counted, and what live ones begin with."""

    length: int = 22
    live_prefix: str = "S"

    def __post_init__(self) -> None:
        """Refuse what could be guessed, mistaken for a test serial, or not be printed.

        Raises:
            ValueError: says which.
        """
        if self.length > LONGEST_SERIAL:
            raise ValueError(f"a QR code has room for {LONGEST_SERIAL} characters of serial")
        if not self.live_prefix or not set(self.live_prefix) <= set(ALPHABET):
            raise ValueError(f"the prefix needs one or more of the characters {ALPHABET}")
        if self.live_prefix.startswith(TEST_PREFIX):
            raise ValueError(f"serials of test mode begin with {TEST_PREFIX}, and only they")
        needed = len(self.live_prefix) + FEWEST_RANDOM + 1
        if self.length < needed:
            raise ValueError(
                f"{self.length} characters leave fewer than {FEWEST_RANDOM} random ones;"
                f" with this prefix it takes {needed}"
            )

    def prefix(self, mode: Mode) -> str:
        """Return what serials of a mode begin with."""
        return TEST_PREFIX if mode is Mode.TEST else self.live_prefix


USUAL = Format()


def generate(mode: Mode, format: Format = USUAL) -> str:
    """Return a new serial that nobody can guess."""
    prefix = format.prefix(mode)
    # Every character stands for eight of the 256 bytes, so each is as likely as the others.
    random = secrets.token_bytes(format.length - len(prefix) - 1).translate(_OF_BYTES)
    body = prefix + random.decode("ascii")
    return body + str(luhn.calc_check_digit(body, alphabet=ALPHABET))


def is_well_formed(serial: str) -> bool:
    """Say whether a serial is as we make them, whatever the settings were: its check character fits."""
    return (
        FEWEST_RANDOM + 2 <= len(serial) <= LONGEST_SERIAL
        and all(character in ALPHABET for character in serial)
        and bool(luhn.is_valid(serial, alphabet=ALPHABET))
    )


def may_be_ours(serial: str) -> bool:
    """Say whether a serial could be one of ours, made or imported: 16 to 24 digits and capitals."""
    return _OURS.fullmatch(serial) is not None


def may_be_imported(serial: str) -> bool:
    """Say whether the issuer's list may hold this: it could be ours, and is not of test mode."""
    return may_be_ours(serial) and not is_test(serial)


def is_test(serial: str) -> bool:
    """Say whether a serial is one of test mode, without any value."""
    return serial.startswith(TEST_PREFIX)

"""What a stamp's QR code says: an address, and in it a token that can be checked without asking us.

`HTTPS://STAMP.EXAMPLE/V/<serial>/<token>` opens the verification page. The token says on which date
the serial was put on which document (the first half of its SHA-256), under a whole Ed25519 signature
(RFC 8032). `docs/qr.md` describes it byte for byte; the keys are at `/.well-known/jwks.json`.
"""

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Self
from urllib.parse import unquote, urlsplit

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from common import jwks

VERSION = "1"
HASH_BYTES = 16
LONGEST_SERIAL = 24
_SIGNATURE_BYTES = 64
_BODY_BYTES = 2 + HASH_BYTES + _SIGNATURE_BYTES
# A character holds five bits.
TOKEN_LENGTH = len(VERSION) + -(-_BODY_BYTES * 8 // 5)
# Nothing else that this key could ever sign begins so.
_DOMAIN = f"STAMPEDE CODE {VERSION}\0".encode()
_FIRST_DAY = date(2020, 1, 1)
_LAST_DAY = _FIRST_DAY + timedelta(days=0xFFFF)

# What a version 10 code at level M holds (ISO/IEC 18004, table 7).
_MOST_CAPITALS, _MOST_BYTES = 311, 213
_CAPITALS = re.compile(r"[0-9A-Z $%*+\-./:]*")
# base64.b32encode's alphabet to Crockford's, which serials are written in, and back.
_RFC_4648, _CROCKFORD = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_TO_CROCKFORD = bytes.maketrans(_RFC_4648.encode(), _CROCKFORD.encode())
_FROM_CROCKFORD = bytes.maketrans(_CROCKFORD.encode(), _RFC_4648.encode())
_SERIAL = re.compile(rf"[0-9A-Z]{{1,{LONGEST_SERIAL}}}")
_TOKEN = re.compile(rf"[{_CROCKFORD}]{{{TOKEN_LENGTH}}}")


class CodeError(ValueError):
    """A text is no code of ours, or not a whole one; says why in one sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """What a code says; true only where `check` says so."""

    serial: str
    date: date
    # The first 16 bytes of the SHA-256 of the document as it was accepted.
    document_sha256_start: bytes
    signature: bytes

    @property
    def signed(self) -> bytes:
        """Return the bytes that the signature is over."""
        return _signed(self.serial, self.date, self.document_sha256_start)


class CodeSigner:
    """Makes the texts of codes; made once per process, because parsing a key costs more than signing."""

    def __init__(self, key: Ed25519PrivateKey, *, public_url: str) -> None:
        """Take the key, and the service's public address."""
        self._key = key
        self._begin = f"{address(public_url)}/V/"

    @classmethod
    def from_pem(cls, pem: bytes, *, public_url: str) -> Self:
        """Load the key.

        Raises:
            ValueError: the PEM holds no unencrypted Ed25519 key.
        """
        return cls(jwks.private_key(pem), public_url=public_url)

    def text(self, *, serial: str, day: date, document_sha256: bytes) -> str:
        """Return what the code of a stamp says.

        Args:
            serial: up to 24 digits and capitals.
            day: printed on the stamp.
            document_sha256: of the document as it was accepted, all 32 bytes.
        """
        start = document_sha256[:HASH_BYTES]
        signature = self._key.sign(_signed(serial, day, start))
        packed = base64.b32encode(_day_bytes(day) + start + signature).rstrip(b"=")
        token = VERSION + packed.translate(_TO_CROCKFORD).decode("ascii")
        return f"{self._begin}{serial}/{token}"


def address(public_url: str) -> str:
    """Return a public address as codes write it: scheme and host in capitals, the path as it is.

    Host names know no difference (RFC 3986, 6.2.2.1), paths do. A path with small letters therefore
    makes the code larger, but stays right.
    """
    parts = urlsplit(public_url)
    return f"{parts.scheme}://{parts.netloc}".upper() + parts.path.rstrip("/")


def require_room(public_url: str) -> None:
    """See to it that codes with this address stay at version 10, level M.

    Raises:
        ValueError: the address is too long, or has letters outside ASCII.
    """
    begin = address(public_url)
    if not begin.isascii():
        raise ValueError("write the host of the address in ASCII (xn--…), as codes need it")
    most = _MOST_CAPITALS if _CAPITALS.fullmatch(begin) else _MOST_BYTES
    room = most - len("/V/") - LONGEST_SERIAL - len("/") - TOKEN_LENGTH
    if len(begin) > room:
        raise ValueError(
            f"the address has {len(begin)} characters, more than the {room} that fit into a QR code"
            " beside serial and token"
            + ("; small letters in its path halve the room")
            * (most == _MOST_BYTES)
        )


class PublishedKeys:
    """The public keys that codes are checked against: today's, and those of codes still about."""

    def __init__(self, content: bytes) -> None:
        """Load the keys of a file, PEM or a JSON Web Key Set.

        Raises:
            ValueError: it holds none.
        """
        self._keys = jwks.public_keys(content, jwks.Use.CODE)

    def jwks(self) -> dict[str, list[dict[str, str]]]:
        """Return the key set that codes are checked against (RFC 7517, 5)."""
        return {"keys": [jwks.public_jwk(key, jwks.Use.CODE) for key in self._keys]}

    def signed(self, token: Token) -> bool:
        """Say whether one of these keys signed a token."""
        return check(token, self._keys)


def read(text: str) -> Token:
    """Take a code's text apart; what it says is not checked yet.

    Args:
        text: the whole address, or `<serial>/<token>`; small letters are taken for capitals.

    Raises:
        CodeError: it is not that.
    """
    path = unquote(text.strip().partition("?")[0].partition("#")[0]).rstrip("/")
    before, _, token = path.upper().rpartition("/")
    serial = before.rpartition("/")[2]
    if not _SERIAL.fullmatch(serial) or not token:
        raise CodeError("it is not <serial>/<token>")
    return token_of(serial, token)


def token_of(serial: str, token: str) -> Token:
    """Take a token apart that stands in an address behind its serial.

    Raises:
        CodeError: it is none.
    """
    serial, token = serial.upper(), token.upper()
    if not _SERIAL.fullmatch(serial):
        raise CodeError("the serial is not one")
    if not token.startswith(VERSION):
        raise CodeError("the token is of a format that is not known here")
    if len(token) != TOKEN_LENGTH:
        raise CodeError(f"the token has {len(token)} characters instead of {TOKEN_LENGTH}")
    if not _TOKEN.fullmatch(token):
        raise CodeError("the token has characters that no token has")
    packed = token[len(VERSION) :].encode("ascii").translate(_FROM_CROCKFORD)
    try:
        body = base64.b32decode(packed + b"=" * (-len(packed) % 8))
    except binascii.Error as error:
        raise CodeError("the token cannot be decoded") from error
    if base64.b32encode(body).rstrip(b"=") != packed:
        # The last character has bits to spare; one token is written in one way only.
        raise CodeError("the token's last character is wrong")
    return Token(
        serial=serial,
        date=_FIRST_DAY + timedelta(days=int.from_bytes(body[:2])),
        document_sha256_start=body[2 : 2 + HASH_BYTES],
        signature=body[2 + HASH_BYTES :],
    )


def check(token: Token, keys: Sequence[Ed25519PublicKey]) -> bool:
    """Say whether one of the keys signed a token. The token names none, so each is tried."""
    for key in keys:
        try:
            key.verify(token.signature, token.signed)
        except InvalidSignature:
            continue
        return True
    return False


def _signed(serial: str, day: date, start: bytes) -> bytes:
    return b"".join((_DOMAIN, _day_bytes(day), start, serial.encode("ascii")))


def _day_bytes(day: date) -> bytes:
    if not _FIRST_DAY <= day <= _LAST_DAY:
        raise ValueError(f"no code can be dated {day}")
    return (day - _FIRST_DAY).days.to_bytes(2)

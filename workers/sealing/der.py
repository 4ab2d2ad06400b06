"""Just enough DER (ITU-T X.690) to put a CMS structure around bytes that are already encoded."""

from collections.abc import Iterable

INTEGER = 0x02
BIT_STRING = 0x03
OCTET_STRING = 0x04
NULL = b"\x05\x00"
SEQUENCE = 0x30
SET = 0x31


def tlv(tag: int, *contents: bytes) -> bytes:
    """Return tag, length and contents (X.690, 8.1)."""
    body = b"".join(contents)
    length = len(body)
    if length < 0x80:
        return bytes((tag, length)) + body
    size = length.to_bytes((length.bit_length() + 7) // 8)
    return bytes((tag, 0x80 | len(size))) + size + body


def sequence(*contents: bytes) -> bytes:
    """Return a SEQUENCE of encoded members."""
    return tlv(SEQUENCE, *contents)


def set_of(members: Iterable[bytes]) -> bytes:
    """Return a SET OF, its members in ascending order (X.690, 11.6)."""
    return tlv(SET, *sorted(members))


def integer(value: int) -> bytes:
    """Return an INTEGER that is not negative."""
    return tlv(INTEGER, value.to_bytes(value.bit_length() // 8 + 1))


def bit_string(value: bytes) -> bytes:
    """Return a BIT STRING of whole bytes."""
    return tlv(BIT_STRING, b"\0", value)


def oid(dotted: str) -> bytes:
    """Return an OBJECT IDENTIFIER (X.690, 8.19)."""
    first, second, *rest = (int(arc) for arc in dotted.split("."))
    body = bytearray()
    for arc in (first * 40 + second, *rest):
        groups = [arc & 0x7F]
        while arc := arc >> 7:
            groups.append(0x80 | (arc & 0x7F))
        body += bytes(reversed(groups))
    return tlv(0x06, bytes(body))

"""Just enough DER (ITU-T X.690) to put a CMS structure around bytes that are already encoded."""

from collections.abc import Iterable

INTEGER = 0x02
BIT_STRING = 0x03
OCTET_STRING = 0x04
NULL = b"\x05\x00"
SEQUENCE = 0x30
SET = 0x31
CONTEXT_0 = 0xA0
CONTEXT_1 = 0xA1


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


def first_of(encoded: bytes) -> bytes:
    """Return the structure that some bytes begin with, without what follows it.

    Raises:
        ValueError: it is not DER.
    """
    begin, length = _header(encoded, 0)
    if begin + length > len(encoded):
        raise ValueError("not DER: cut short")
    return encoded[: begin + length]


def members(encoded: bytes) -> list[bytes]:
    """Return the encoded members of a structure.

    Raises:
        ValueError: it is not DER.
    """
    _, contents = _open(encoded)
    found, start = [], 0
    while start < len(contents):
        found.append(first_of(contents[start:]))
        start += len(found[-1])
    return found


def last_member(encoded: bytes, levels: int) -> tuple[int, bytes]:
    """Return tag and contents of the last member of the last member of …, so many levels down.

    Raises:
        ValueError: there are not so many, or it is not DER.
    """
    tag, contents = _open(encoded)
    for _ in range(levels + 1):
        tag, contents = _open(contents[_start_of_last(contents) :])
    return tag, contents


def append_to_last(encoded: bytes, levels: int, addition: bytes) -> bytes:
    """Return a structure with one more member in the last member of the last …, so many levels down.

    Raises:
        ValueError: there are not so many, or it is not DER.
    """
    tag, contents = _open(encoded)
    if levels == 0:
        return tlv(tag, contents, addition)
    start = _start_of_last(contents)
    return tlv(tag, contents[:start], append_to_last(contents[start:], levels - 1, addition))


def _start_of_last(contents: bytes) -> int:
    start = end = 0
    while end < len(contents):
        start = end
        begin, length = _header(contents, start)
        end = begin + length
    if end != len(contents) or not contents:
        raise ValueError("not DER: a member is longer than what it is in")
    return start


def _open(encoded: bytes) -> tuple[int, bytes]:
    """Return tag and contents of what an encoding begins with; what follows is left alone."""
    whole = first_of(encoded)
    begin, _ = _header(whole, 0)
    return whole[0], whole[begin:]


def _header(encoded: bytes, start: int) -> tuple[int, int]:
    """Return where the contents begin and how long they are (X.690, 8.1; no tags above 30)."""
    first = encoded[start + 1] if start + 1 < len(encoded) else 0x80
    if first < 0x80:
        return start + 2, first
    size = first & 0x7F
    if not 1 <= size <= 4 or start + 2 + size > len(encoded):
        raise ValueError("not DER: a length of no use")
    return start + 2 + size, int.from_bytes(encoded[start + 2 : start + 2 + size])

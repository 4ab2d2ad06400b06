"""The signature's place in the file: its dictionary, its byte range, and filling it in.

The dictionary is written with a hole for the signature; then everything but the hole is hashed,
signed, and the signature put there (ISO 32000-2, 12.8.1). The hole may be larger than the signature,
for a timestamp that is added at once or later: what stands in it is covered by nothing.
"""

import hashlib
import re
from collections.abc import Callable
from datetime import UTC, datetime

from workers.sealing.placing.placement import Box
from workers.sealing.revision import Revision, text_string
from workers.sealing.signing import signature, timestamp
from workers.sealing.signing.der import first_of
from workers.sealing.signing.keys import Signer
from workers.sealing.stamps import Sealed

_BYTE_RANGE = b"/ByteRange[0 %010d %010d %010d]"
_WRITTEN_BYTE_RANGE = re.compile(rb"/ByteRange\[0 (\d{10}) (\d{10}) \d{10}\]")

# Takes a signature value and returns a TimeStampToken over it (DER).
Timestamp = Callable[[bytes], bytes]


def reserve(
    revision: Revision,
    *,
    signer: Signer,
    at: datetime,
    reason: str,
    location: str | None,
    timestamp_room: int = 0,
    references: bytes = b"",
) -> int:
    """Put an unsigned signature dictionary into the revision and return its object number.

    `references` is the entry /Reference, where the field's lock asks for it (12.8.2.4).
    """
    number = revision.reserve()
    hole = signature.length(signer) + timestamp_room
    revision.put(number, _signature_dictionary(hole, at, reason, location, references))
    return number


def sign(
    document: bytes,
    revision: bytearray,
    position: int,
    signer: Signer,
    boxes: tuple[Box, ...],
    *,
    timestamp_room: int = 0,
    fetch_timestamp: Timestamp | None = None,
) -> Sealed:
    """Fill in the byte range, sign everything but the signature's own place, and put it there.

    Args:
        document: as it came.
        revision: what stands behind it, with the place for the signature.
        position: where the signature's object begins in the revision.
        signer: the stamping key.
        boxes: where the stamps are.
        timestamp_room: the bytes that were kept free for a timestamp.
        fetch_timestamp: called once with the signature's value; what it raises passes through.

    Raises:
        TokenTooLongError: the timestamp takes more room.
    """
    room = (signature.length(signer) + timestamp_room) * 2
    marker = b"/Contents<" + b"0" * room + b">"
    start = revision.index(marker, position) + len(b"/Contents")
    end = start + room + 2
    base = len(document)
    ranges = _BYTE_RANGE % (base + start, base + end, len(revision) - end)
    at = revision.index(_BYTE_RANGE % (0, 0, 0), position)
    revision[at : at + len(ranges)] = ranges

    running = hashlib.sha256(document)
    document_sha256 = running.digest()
    # What is on record is SHA-256; only a key that signs another digest asks for a second pass.
    digest = signer.algorithm.digest
    signed = running.copy() if digest == "sha256" else hashlib.new(digest, document)
    signed.update(memoryview(revision)[:start])
    signed.update(memoryview(revision)[end:])
    der = signature.sign_digest(signed.digest(), signer)
    if fetch_timestamp is not None:
        token = fetch_timestamp(timestamp.signature_value(der))
        # An ECDSA signature is a little shorter than its place: what it leaves is room too.
        der = timestamp.attach(der, token, room=room // 2 - len(der))
    revision[start + 1 : end - 1] = der.hex().encode().ljust(room, b"0")
    whole = bytes(revision)
    running.update(whole)
    return Sealed(document, whole, boxes, document_sha256, running.digest())


def add_timestamp(sealed: bytes, document_bytes: int, fetch_timestamp: Timestamp) -> bytes:
    """Return a sealed file with a timestamp over its signature: as long as before, and as valid.

    Args:
        sealed: a file of ours, whose signature has no timestamp.
        document_bytes: the length of the document that was sealed.
        fetch_timestamp: called once with the signature's value; what it raises passes through.

    Raises:
        TokenTooLongError: the place of the signature is too small.
        ValueError: the file is not one of ours, or has its timestamp.
    """
    found = _WRITTEN_BYTE_RANGE.search(sealed, document_bytes)
    if found is None:
        raise ValueError("no signature of ours")
    start, end = int(found[1]) + 1, int(found[2]) - 1
    if not document_bytes < start < end < len(sealed) or sealed[start - 1 : start] != b"<":
        raise ValueError("no signature of ours")
    der = first_of(bytes.fromhex(sealed[start:end].decode("ascii")))
    token = fetch_timestamp(timestamp.signature_value(der))
    stamped = timestamp.attach(der, token, room=(end - start) // 2 - len(der))
    filled = stamped.hex().encode().ljust(end - start, b"0")
    return b"".join((memoryview(sealed)[:start], filled, memoryview(sealed)[end:]))


def _signature_dictionary(
    hole_bytes: int, at: datetime, reason: str, location: str | None, references: bytes
) -> bytes:
    """Return the signature's dictionary (12.8.1; EN 319 142-1, 6.3) with room for the signature."""
    room = hole_bytes * 2
    entries = [
        b"<</Type/Sig/Filter/Adobe.PPKLite/SubFilter/ETSI.CAdES.detached",
        _BYTE_RANGE % (0, 0, 0),
        b"/Contents<" + b"0" * room + b">",
        b"/M(%s)" % at.astimezone(UTC).strftime("D:%Y%m%d%H%M%SZ").encode(),
        b"/Reason" + text_string(reason),
    ]
    if location is not None:
        entries.append(b"/Location" + text_string(location))
    entries.append(references)
    return b"".join(entries) + b">>"

"""The signature's place in the file: its dictionary, its byte range, and filling it in.

The dictionary is written with a hole for the signature; then everything but the hole is hashed,
signed, and the signature put there (ISO 32000-2, 12.8.1).
"""

import hashlib
from datetime import UTC, datetime

from workers.sealing import signature
from workers.sealing.keys import Signer
from workers.sealing.placement import Box
from workers.sealing.revision import Revision, text_string
from workers.sealing.stamps import Sealed

_BYTE_RANGE = b"/ByteRange[0 %010d %010d %010d]"


def reserve(
    revision: Revision,
    *,
    signer: Signer,
    at: datetime,
    reason: str,
    location: str | None,
    references: bytes = b"",
) -> int:
    """Put an unsigned signature dictionary into the revision and return its object number.

    `references` is the entry /Reference, where the field's lock asks for it (12.8.2.4).
    """
    number = revision.reserve()
    revision.put(number, _signature_dictionary(signer, at, reason, location, references))
    return number


def sign(
    document: bytes, revision: bytearray, position: int, signer: Signer, boxes: tuple[Box, ...]
) -> Sealed:
    """Fill in the byte range, sign everything but the signature's own place, and put it there.

    `position` is where the signature's object begins in the revision.
    """
    room = signature.length(signer) * 2
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
    revision[start + 1 : end - 1] = der.hex().encode().ljust(room, b"0")
    whole = bytes(revision)
    running.update(whole)
    return Sealed(document, whole, boxes, document_sha256, running.digest())


def _signature_dictionary(
    signer: Signer, at: datetime, reason: str, location: str | None, references: bytes
) -> bytes:
    """Return the signature's dictionary (12.8.1; EN 319 142-1, 6.3) with room for the signature."""
    room = signature.length(signer) * 2
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

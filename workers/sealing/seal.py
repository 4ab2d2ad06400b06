"""Seals a document: draws its stamps, adds one signature field, and signs the whole file."""

from collections.abc import Sequence
from datetime import datetime

from workers.sealing import annotations, permissions, placement, repair, signing
from workers.sealing.design import Design
from workers.sealing.document import Document
from workers.sealing.errors import SealingError
from workers.sealing.keys import Signer
from workers.sealing.revision import Revision
from workers.sealing.stamps import Sealed, Stamp


def seal(
    document: bytes,
    stamps: Sequence[Stamp],
    *,
    signer: Signer,
    at: datetime,
    reason: str,
    location: str | None = None,
    design: Design | None = None,
) -> Sealed:
    """Draw the stamps on a document and sign all of it (PAdES B-B).

    Args:
        document: a PDF; never changed, the result begins with exactly these bytes.
        stamps: one or more; all are covered by the one signature.
        signer: the stamping key.
        at: the time that the signature claims.
        reason: what the signature says it is for.
        location: where, if it is to say so.
        design: an issuer's own; the built-in SPECIMEN when not given.

    Raises:
        SealingError: the document or a placement is at fault.
    """
    if not stamps:
        raise ValueError("there is nothing to draw")
    return repair.attempt(
        document,
        lambda source: _seal(
            source,
            stamps,
            signer=signer,
            at=at,
            reason=reason,
            location=location,
            design=design,
        ),
    )


def _seal(
    source: Document,
    stamps: Sequence[Stamp],
    *,
    signer: Signer,
    at: datetime,
    reason: str,
    location: str | None,
    design: Design | None,
) -> Sealed:
    permissions.refuse_forbidden(source, annotations.field_name(stamps[0]))
    if len(stamps) > 1 and any(permissions.signed_fields(source)):
        # Earlier signatures allow a new signature field, but no annotations beside it.
        raise SealingError("document_locked", reason="several stamps")
    places = [placement.resolve(source, stamp.placement) for stamp in stamps]
    revision = Revision(source)
    unsigned = signing.reserve(revision, signer=signer, at=at, reason=reason, location=location)
    annotations.draw(source, revision, stamps, places, unsigned, design)
    written = bytearray(revision.write())
    boxes = tuple(place.box for place in places)
    return signing.sign(source.data, written, revision.positions[unsigned], signer, boxes)

"""Seals a document: draws its stamps, adds one signature field, and signs the whole file."""

from collections.abc import Sequence
from datetime import datetime

from workers.sealing import annotations, permissions, placement, repair, security_store, signing
from workers.sealing.design import Design
from workers.sealing.document import Document
from workers.sealing.errors import SealingError
from workers.sealing.keys import Signer
from workers.sealing.revision import Revision
from workers.sealing.security_store import Evidence
from workers.sealing.signing import Timestamp
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
    evidence: Evidence | None = None,
    timestamp_room: int = 0,
    fetch_timestamp: Timestamp | None = None,
) -> Sealed:
    """Draw the stamps on a document and sign all of it (PAdES B-B, or what is asked for).

    With `fetch_timestamp` the level is B-T, with `evidence` as well B-LT; all of it stands in one
    revision. Room for a timestamp that is not fetched lets `add_timestamp` bring it later.

    Args:
        document: a PDF; never changed, the result begins with exactly these bytes.
        stamps: one or more; all are covered by the one signature.
        signer: the stamping key.
        at: the time that the signature claims.
        reason: what the signature says it is for.
        location: where, if it is to say so.
        design: an issuer's own; the built-in SPECIMEN when not given.
        evidence: certificates and revocation data for the document's security store.
        timestamp_room: bytes to keep free for a timestamp; see `timestamp.room_for`.
        fetch_timestamp: takes the signature's value and returns a TimeStampToken over it (DER).

    Raises:
        SealingError: the document or a placement is at fault.
        TokenTooLongError: the timestamp takes more than its room; says how much it takes.
        Exception: what `fetch_timestamp` raises.
    """
    if not stamps:
        raise ValueError("there is nothing to draw")

    def work(source: Document) -> Sealed:
        permissions.refuse_forbidden(source, annotations.field_name(stamps[0]))
        if len(stamps) > 1 and any(permissions.signed_fields(source)):
            # Earlier signatures allow a new signature field, but no annotations beside it.
            raise SealingError("document_locked", reason="several stamps")
        places = [placement.resolve(source, stamp.placement) for stamp in stamps]
        revision = Revision(source)
        unsigned = signing.reserve(
            revision,
            signer=signer,
            at=at,
            reason=reason,
            location=location,
            timestamp_room=timestamp_room,
        )
        annotations.draw(source, revision, stamps, places, unsigned, design)
        if evidence is not None:
            security_store.add(source, revision, evidence)
        written = bytearray(revision.write())
        boxes = tuple(place.box for place in places)
        return signing.sign(
            source.data,
            written,
            revision.positions[unsigned],
            signer,
            boxes,
            timestamp_room=timestamp_room,
            fetch_timestamp=fetch_timestamp,
        )

    return repair.attempt(document, work)

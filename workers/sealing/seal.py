"""Seals a document: draws its stamps, adds or fills one signature field, and signs the whole file."""

from collections.abc import Sequence
from datetime import datetime

from workers.sealing.drawing import annotations
from workers.sealing.drawing.design import Design
from workers.sealing.errors import SealingError
from workers.sealing.placing import fields, locate
from workers.sealing.placing.locate import Place
from workers.sealing.reading import repair
from workers.sealing.reading.document import Document
from workers.sealing.revision import Revision
from workers.sealing.signing import byte_range, permissions, security_store, seeds
from workers.sealing.signing.byte_range import Timestamp
from workers.sealing.signing.keys import Signer
from workers.sealing.signing.security_store import Evidence
from workers.sealing.signing.seeds import Offer
from workers.sealing.stamps import Drawn, Sealed, Stamp


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

    def work(source: Document) -> Sealed:
        places, signed_before = _allowed(source, stamps)
        field = places[locate.carrier(places)].field
        references = b""
        if field is not None:
            offer = Offer(reason=reason, signer=signer, timestamped=fetch_timestamp is not None)
            seeds.refuse_unmet(source, field, offer)
            references = fields.references(source, field)
        revision = Revision(source)
        unsigned = byte_range.reserve(
            revision,
            signer=signer,
            at=at,
            reason=reason,
            location=location,
            timestamp_room=timestamp_room,
            references=references,
        )
        annotations.draw(
            source,
            revision,
            stamps,
            places,
            design,
            signature=unsigned,
            signed_before=signed_before,
        )
        if evidence is not None:
            security_store.add(source, revision, evidence)
        return byte_range.sign(
            source.data,
            bytearray(revision.write()),
            revision.positions[unsigned],
            signer,
            tuple(place.box for place in places),
            timestamp_room=timestamp_room,
            fetch_timestamp=fetch_timestamp,
        )

    return repair.attempt(document, work)


def draw(document: bytes, stamps: Sequence[Stamp], *, design: Design | None = None) -> Drawn:
    """Draw the stamps on a document as `seal` would, but sign nothing and fill in no field.

    Raises:
        SealingError: the document or a placement is at fault, as in `seal`, but for what a field asks
            of a signature.
    """
    return repair.attempt(document, lambda source: _draw(source, stamps, design))


def _draw(source: Document, stamps: Sequence[Stamp], design: Design | None) -> Drawn:
    places, signed_before = _allowed(source, stamps)
    revision = Revision(source)
    annotations.draw(
        source, revision, stamps, places, design, signature=None, signed_before=signed_before
    )
    return Drawn(source.data, revision.write(), tuple(place.box for place in places))


def _allowed(source: Document, stamps: Sequence[Stamp]) -> tuple[list[Place], bool]:
    """Return where the stamps go, and whether the document was signed before.

    Raises:
        SealingError: a placement is at fault, or earlier signatures do not allow the stamps.
    """
    if not stamps:
        raise ValueError("there is nothing to draw")
    named = [stamp.placement.field for stamp in stamps if stamp.placement.field is not None]
    name = named[0] if named else annotations.field_name(stamps[0])
    signed_before = permissions.refuse_forbidden(source, name, exists=bool(named))
    if len(stamps) > 1 and signed_before:
        # Earlier signatures allow a signature field, but no annotations beside it.
        raise SealingError("document_locked", reason="several stamps")
    places = locate.places(source, [stamp.placement for stamp in stamps])
    field = places[locate.carrier(places)].field
    if signed_before and field is not None and not field.is_merged:
        # The drawing changes the widget. pyHanko lets a field change that is being signed, but takes a
        # widget that is an object of its own for something else, and the earlier signature for broken.
        raise SealingError("document_locked", field=field.name, reason="separate widget")
    return places, signed_before

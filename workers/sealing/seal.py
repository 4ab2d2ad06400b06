"""Seals a document: draws its stamps, adds one signature field, and signs the whole file."""

from collections.abc import Sequence
from datetime import datetime

from workers.sealing import annotations, fields, locate, permissions, repair, seeds, signing
from workers.sealing.design import Design
from workers.sealing.document import Document
from workers.sealing.errors import SealingError
from workers.sealing.keys import Signer
from workers.sealing.locate import Place
from workers.sealing.revision import Revision
from workers.sealing.seeds import Offer
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


def draw(document: bytes, stamps: Sequence[Stamp], *, design: Design | None = None) -> Drawn:
    """Draw the stamps on a document as `seal` would, but sign nothing and fill in no field.

    Raises:
        SealingError: the document or a placement is at fault, as in `seal`, but for what a field asks
            of a signature.
    """
    return repair.attempt(document, lambda source: _draw(source, stamps, design))


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
    places, signed_before = _allowed(source, stamps)
    field = places[locate.carrier(places)].field
    references = b""
    if field is not None:
        seeds.refuse_unmet(source, field, Offer(reason=reason, signer=signer))
        references = fields.references(source, field)
    revision = Revision(source)
    unsigned = signing.reserve(
        revision, signer=signer, at=at, reason=reason, location=location, references=references
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
    written = bytearray(revision.write())
    boxes = tuple(place.box for place in places)
    return signing.sign(source.data, written, revision.positions[unsigned], signer, boxes)


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

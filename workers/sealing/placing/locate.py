"""Where stamps go: what each placement means in this document."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from workers.sealing.errors import SealingError
from workers.sealing.placing import fields, room, text
from workers.sealing.placing.fields import Field
from workers.sealing.placing.placement import TOLERANCE, Box, Placement, Rectangle, box_on
from workers.sealing.reading import pages
from workers.sealing.reading.document import Document
from workers.sealing.reading.pages import Page


@dataclass(frozen=True, slots=True)
class Place:
    """Where a stamp goes: the page, the box on it, and the field that it fills, if it fills one."""

    page: Page
    box: Box
    field: Field | None = None


def places(document: Document, placements: Sequence[Placement]) -> list[Place]:
    """Return the places that placements mean, in their order.

    Those that look for room are resolved last, so that they keep clear of the others.

    Raises:
        SealingError: `document_no_pages`, `page_out_of_range`, `box_off_page`, `anchor_not_found`,
            `field_not_found`, `field_not_empty`, `field_unusable`, `no_room`, `stamps_overlap`,
            `document_unreadable`, `document_unprocessable`.
    """
    found: dict[int, Place] = {}
    looking = [n for n, placement in enumerate(placements) if _looks_for_room(placement)]
    for index in [n for n in range(len(placements)) if n not in looking] + looking:
        taken = [place.box for place in found.values()]
        found[index] = _place(document, placements[index], taken)
    _refuse_overlaps([found[index].box for index in range(len(placements))])
    return [found[index] for index in range(len(placements))]


def carrier(places: Sequence[Place]) -> int:
    """Return which stamp carries the signature: the one in a field of the document, else the first.

    Raises:
        SealingError: `field_unusable`, when there are several: one signature fills one field.
    """
    filled = [(n, place.field) for n, place in enumerate(places) if place.field is not None]
    if len(filled) > 1:
        raise SealingError("field_unusable", field=filled[1][1].name, reason="several fields")
    return filled[0][0] if filled else 0


def _place(document: Document, placement: Placement, taken: Sequence[Box]) -> Place:
    if placement.field is not None:
        field = fields.find(document, placement.field)
        return Place(*fields.place(document, field), field)
    if placement.anchor is not None:
        return Place(*text.find(document, placement))
    if _looks_for_room(placement):
        return Place(*room.find(document, placement, taken))
    page = pages.find(document, placement.page or "last")
    return Place(page, box_on(placement, page))


def _looks_for_room(placement: Placement) -> bool:
    return (
        placement.position == "auto"
        and placement.x is None
        and placement.anchor is None
        and placement.field is None
    )


def _refuse_overlaps(boxes: Sequence[Box]) -> None:
    for (first, one), (second, other) in combinations(enumerate(boxes, start=1), 2):
        if one.page == other.page and _overlap(one.rectangle, other.rectangle):
            raise SealingError("stamps_overlap", page=one.page, stamps=[first, second])


def _overlap(one: Rectangle, other: Rectangle) -> bool:
    """Say whether two boxes share more than an edge."""
    return (
        min(one[2], other[2]) - max(one[0], other[0]) > TOLERANCE
        and min(one[3], other[3]) - max(one[1], other[1]) > TOLERANCE
    )

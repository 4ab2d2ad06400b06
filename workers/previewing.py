"""Answers what a stamp is going to look like on a document, small enough for an answer."""

import base64
from datetime import UTC, datetime
from typing import Any

from common.placements import Placement
from common.problems import Code, ProblemError
from common.replies import ANSWER_BYTES
from workers.placing import WIB, engine_placement
from workers.previews import PagePicture, Preview, PreviewBox, preview
from workers.sealing import Design, SealingError, Stamp

# The longer side of a picture in pixels, largest first: photographs on many pages get the smaller ones.
_SIDES = (1200, 800, 500, 300)
# What stands around the pictures in an answer.
_FACTS_BYTES = 64 * 1024


def answer(
    document: bytes,
    asked: dict[str, Any],
    *,
    face_value: int,
    serial_length: int,
    design: Design | None,
) -> dict[str, Any]:
    """Answer the question of a preview: the boxes of the stamps, and each page that carries one.

    Args:
        document: the file.
        asked: `stamps`, the placements as the API has them.
        face_value: in rupiah.
        serial_length: characters of a serial, as far as that is known beforehand.
        design: the issuer's own, if any.

    Raises:
        ProblemError: whatever would fail a job with these placements, by the same codes.
    """
    stamps = [
        _stamp(Placement.model_validate(p), face_value, serial_length) for p in asked["stamps"]
    ]
    try:
        return _as_json(_small_enough(document, stamps, design))
    except SealingError as error:
        raise ProblemError(Code(error.code), facts=dict(error.detail)) from error


def _small_enough(document: bytes, stamps: list[Stamp], design: Design | None) -> Preview:
    """Draw with the largest pictures that fit into an answer.

    Raises:
        ProblemError: `document_unprocessable`, when even small pictures are too large.
    """
    most = (ANSWER_BYTES - _FACTS_BYTES) * 3 // 4
    for side in _SIDES:
        drawn = preview(document, stamps, design=design, longest_side=side)
        if sum(len(page.png) for page in drawn.pages) <= most:
            return drawn
    raise ProblemError(Code.DOCUMENT_UNPROCESSABLE, facts={"reason": "pictures too large"})


def _stamp(placement: Placement, face_value: int, serial_length: int) -> Stamp:
    """Return a stamp as a job would get it; what it says in place of a serial is the drawing's."""
    return Stamp(
        serial="X" * serial_length,
        qr_text="",
        face_value=face_value,
        date=datetime.now(UTC).astimezone(WIB).date(),
        specimen=True,
        placement=engine_placement(placement),
    )


def _as_json(drawn: Preview) -> dict[str, Any]:
    sizes = {box.page: (box.page_width, box.page_height) for box in drawn.boxes}
    return {
        "pages": [_page_json(page, *sizes[page.page]) for page in drawn.pages],
        "stamps": [_box_json(box) for box in drawn.boxes],
    }


def _page_json(page: PagePicture, width: float, height: float) -> dict[str, Any]:
    return {
        "page": page.page,
        "width": width,
        "height": height,
        "dpi": page.dpi,
        "png": base64.b64encode(page.png).decode(),
    }


def _box_json(box: PreviewBox) -> dict[str, Any]:
    return {"page": box.page, "x": box.x, "y": box.y, "width": box.width, "height": box.height}

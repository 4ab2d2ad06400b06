"""`/v1/placements`: see where stamps would go, before a job is made."""

import base64

from flask import Blueprint, Response, request
from pydantic import BaseModel, Field

from common import lanes
from common.problems import JOB_FAILURES, Code
from web.answers import JSON, json_answer
from web.api.fields import StampFields
from web.api.intake import DOCUMENT_PART, MULTIPART, PDF, read_upload, refuse_unstampable
from web.callers import caller
from web.openapi import Answers, Operation, described
from web.parts import parts

PNG = "image/png"
blueprint = Blueprint("placements", __name__, url_prefix="/v1/placements")


class PreviewPage(BaseModel):
    """A page with stamps on it, as the reader sees it; lengths in points."""

    page: int
    width: float
    height: float
    dpi: float = Field(description="Pixels of the picture that are an inch of the page.")
    png: str = Field(
        description="The picture, base64.",
        json_schema_extra={"contentEncoding": "base64", "contentMediaType": PNG},
    )


class StampBox(BaseModel):
    """Where a stamp stands, in points from the visible page's lower left corner."""

    page: int
    x: float
    y: float
    width: float
    height: float


class PlacementPreview(BaseModel):
    """The pages that carry stamps, in order, and the stamps in the order they were asked for."""

    pages: list[PreviewPage]
    stamps: list[StampBox]


@blueprint.post("/preview")
@described(
    Operation(
        tag="Jobs",
        takes_vouchers=True,
        summary="See where stamps would go",
        description="Takes the placement fields of `POST /v1/jobs` and draws what a job would, without "
        "a signature, a serial number or a job; it costs nothing, and the document is not kept. What "
        "would fail the job is answered here, by the same codes. `Accept: image/png` gets the first "
        "page with a stamp as a picture. The answer comes at once, from a worker that gives up after a "
        "few seconds; when all are busy it is 503 with `Retry-After`.",
        query=StampFields,
        body={MULTIPART: StampFields, PDF: None},
        files=(DOCUMENT_PART,),
        answers={
            200: Answers(description="Boxes and pictures.", model=PlacementPreview, pictures=(PNG,))
        },
        problems=(
            Code.BAD_REQUEST,
            Code.DOCUMENT_TOO_LARGE,
            Code.CONTENT_TYPE_UNSUPPORTED,
            Code.FIELD_UNKNOWN,
            Code.FIELD_INVALID,
            Code.DOCUMENT_MISSING,
            Code.DOCUMENT_EMPTY,
            *JOB_FAILURES,
        ),
    )
)
def preview() -> Response:
    """Show what a job with these fields would draw."""
    caller(vouchers=True)
    upload = read_upload(StampFields, max_bytes=parts().settings.max_document_bytes)
    refuse_unstampable(upload.document)
    asked = {"stamps": [placement.as_json() for placement in upload.fields.placements()]}
    drawn = parts().asker.ask(lanes.PREVIEW_TASK, upload.document, asked)
    headers = {"Cache-Control": "no-store", "Vary": "Accept"}
    if request.accept_mimetypes.best_match([JSON, PNG]) == PNG:
        picture = base64.b64decode(drawn["pages"][0]["png"])
        return Response(picture, content_type=PNG, headers=headers)
    return json_answer(drawn, headers=headers)

"""Seeing where stamps would go: drawn by a worker, by the fields and codes of a job, without one."""

import base64
import json
from collections.abc import Callable
from io import BytesIO
from typing import Any

import pypdf
import pytest
from flask.testing import FlaskClient
from jsonschema_rs import validator_for
from PIL import Image, ImageChops
from sqlalchemy import text
from werkzeug.test import TestResponse

from common.database import Database
from common.problems import PROBLEMS, Code
from common.settings import WebSettings
from tests.service.test_replies import inbox
from tests.stack import Account, eventually

pytestmark = pytest.mark.usefixtures("checkers")
Preview = Callable[..., TestResponse]


@pytest.fixture
def preview(client: FlaskClient, account: Account) -> Preview:
    def preview(
        document: bytes, *, accept: str = "application/json", **fields: Any
    ) -> TestResponse:
        return client.post(
            "/v1/placements/preview",
            data=fields | {"document": (BytesIO(document), "letter.pdf")},
            headers=account.test | {"Accept": accept},
        )

    return preview


def picture(page: dict[str, Any]) -> Image.Image:
    return Image.open(BytesIO(base64.b64decode(page["png"]))).convert("RGB")


def jobs_and_holds(db: Database, account: Account) -> int:
    with db.transaction() as connection:
        return int(
            connection.execute(
                text("select count(*) from jobs where partner_id = :id"), {"id": account.partner_id}
            ).scalar_one()
        )


def test_the_picture_shows_the_stamp_where_the_box_says(
    preview: Preview,
    letter: bytes,
    client: FlaskClient,
    db: Database,
    account: Account,
    web_settings: WebSettings,
) -> None:
    here = preview(letter, x=100, y=200).json
    there = preview(letter, x=300, y=500).json
    description = client.get("/openapi.json").json
    validator_for(
        {
            "$ref": "#/components/schemas/PlacementPreview",
            "components": description["components"],
        }
    ).validate(here)
    assert here["stamps"] == [{"page": 1, "x": 100, "y": 200, "width": 80, "height": 80}]
    (page,) = here["pages"]
    scale = page["dpi"] / 72
    differing = ImageChops.difference(picture(page), picture(there["pages"][0])).getbbox()
    assert differing is not None
    # From the lower left stamp to the upper right one, and nothing beyond.
    left, top, right, bottom = (edge / scale for edge in differing)
    assert abs(left - 100) < 2
    assert abs(right - 380) < 2
    assert abs(page["height"] - bottom - 200) < 2
    assert abs(page["height"] - top - 580) < 2
    assert jobs_and_holds(db, account) == 0
    eventually(lambda: inbox(web_settings) == [])


def test_the_box_can_be_sent_back_as_it_came(preview: Preview, letter: bytes) -> None:
    (found,) = preview(letter, position="top-right", margin=10).json["stamps"]
    again = preview(letter, **found).json["stamps"]
    assert again == [found]


def test_several_stamps_come_in_their_order_with_each_page_once(
    preview: Preview, letter: bytes
) -> None:
    writer = pypdf.PdfWriter(clone_from=BytesIO(letter))
    writer.append(BytesIO(letter))
    out = BytesIO()
    writer.write(out)
    asked = [
        {"page": 2, "position": "top-left"},
        {"page": 1},
        {"page": 2, "position": "bottom-right"},
    ]
    found = preview(out.getvalue(), stamps=json.dumps(asked)).json
    assert [box["page"] for box in found["stamps"]] == [2, 1, 2]
    assert [page["page"] for page in found["pages"]] == [1, 2]


def test_a_picture_comes_alone_when_it_is_asked_for(preview: Preview, letter: bytes) -> None:
    answer = preview(letter, accept="image/png")
    assert (answer.status_code, answer.content_type) == (200, "image/png")
    assert answer.headers["Vary"] == "Accept"
    assert Image.open(BytesIO(answer.data)).format == "PNG"


@pytest.mark.parametrize(
    "fields, code",
    [
        ({"page": 9}, Code.PAGE_OUT_OF_RANGE),
        ({"x": 590, "y": 10}, Code.BOX_OFF_PAGE),
        ({"anchor": "no such words in it"}, Code.ANCHOR_NOT_FOUND),
        ({"field": "Signature1"}, Code.FIELD_NOT_FOUND),
        ({"x": 1, "y": 1, "anchor": "a"}, Code.FIELD_INVALID),
        ({"colour": "red"}, Code.FIELD_UNKNOWN),
        ({"external_reference": "a job's"}, Code.FIELD_UNKNOWN),
    ],
)
def test_what_would_fail_a_job_is_refused_by_the_same_code(
    preview: Preview, letter: bytes, fields: dict[str, Any], code: Code
) -> None:
    answer = preview(letter, **fields)
    assert (answer.status_code, answer.json["code"]) == (PROBLEMS[code].status, code)
    asked_for_a_picture = preview(letter, accept="image/png", **fields)
    assert asked_for_a_picture.content_type == "application/problem+json"


def test_a_document_that_cannot_be_stamped_is_refused_too(preview: Preview, letter: bytes) -> None:
    assert preview(b"noise").json["code"] == "document_not_pdf"
    broken = letter.replace(b"/Type/Page/", b"/Type/Pig//").replace(b"/Kids[", b"/Kidz[")
    assert preview(broken).status_code == 422


def test_a_key_is_needed(client: FlaskClient, letter: bytes) -> None:
    answer = client.post("/v1/placements/preview", data={"document": (BytesIO(letter), "a.pdf")})
    assert answer.json["code"] == "key_missing"

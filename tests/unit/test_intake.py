"""What the bytes of a document give away before anybody parses it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from common.problems import Code, ProblemError
from web.api.intake import JobFields, refuse_unstampable

TABLE = b"xref\n0 1\n0000000000 65535 f \n"


def classic(trailer: bytes = b"<</Size 1/Root 1 0 R>>", *, body: bytes = b"") -> bytes:
    head = b"%PDF-1.7\n" + body
    return head + TABLE + b"trailer" + trailer + b"\nstartxref\n%d\n%%%%EOF\n" % len(head)


def streamed(dictionary: bytes) -> bytes:
    head = b"%PDF-1.7\n"
    stream = b"5 0 obj" + dictionary + b"stream\nxyz\nendstream endobj\n"
    return head + stream + b"startxref\n%d\n%%%%EOF\n" % len(head)


def refused(document: bytes) -> Code | None:
    try:
        refuse_unstampable(document)
    except ProblemError as error:
        return error.code
    return None


def test_a_sound_document_passes() -> None:
    assert refused(classic()) is None
    assert refused(streamed(b"<</Type/XRef/Size 6>>")) is None


def test_an_empty_document_is_refused() -> None:
    assert refused(b"") is Code.DOCUMENT_EMPTY


@pytest.mark.parametrize("content", [b"PK\x03\x04 a zip", b"hello", b"\x00" * 2000 + b"%PDF-1.7"])
def test_what_is_no_pdf_is_refused(content: bytes) -> None:
    assert refused(content) is Code.DOCUMENT_NOT_PDF


def test_a_document_cut_short_is_refused() -> None:
    assert refused(classic()[:40]) is Code.DOCUMENT_UNREADABLE


@pytest.mark.parametrize(
    "document",
    [
        classic(b"<</Size 1/Root 1 0 R/Encrypt 7 0 R>>"),
        classic(b"<</Size 1/Encrypt\n7 0\nR/Root 1 0 R>>"),
        classic(b"<</Encrypt<</Filter/Standard>>/Size 1>>"),
        streamed(b"<</Type/XRef/Encrypt 7 0 R>>"),
        b"junk\n" + streamed(b"<</Type/XRef/Encrypt 7 0 R>>"),
    ],
)
def test_encryption_is_seen_in_the_trailer(document: bytes) -> None:
    assert refused(document) is Code.DOCUMENT_ENCRYPTED


def test_a_text_that_mentions_encryption_is_not_encrypted() -> None:
    assert refused(classic(body=b"1 0 obj (/Encrypt 7 0 R) endobj\n")) is None
    assert refused(classic(b"<</Size 1/EncryptMetadata true>>")) is None


@given(st.binary(max_size=400))
def test_no_bytes_make_the_look_fall_over(noise: bytes) -> None:
    refused(b"%PDF-1.4" + noise + b"startxref\n" + noise)


def test_fields_arrive_as_texts_and_become_values() -> None:
    fields = JobFields.model_validate(
        {"page": "2", "x": "10.5", "y": "20", "metadata": '{"a": "b"}'}
    )
    assert (fields.page, fields.x, fields.metadata) == (2, 10.5, {"a": "b"})
    assert fields.placement().model_dump(exclude_none=True) == {
        "page": 2,
        "x": 10.5,
        "y": 20.0,
    }


@pytest.mark.parametrize(
    "values",
    [
        {"x": "1"},
        {"x": "1", "y": "1", "corner": "top-left"},
        {"x": "nan", "y": "1"},
        {"x": "inf", "y": "1"},
        {"width": "0"},
        {"width": "-5"},
        {"height": "1e9"},
        {"page": "first"},
        {"page": "1.5"},
        {"corner": "middle"},
        {"metadata": "[1]"},
        {"metadata": "{"},
        {"metadata": '{"a": 1}'},
        {"metadata": '{"a": "\\u0000"}'},
        {"external_reference": "x" * 201},
        {"external_reference": "a\x00b"},
        {"external_reference": ""},
    ],
)
def test_a_field_that_cannot_be_used_is_refused(values: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        JobFields.model_validate(values)


def test_metadata_is_bounded() -> None:
    with pytest.raises(ValidationError):
        JobFields.model_validate({"metadata": {f"key{n}": "" for n in range(21)}})
    with pytest.raises(ValidationError):
        JobFields.model_validate({"metadata": {"a": "x" * 501}})


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"page": "0"}, Code.PAGE_OUT_OF_RANGE),
        ({"page": "-1"}, Code.PAGE_OUT_OF_RANGE),
        ({"page": "1000001"}, Code.PAGE_OUT_OF_RANGE),
        ({"x": "-1", "y": "0"}, Code.BOX_OFF_PAGE),
    ],
)
def test_what_no_page_could_hold_is_refused_at_once(values: dict[str, str], code: Code) -> None:
    with pytest.raises(ProblemError) as refusal:
        JobFields.model_validate(values)
    assert refusal.value.code is code

"""What the bytes of a document give away before anybody parses it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.problems import Code, ProblemError
from web.api.intake import refuse_unstampable

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
    objects = b"1 0 obj\n<<>>\nendobj\n2 0 obj\n<</Type/Page"
    assert refused(b"%PDF-1.7\n" + objects) is Code.DOCUMENT_UNREADABLE


def test_a_document_that_lacks_nothing_but_the_line_at_its_end_is_the_workers_to_judge() -> None:
    whole = classic(body=b"1 0 obj\n<<>>\nendobj\n")
    assert refused(whole[: whole.rindex(b"startxref")]) is None


def test_encryption_is_seen_where_the_line_at_the_end_is_missing() -> None:
    whole = classic(b"<</Size 1/Encrypt 7 0 R>>", body=b"1 0 obj\n<<>>\nendobj\n")
    assert refused(whole[: whole.rindex(b"startxref")]) is Code.DOCUMENT_ENCRYPTED


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

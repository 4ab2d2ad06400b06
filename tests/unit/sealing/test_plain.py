"""What is read as plain is what pypdf reads; what is not plain is left to it."""

import re
from io import BytesIO
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pypdf.generic import IndirectObject, read_object

from tests.corpus.cases import CASES
from workers.sealing.reading import plain


class Strict:
    """What pypdf's parser asks of a reader."""

    strict = True


PDF: Any = Strict()


def told(value: Any) -> Any:
    """Return an object with the kinds of all that is in it."""
    if isinstance(value, IndirectObject):
        return "reference", value.idnum, value.generation
    if isinstance(value, dict):
        return type(value), [(k, type(k), told(value.raw_get(k))) for k in value]  # type: ignore[attr-defined]
    if isinstance(value, list):
        return type(value), [told(item) for item in list.__iter__(value)]
    return type(value), value


def by_pypdf(text: bytes) -> Any:
    return read_object(BytesIO(text.strip(b"\x00\t\n\x0c\r ") + b"\n"), PDF)


@pytest.mark.parametrize(
    "text",
    [
        b"<<>>",
        b"[]",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 595.5 -842]/Rotate 90/Kids [ 1 0 R 12 65535 R ]>>",
        b"<< /A true /B false\n/C<</D[/E/F[1]]>> >>\r\n",
        b"[1 0 R 2 1 0 R 0 0 1 2 3 0 R]",
        b"<</A 1\t0\rR/B -1>>",
    ],
)
def test_a_plain_object_is_read_as_pypdf_reads_it(text: bytes) -> None:
    found = plain.read(text, PDF)
    assert found is not None
    assert told(found) == told(by_pypdf(text))


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"12",
        b"/Name",
        b"1 0 R",
        b"<</A(text)>>",
        b"<</A<00>>>",
        b"<</A null>>",
        b"<</A 1%\n>>",
        b"<</A#42 1>>",
        b"<</A 1/A 2>>",
        b"<</A>>",
        b"<<1 2>>",
        b"<</A[1>>]",
        b"<</A 1>>>>",
        b"<</A 1>> 2",
        b"<</A 1",
        b"<</A 12-3>>",
        b"<</A 1_2>>",
        b"<</A trueR>>",
        b"<</A (x) 1 R",
        b"<</A 01 0 R>>",
        b"<</A +1>>",
        b"<</A\x001>>",
        b"<</A 1\x000 R>>",
        b"<</A --1>>",
        b"<</ 1>>",
        b"[" * 30 + b"]" * 30,
    ],
)
def test_what_is_not_plain_is_left_to_pypdf(text: bytes) -> None:
    assert plain.read(text, PDF) is None


PIECES = [
    *(b"<<", b">>", b"[", b"]", b"/A", b"/B.c-d", b"1", b"-2", b"3.5", b"0", b"1 0 R", b"7 12 R"),
    *(b"true", b"false", b"null", b"(s)", b"<00>", b"%c\n", b"#", b"R", b".", b"+", b"-", b"_"),
    *(b" ", b"\n", b"\x00"),
]


@given(st.lists(st.sampled_from(PIECES), max_size=12).map(b"".join))
def test_whatever_is_read_as_plain_is_what_pypdf_reads(inside: bytes) -> None:
    for text in (b"<<" + inside + b">>", b"[" + inside + b"]"):
        found = plain.read(text, PDF)
        if found is not None:
            assert told(found) == told(by_pypdf(text))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_of_real_documents_the_plain_objects_are_what_pypdf_reads(case: Any) -> None:
    heads = list(re.finditer(rb"\d+ \d+ obj\b", case.content))[:400]
    for head in heads:
        end = case.content.find(b"endobj", head.end(), head.end() + 4096)
        text = case.content[head.end() : end]
        found = plain.read(text, PDF) if end > 0 else None
        if found is not None:
            assert told(found) == told(by_pypdf(text))

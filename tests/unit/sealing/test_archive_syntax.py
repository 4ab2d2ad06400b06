"""What is appended keeps the rules on syntax of PDF/A (ISO 19005-1, 6.1; later parts ask for less)."""

import re
from io import BytesIO

import pypdf
import pytest
from pypdf.generic import ArrayObject

from tests.unit.sealing.conftest import Seal, stamp
from tests.unit.sealing.damage import without_startxref
from tests.unit.sealing.documents import classic, objects, streamed

METADATA = b"<</Type/Metadata/Subtype/XML/Length 10>>stream\n<x:xmpmeta\nendstream"
MADE = objects(catalogue=b"/Metadata 20 0 R/AcroForm<</Fields[]>>") | {20: METADATA}
IDENTIFIED = b"/ID[<aabb><ccdd>]"
ARCHIVES = {
    "a table": classic(MADE, trailer=IDENTIFIED),
    "a table to be rebuilt": without_startxref(classic(MADE, trailer=IDENTIFIED)),
    "a stream": streamed(MADE).replace(b"/Type/XRef", b"/Type/XRef" + IDENTIFIED),
    "no end of line": classic(MADE, trailer=IDENTIFIED, end=b""),
    "carriage returns": classic(MADE, trailer=IDENTIFIED, end=b"\r"),
}

OBJECT = re.compile(rb"(\d+) (\d+) obj\n(.*?)\nendobj\n", re.S)
STREAM = re.compile(rb"(<<.*?>>)stream\n(.*)\nendstream", re.S)


def revision_of(kind: str, sealed: Seal) -> bytes:
    result = sealed(ARCHIVES[kind], stamp())
    revision = result.revision
    if not ARCHIVES[kind].endswith((b"\n", b"\r")):
        assert revision.startswith(b"\n")
    return revision.lstrip(b"\n")


@pytest.mark.parametrize("kind", ARCHIVES)
def test_objects_stand_on_lines_of_their_own(kind: str, sealed: Seal) -> None:
    revision = revision_of(kind, sealed)
    found = OBJECT.findall(revision)
    assert len(found) >= 5
    # 6.1.8: nothing but objects comes before the cross-reference.
    tail = OBJECT.sub(b"", revision)
    assert re.fullmatch(rb"(xref\n.*)?startxref\n\d+\n%%EOF\n", tail, re.S)


@pytest.mark.parametrize("kind", ARCHIVES)
def test_streams_begin_and_end_on_lines_and_are_as_long_as_they_say(
    kind: str, sealed: Seal
) -> None:
    streams = [
        stream
        for _, _, body in OBJECT.findall(revision_of(kind, sealed))
        if (stream := STREAM.fullmatch(body)) is not None
    ]
    assert streams
    for stream in streams:
        length = re.search(rb"/Length (\d+)", stream[1])
        assert length is not None
        assert int(length[1]) == len(stream[2])
        # 6.1.10 and 6.1.7: no LZW, nothing outside the file.
        assert not re.search(rb"/LZWDecode|/F[ (]|/FFilter|/FDecodeParms", stream[1])


@pytest.mark.parametrize("kind", ["a table", "a table to be rebuilt", "no end of line"])
def test_the_table_is_laid_out_to_the_letter(kind: str, sealed: Seal) -> None:
    table = re.search(
        rb"\nxref\n((?:\d+ \d+\n(?:\d{10} \d{5} [nf] \n)+)+)trailer\n<<.*>>\nstartxref\n",
        revision_of(kind, sealed),
    )
    assert table is not None
    counts = re.findall(rb"^\d+ (\d+)$", table[1], re.M)
    assert sum(map(int, counts)) == len(re.findall(rb" [nf] \n", table[1]))


@pytest.mark.parametrize("kind", ARCHIVES)
def test_hexadecimal_strings_have_an_even_number_of_digits(kind: str, sealed: Seal) -> None:
    bodies = b"".join(
        STREAM.sub(rb"\1", body) for _, _, body in OBJECT.findall(revision_of(kind, sealed))
    )
    strings = re.findall(rb"(?<!<)<([^<>]*)>(?!>)", bodies)
    assert strings
    assert all(
        len(digits) % 2 == 0 and re.fullmatch(rb"[0-9a-fA-F]*", digits) for digits in strings
    )


@pytest.mark.parametrize("kind", ARCHIVES)
def test_the_first_identifier_and_the_metadata_stay(kind: str, sealed: Seal) -> None:
    result = sealed(ARCHIVES[kind])
    reader = pypdf.PdfReader(BytesIO(result.bytes))
    identifiers = reader.trailer["/ID"]
    assert isinstance(identifiers, ArrayObject)
    assert identifiers[0].original_bytes == b"\xaa\xbb"
    assert len(identifiers[1].original_bytes) == 16
    assert b"20 0 obj" not in result.revision
    assert reader.root_object.raw_get("/Metadata").idnum == 20


@pytest.mark.parametrize("kind", ARCHIVES)
def test_annotations_are_printed_and_have_one_appearance_and_nothing_shines_through(
    kind: str, sealed: Seal
) -> None:
    result = sealed(ARCHIVES[kind])
    page = pypdf.PdfReader(BytesIO(result.bytes)).pages[0]
    (annotation,) = (each.get_object() for each in page["/Annots"])  # type: ignore[attr-defined]
    # 6.5.3: printed, and not hidden, invisible or out of view.
    assert annotation["/F"] & 0b100111 == 0b100
    assert list(annotation["/AP"]) == ["/N"]
    assert "/CA" not in annotation
    assert "/C" not in annotation
    # 6.4, 6.6: no transparency, no actions.
    assert not re.search(rb"/SMask|/BM\b|/ca\b|/Group|/JavaScript|/AA\b|/A\b", result.revision)

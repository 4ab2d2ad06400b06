"""Stamps in tagged documents: a structure element that describes them, found from the annotation."""

from io import BytesIO
from pathlib import Path
from typing import Any

import pypdf
import pytest
from pyhanko.sign.fields import MDPPerm
from pypdf.generic import IndirectObject

from tests.unit.sealing.conftest import SERIAL, Seal, stamp
from tests.unit.sealing.documents import classic, objects, streamed
from tests.unit.sealing.test_fields import merged
from tests.unit.sealing.test_fields_signed_before import Certify, certified
from tests.unit.sealing.test_judges import said_by
from workers.checking import check

__all__ = ["certified"]

MARKED = b"/MarkInfo<</Marked true>>/Lang(id)/StructTreeRoot 50 0 R"
PARAGRAPH = b"<</Type/StructElem/S/P/P 51 0 R/Pg 10 0 R/K 0>>"


def tagged(
    *,
    root: bytes = b"/K[51 0 R]/ParentTree 53 0 R/ParentTreeNextKey 1",
    top: bytes = b"/S/Document/K[52 0 R]",
    parents: bytes = b"<</Nums[0 [52 0 R]]>>",
    page: bytes = b"/StructParents 0",
) -> dict[int, bytes]:
    return objects(page=page, catalogue=MARKED) | {
        50: b"<</Type/StructTreeRoot%s>>" % root,
        51: b"<</Type/StructElem/P 50 0 R%s>>" % top,
        52: PARAGRAPH,
        53: parents,
    }


BUILDS = {
    "flat": tagged(),
    "empty": tagged(root=b"/ParentTree 53 0 R", parents=b"<</Nums[]>>"),
    "no parent tree": tagged(root=b"/K[51 0 R]"),
    "no next key": tagged(root=b"/K[51 0 R]/ParentTree 53 0 R"),
    "a next key that is too small": tagged(
        root=b"/K 51 0 R/ParentTree 53 0 R/ParentTreeNextKey 1",
        parents=b"<< /Nums [ 0 [ 52 0 R ] 7 52 0 R ] >>",
    ),
    "a parent tree in place": tagged(root=b"/K[51 0 R]/ParentTree<</Nums[0 [52 0 R] 3 52 0 R]>>"),
    "a parent tree with kids": tagged(parents=b"<</Kids[54 0 R 55 0 R]>>")
    | {54: b"<</Limits[0 0]/Nums[0 [52 0 R]]>>", 55: b"<</Limits[4 9]/Nums[4 52 0 R 9 52 0 R]>>"},
    "one kid of the document": tagged(top=b"/S/Document/K 52 0 R"),
    "content of the document": tagged(top=b"/S/Document/K 5"),
    "a document without kids": tagged(top=b"/S /Document"),
    "marked content in place": tagged(top=b"/S/Document/K[<</Type/MCR/MCID 0/Pg 10 0 R>>]"),
    "no document element": tagged(top=b"/S/Sect/K[52 0 R]"),
    "several on top": tagged(root=b"/K[51 0 R 52 0 R]/ParentTree 53 0 R"),
    "kids by reference": tagged(root=b"/K 56 0 R/ParentTree 53 0 R") | {56: b"[51 0 R 52 0 R]"},
}


def element(document: bytes, annotation: int = -1) -> tuple[Any, Any]:
    """Return a stamp's annotation, and the element that its /StructParent leads to."""
    reader: Any = pypdf.PdfReader(BytesIO(document), strict=True)
    page = reader.pages[-1]
    found = page["/Annots"][annotation].get_object()
    root = reader.trailer["/Root"]["/StructTreeRoot"]
    numbers = _numbers(root["/ParentTree"])
    assert list(numbers) == sorted(numbers)
    assert root["/ParentTreeNextKey"] > max(numbers)
    return found, numbers[found["/StructParent"]].get_object()


def _numbers(node: Any) -> dict[int, Any]:
    """Read a number tree, and hold it to what the standard says of its limits."""
    found: dict[int, Any] = {}
    if "/Nums" in node:
        pairs = node["/Nums"]
        found = dict(zip(pairs[::2], (pairs[n] for n in range(1, len(pairs), 2)), strict=True))
        raw = [
            pairs.raw_get(n) if hasattr(pairs, "raw_get") else pairs[n] for n in range(len(pairs))
        ]
        found = dict(zip((int(n) for n in raw[::2]), raw[1::2], strict=True))
    for kid in node.get("/Kids", []):
        below = _numbers(kid.get_object())
        limits = kid.get_object()["/Limits"]
        assert (min(below), max(below)) == (limits[0], limits[1])
        found |= below
    return found


def _reached(reader: Any, wanted: int) -> bool:
    """Say whether an element is reached from the root of the structure."""
    pending = [reader.trailer["/Root"]["/StructTreeRoot"]]
    for node in pending:
        kids = node.get("/K", [])
        raw = node.raw_get("/K") if "/K" in node else None
        each = list(kids) if isinstance(kids, list) else [raw]
        for kid in each:
            if isinstance(kid, IndirectObject):
                if kid.idnum == wanted:
                    return True
                pending.append(kid.get_object())
    return False


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("write", [classic, streamed], ids=["table", "stream"])
def test_the_stamp_has_an_element_that_describes_it(
    build: str, write: Any, sealed: Seal, root: bytes
) -> None:
    result = sealed(write(BUILDS[build]))
    assert check(result.bytes, trust_roots_pem=root).good
    annotation, found = element(result.bytes)
    assert found["/S"] == "/Form"
    assert SERIAL in str(found["/Alt"])
    assert found["/Alt"] == annotation["/Contents"] == annotation["/TU"]
    kid: Any = found["/K"]
    assert kid["/Type"] == "/OBJR"
    assert kid["/Obj"]["/Subtype"] == "/Widget"
    reader: Any = pypdf.PdfReader(BytesIO(result.bytes))
    assert found.indirect_reference is not None
    assert _reached(reader, found.indirect_reference.idnum)
    assert reader.pages[-1]["/Tabs"] == "/S"
    # What was there before is there still, under the same numbers.
    assert _reached(reader, 51) or build == "empty"


def test_it_stands_in_the_document_element(sealed: Seal) -> None:
    _, found = element(sealed(classic(BUILDS["flat"])).bytes)
    above: Any = found["/P"]
    assert above["/S"] == "/Document"
    assert len(above["/K"]) == 2


def test_further_stamps_are_described_too(sealed: Seal) -> None:
    other = "S8866D64HDNEMYYPY5A1GB"
    result = sealed(classic(BUILDS["flat"]), stamp(), stamp(other, position="top-left"))
    (_, first), (_, second) = element(result.bytes, 0), element(result.bytes, 1)
    assert (first["/S"], second["/S"]) == ("/Form", "/Annot")
    assert other in str(second["/Alt"])


def test_a_stamped_document_stays_as_its_signature_saw_it(sealed: Seal, root: bytes) -> None:
    once = sealed(classic(BUILDS["flat"])).bytes
    twice = sealed(once, stamp("S8866D64HDNEMYYPY5A1GB", position="top-left"))
    first, second = check(twice.bytes, trust_roots_pem=root).signatures
    assert first.intact
    assert first.changed_after in ("lta_updates", "form_filling")
    assert second.intact
    assert b"StructElem" not in twice.revision


def test_a_tab_order_that_was_chosen_is_kept(sealed: Seal) -> None:
    result = sealed(classic(tagged(page=b"/StructParents 0/Tabs/R")))
    reader: Any = pypdf.PdfReader(BytesIO(result.bytes))
    assert reader.pages[0]["/Tabs"] == "/R"


def test_a_field_of_the_document_has_its_own_place_in_the_structure(
    sealed: Seal, root: bytes
) -> None:
    made = tagged() | {n: merged()[n] for n in (30,)}
    made[1] = made[1].replace(MARKED, MARKED + b"/AcroForm<</Fields[30 0 R]/SigFlags 3>>")
    made[10] = made[10].replace(b"/StructParents 0", b"/StructParents 0/Annots[30 0 R]")
    result = sealed(classic(made), field="Sign here")
    assert check(result.bytes, trust_roots_pem=root).good
    assert b"StructElem" not in result.revision


ODD = {
    "not a dictionary": tagged() | {50: b"[]"},
    "missing": tagged() | {50: b"null"},
    "a parent tree of text": tagged(parents=b"(tree)"),
    "a parent tree that is missing": tagged(parents=b"null"),
    "values in place": tagged(parents=b"<</Nums[0 <</A 1>>]>>"),
    "kids without limits": tagged(parents=b"<</Kids[54 0 R]>>") | {54: b"<</Nums[0 52 0 R]>>"},
    "half a pair": tagged(parents=b"<</Nums[0]>>"),
    "a root that is too long": tagged(
        root=b"/K[51 0 R]/ParentTree 53 0 R/RoleMap<<%s>>" % (b"/Abcdefgh/Span" * 1500)
    ),
}


@pytest.mark.parametrize("kind", ODD)
def test_a_tree_that_is_odd_is_left_alone_and_the_stamp_described_in_place(
    kind: str, sealed: Seal, root: bytes
) -> None:
    result = sealed(classic(ODD[kind]))
    assert check(result.bytes, trust_roots_pem=root).good
    assert b"StructElem" not in result.revision
    assert b"/StructParent " not in result.revision
    assert SERIAL.encode() in result.revision.partition(b"/TU")[2]


def test_a_root_that_cannot_be_found_is_no_reason_to_refuse(sealed: Seal, root: bytes) -> None:
    made = tagged()
    document = classic(made)
    at = document.index(b"50 0 obj")
    document = document[:at] + b"59 0 obj" + document[at + 8 :]
    result = sealed(document)
    assert check(result.bytes, trust_roots_pem=root).good


def test_a_long_tree_is_added_to_without_being_parsed(sealed: Seal, root: bytes) -> None:
    things = 2000
    kids = b" ".join(b"52 0 R" for _ in range(things))
    pairs = b" ".join(b"%d [52 0 R]" % n for n in range(things))
    made = tagged(top=b"/S/Document/K[%s]" % kids, parents=b"<</Nums[%s]>>" % pairs)
    document = classic(made)
    result = sealed(document)
    annotation, found = element(result.bytes)
    assert annotation["/StructParent"] == things
    assert SERIAL in str(found["/Alt"])


@pytest.mark.parametrize("level", [None, MDPPerm.FILL_FORMS])
def test_a_field_of_a_tagged_and_signed_document_is_filled_in(
    level: MDPPerm | None, certified: Certify, sealed: Seal, root: bytes
) -> None:
    made = tagged() | {30: merged()[30]}
    made[1] = made[1].replace(MARKED, MARKED + b"/AcroForm<</Fields[30 0 R]/SigFlags 3>>")
    made[10] = made[10].replace(b"/StructParents 0", b"/StructParents 0/Annots[30 0 R]")
    result = sealed(certified(classic(made), level), field="Sign here")
    first, ours = check(result.bytes, trust_roots_pem=root).signatures
    assert (first.intact, first.changed_after) == (True, "form_filling")
    assert ours.intact


@pytest.mark.system
@pytest.mark.parametrize("build", BUILDS)
def test_qpdf_and_pdfinfo_read_the_structure(build: str, sealed: Seal, tmp_path: Path) -> None:
    file = tmp_path / "sealed.pdf"
    file.write_bytes(sealed(classic(BUILDS[build])).bytes)
    assert "No syntax or stream encoding errors found" in said_by("qpdf", "--check", str(file))
    said = said_by("pdfinfo", "-struct", str(file))
    assert "Form" in said
    assert "Object" in said

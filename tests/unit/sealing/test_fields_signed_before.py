"""Empty fields of documents that pyHanko signed or certified before: filled in without harm, or refused."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import zxingcpp
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
from pyhanko.sign import fields, signers
from pyhanko.sign.fields import FieldMDPAction, FieldMDPSpec, MDPPerm

from deploy.specimen import SpecimenChain
from tests.unit.sealing.conftest import Seal, stamp
from tests.unit.sealing.documents import classic
from tests.unit.sealing.test_fields import DOCUMENTS, merged, picture, separate
from tests.unit.sealing.test_judges import said_by
from workers.checking import check
from workers.sealing import SealingError

Certify = Callable[..., bytes]


@pytest.fixture(scope="module")
def certified(chain: SpecimenChain, tmp_path_factory: pytest.TempPathFactory) -> Certify:
    """Have pyHanko certify, or sign, a document in a field `First`, and leave an empty one."""
    folder = tmp_path_factory.mktemp("pyhanko")
    mark = b"-----END CERTIFICATE-----\n"
    first, _, rest = chain.chain.read_bytes().partition(mark)
    (folder / "leaf.pem").write_bytes(first + mark)
    (folder / "ca.pem").write_bytes(rest)
    signer: Any = signers.SimpleSigner.load(  # type: ignore[no-untyped-call]
        str(chain.signer_key),
        str(folder / "leaf.pem"),
        ca_chain_files=(str(folder / "ca.pem"),),
    )

    def certified(
        document: bytes, level: MDPPerm | None, *, lock: FieldMDPSpec | None = None
    ) -> bytes:
        out = BytesIO()
        signers.PdfSigner(
            signers.PdfSignatureMetadata(
                field_name="First",
                certify=level is not None,
                docmdp_permissions=level or MDPPerm.FILL_FORMS,
            ),
            signer=signer,
            new_field_spec=fields.SigFieldSpec(
                "First", on_page=0, box=(72, 500, 200, 550), field_mdp_spec=lock
            ),
        ).sign_pdf(IncrementalPdfFileWriter(BytesIO(document)), output=out)
        return out.getvalue()

    return certified


MERGED = [build for build in DOCUMENTS if DOCUMENTS[build][1] == "Sign here"]


@pytest.mark.parametrize("level", [None, MDPPerm.FILL_FORMS, MDPPerm.ANNOTATE])
@pytest.mark.parametrize("build", MERGED)
def test_filling_in_a_field_leaves_an_earlier_signature_valid(
    build: str, level: MDPPerm | None, certified: Certify, sealed: Seal, root: bytes
) -> None:
    document, name = DOCUMENTS[build]
    result = sealed(certified(document, level), field=name)
    first, ours = check(result.bytes, trust_roots_pem=root).signatures
    assert (first.field, first.intact, first.trusted) == ("First", True, True)
    assert first.changed_after == "form_filling"
    assert (ours.field, ours.intact, ours.whole_file) == (name, True, True)
    assert b"/Annots" not in result.revision
    assert len(zxingcpp.read_barcodes(picture(result.bytes))) == 1


@pytest.mark.system
@pytest.mark.parametrize("level", [None, MDPPerm.FILL_FORMS, MDPPerm.ANNOTATE])
@pytest.mark.parametrize("build", MERGED)
def test_pdfsig_and_qpdf_agree(
    build: str, level: MDPPerm | None, certified: Certify, sealed: Seal, tmp_path: Path
) -> None:
    document, name = DOCUMENTS[build]
    file = tmp_path / "sealed.pdf"
    file.write_bytes(sealed(certified(document, level), field=name).bytes)
    assert said_by("pdfsig", "-nocert", str(file)).count("Signature is Valid") == 2
    assert "No syntax or stream encoding errors found" in said_by("qpdf", "--check", str(file))


def test_a_separate_widget_beside_an_earlier_signature_is_refused(
    certified: Certify, sealed: Seal
) -> None:
    with pytest.raises(SealingError) as refusal:
        sealed(certified(classic(separate()), MDPPerm.FILL_FORMS), field="letter.stamp")
    assert refusal.value.code == "document_locked"
    assert refusal.value.detail == {"field": "letter.stamp", "reason": "separate widget"}


def test_a_certification_against_any_change_is_kept(certified: Certify, sealed: Seal) -> None:
    with pytest.raises(SealingError) as refusal:
        sealed(certified(classic(merged()), MDPPerm.NO_CHANGES), field="Sign here")
    assert (refusal.value.code, refusal.value.detail) == ("document_certified", {"access": 1})


@pytest.mark.parametrize(
    "lock",
    [
        FieldMDPSpec(FieldMDPAction.ALL),
        FieldMDPSpec(FieldMDPAction.INCLUDE, fields=["letter"]),
        FieldMDPSpec(FieldMDPAction.INCLUDE, fields=["letter.stamp"]),
        FieldMDPSpec(FieldMDPAction.EXCLUDE, fields=["letters"]),
    ],
    ids=["all", "what is above it", "it", "all but another"],
)
def test_a_field_that_an_earlier_signature_locks_is_refused(
    lock: FieldMDPSpec, certified: Certify, sealed: Seal
) -> None:
    with pytest.raises(SealingError) as refusal:
        sealed(certified(classic(separate()), None, lock=lock), field="letter.stamp")
    assert (refusal.value.code, refusal.value.detail) == ("document_locked", {"field": "First"})


def test_a_field_beside_what_is_locked_is_signed(
    certified: Certify, sealed: Seal, root: bytes
) -> None:
    lock = FieldMDPSpec(FieldMDPAction.EXCLUDE, fields=["Sign here"])
    result = sealed(certified(classic(merged()), None, lock=lock), field="Sign here")
    first, ours = check(result.bytes, trust_roots_pem=root).signatures
    assert first.intact
    assert first.changed_after == "form_filling"
    assert ours.intact


def test_several_stamps_are_refused_beside_an_earlier_signature(
    certified: Certify, sealed: Seal
) -> None:
    with pytest.raises(SealingError) as refusal:
        sealed(
            certified(classic(merged()), None),
            stamp(field="Sign here"),
            stamp("S8866D64HDNEMYYPY5A1GB"),
        )
    assert (refusal.value.code, refusal.value.detail) == (
        "document_locked",
        {"reason": "several stamps"},
    )

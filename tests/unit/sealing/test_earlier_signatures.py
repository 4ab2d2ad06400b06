"""Documents that pyHanko signed, certified or locked before: stamped without harm, or refused."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
from pyhanko.sign import fields, signers
from pyhanko.sign.fields import FieldMDPAction, FieldMDPSpec, MDPPerm

from deploy.sample import sample_letter
from deploy.specimen import SpecimenChain
from tests.unit.sealing.conftest import SERIAL, Seal, stamp
from workers.checking import check
from workers.sealing import SealingError

Sign = Callable[..., bytes]


@pytest.fixture(scope="module")
def signed(chain: SpecimenChain, tmp_path_factory: pytest.TempPathFactory) -> Sign:
    """Sign the sample letter with pyHanko; the arguments say what the signature allows."""
    folder = tmp_path_factory.mktemp("pyhanko")
    end = b"-----END CERTIFICATE-----\n"
    first, _, rest = chain.chain.read_bytes().partition(end)
    leaf, issuer = _written(folder / "leaf.pem", first + end), _written(folder / "ca.pem", rest)
    signer: Any = signers.SimpleSigner.load(  # type: ignore[no-untyped-call]
        str(chain.signer_key), str(leaf), ca_chain_files=(str(issuer),)
    )

    def signed(
        *,
        certify: MDPPerm | None = None,
        lock: FieldMDPSpec | None = None,
        after: MDPPerm | None = None,
    ) -> bytes:
        out = BytesIO()
        signers.PdfSigner(
            signers.PdfSignatureMetadata(
                field_name="First",
                certify=certify is not None,
                docmdp_permissions=certify or MDPPerm.FILL_FORMS,
            ),
            signer=signer,
            new_field_spec=fields.SigFieldSpec(
                "First",
                on_page=0,
                box=(72, 400, 200, 450),
                field_mdp_spec=lock,
                doc_mdp_update_value=after,
            ),
        ).sign_pdf(IncrementalPdfFileWriter(BytesIO(sample_letter())), output=out)
        return out.getvalue()

    return signed


def _written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    "allows",
    [
        {},
        {"lock": FieldMDPSpec(FieldMDPAction.INCLUDE, fields=["Another"])},
        {"lock": FieldMDPSpec(FieldMDPAction.EXCLUDE, fields=[f"Stampede {SERIAL}"])},
    ],
    ids=["a signature", "a lock on another field", "a lock on all but ours"],
)
def test_an_earlier_signature_stays_valid(
    allows: dict[str, Any], signed: Sign, sealed: Seal, root: bytes
) -> None:
    first, ours = check(sealed(signed(**allows)).bytes, trust_roots_pem=root).signatures
    assert (first.field, first.intact, first.trusted) == ("First", True, True)
    assert first.changed_after in ("lta_updates", "form_filling")
    assert (ours.serial, ours.intact, ours.trusted, ours.whole_file) == (SERIAL, True, True, True)


@pytest.mark.parametrize("level", [MDPPerm.NO_CHANGES, MDPPerm.FILL_FORMS, MDPPerm.ANNOTATE])
def test_a_certification_that_a_stamp_would_break_is_kept(
    level: MDPPerm, signed: Sign, sealed: Seal
) -> None:
    with pytest.raises(SealingError) as refusal:
        sealed(signed(certify=level))
    assert refusal.value.code == "document_certified"
    assert refusal.value.detail == {"access": level.value}


@pytest.mark.parametrize(
    "allows",
    [
        {"lock": FieldMDPSpec(FieldMDPAction.ALL)},
        {"lock": FieldMDPSpec(FieldMDPAction.EXCLUDE, fields=["Another"])},
        {"lock": FieldMDPSpec(FieldMDPAction.INCLUDE, fields=[f"Stampede {SERIAL}"])},
        {"lock": FieldMDPSpec(FieldMDPAction.INCLUDE, fields=["X"]), "after": MDPPerm.NO_CHANGES},
        {"lock": FieldMDPSpec(FieldMDPAction.INCLUDE, fields=["X"]), "after": MDPPerm.FILL_FORMS},
        {"lock": FieldMDPSpec(FieldMDPAction.INCLUDE, fields=["X"]), "after": MDPPerm.ANNOTATE},
    ],
    ids=["all", "all but another", "ours", "no changes", "filling in only", "comments only"],
)
def test_a_lock_that_a_stamp_would_break_is_kept(
    allows: dict[str, Any], signed: Sign, sealed: Seal
) -> None:
    with pytest.raises(SealingError) as refusal:
        sealed(signed(**allows))
    assert (refusal.value.code, refusal.value.detail) == ("document_locked", {"field": "First"})


def test_several_stamps_are_refused_where_they_would_break_a_signature(
    signed: Sign, sealed: Seal
) -> None:
    with pytest.raises(SealingError, match="document_locked"):
        sealed(signed(), stamp(), stamp("S8866D64HDNEMYYPY5A1GB", position="top-left"))

"""Signatures of every kind of key judged by pdfsig (NSS) and by openssl."""

import re
import subprocess
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from asn1crypto import keys as asn1_keys
from asn1crypto import x509 as asn1_x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
from pyhanko.sign import fields, signers
from pyhanko_certvalidator.registry import SimpleCertificateStore

from deploy.sample import sample_letter
from tests.chains import KINDS, Issued, key_of, pem
from tests.unit.sealing.test_keys import sealed_by, signer_of

pytestmark = pytest.mark.system

# What NSS and OpenSSL 3.0 do not know in CMS, whoever made the signature.
UNKNOWN_TO_THEM = "Ed25519"
KNOWN = [kind for kind in KINDS if kind != UNKNOWN_TO_THEM]


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)


def pdfsig(document: bytes, folder: Path) -> str:
    file = folder / "sealed.pdf"
    file.write_bytes(document)
    return run("pdfsig", "-nocert", str(file)).stdout


def openssl(document: bytes, issued: Issued, folder: Path) -> subprocess.CompletedProcess[str]:
    found = re.search(rb"/ByteRange\[0 (\d+) (\d+) (\d+)\]", document)
    assert found is not None
    before, after, length = (int(number) for number in found.groups())
    padded = bytes.fromhex(document[before + 1 : after - 1].decode())
    # An outer SEQUENCE of 256 to 65,535 bytes has a header of four (X.690, 8.1.3.5).
    signature = padded[: 4 + int.from_bytes(padded[2:4])]
    assert not any(padded[len(signature) :])
    for name, content in (
        ("signature.der", signature),
        ("signed", document[:before] + document[after : after + length]),
        ("root.pem", issued.root_pem),
    ):
        (folder / name).write_bytes(content)
    return run(
        *("openssl", "cms", "-verify", "-binary", "-inform", "DER", "-purpose", "any"),
        *("-in", str(folder / "signature.der"), "-content", str(folder / "signed")),
        *("-CAfile", str(folder / "root.pem"), "-out", "/dev/null"),
    )


@pytest.mark.parametrize("kind", KNOWN)
def test_pdfsig_and_openssl_find_the_signature_valid(kind: str, tmp_path: Path) -> None:
    signer, issued = signer_of(kind)
    document = sealed_by(signer).bytes
    said = pdfsig(document, tmp_path)
    assert "Signature is Valid" in said
    assert "Total document signed" in said
    judged = openssl(document, issued, tmp_path)
    assert judged.returncode == 0, judged.stderr


def signed_by_pyhanko(key: Any, issued: Issued) -> bytes:
    private = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    certificates = [
        asn1_x509.Certificate.load(certificate.public_bytes(Encoding.DER))
        for certificate in (issued.leaf, issued.root)
    ]
    store = SimpleCertificateStore()  # type: ignore[no-untyped-call]
    store.register_multiple(certificates)
    out = BytesIO()
    signers.sign_pdf(  # type: ignore[no-untyped-call]
        IncrementalPdfFileWriter(BytesIO(sample_letter())),
        signers.PdfSignatureMetadata(field_name="a", subfilter=fields.SigSeedSubFilter.PADES),
        signer=signers.SimpleSigner(
            signing_cert=certificates[0],
            signing_key=asn1_keys.PrivateKeyInfo.load(private),
            cert_registry=store,
        ),
        output=out,
    )
    return out.getvalue()


def test_pdfsig_knows_no_ed25519_of_anybody(tmp_path: Path) -> None:
    signer, issued = signer_of(UNKNOWN_TO_THEM)
    theirs = signed_by_pyhanko(key_of(UNKNOWN_TO_THEM), issued)
    for document in (sealed_by(signer).bytes, theirs):
        assert "Document isn't signed or corrupted data" in pdfsig(document, tmp_path)


def test_openssl_3_0_knows_no_ed25519_in_cms_not_even_its_own(tmp_path: Path) -> None:
    version = run("openssl", "version").stdout
    signer, issued = signer_of(UNKNOWN_TO_THEM)
    judged = openssl(sealed_by(signer).bytes, issued, tmp_path)
    (tmp_path / "key.pem").write_bytes(pem(key_of(UNKNOWN_TO_THEM)))
    (tmp_path / "leaf.pem").write_bytes(issued.chain_pem)
    own = run(
        *("openssl", "cms", "-sign", "-binary", "-outform", "DER", "-out", "/dev/null"),
        *("-md", "sha512", "-in", str(tmp_path / "signed")),
        *("-signer", str(tmp_path / "leaf.pem"), "-inkey", str(tmp_path / "key.pem")),
    )
    # A later OpenSSL may have learned it; then it must find ours valid.
    assert (judged.returncode == 0) == (own.returncode == 0), version + judged.stderr + own.stderr

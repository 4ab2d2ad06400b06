"""An issuer of its own for tests: a certificate, and signatures that pyHanko makes with it."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from io import BytesIO

from asn1crypto import keys
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
from pyhanko.sign import PdfSignatureMetadata, SimpleSigner
from pyhanko.sign.fields import SigSeedSubFilter
from pyhanko.sign.signers.pdf_signer import PdfSigner
from pyhanko_certvalidator.registry import SimpleCertificateStore


@dataclass(frozen=True)
class Issuer:
    """Signs as somebody who says to be `name`; whoever trusts `certificate` trusts that."""

    certificate: bytes
    signer: SimpleSigner

    @classmethod
    def named(cls, name: str) -> "Issuer":
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=30))
            .add_extension(
                x509.KeyUsage(
                    digital_signature=True,
                    content_commitment=True,
                    **dict.fromkeys(
                        (
                            "key_encipherment",
                            "data_encipherment",
                            "key_agreement",
                            "key_cert_sign",
                            "crl_sign",
                            "encipher_only",
                            "decipher_only",
                        ),
                        False,
                    ),
                ),
                critical=True,
            )
            .sign(key, hashes.SHA256())
        )
        private = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        return cls(
            certificate.public_bytes(Encoding.PEM),
            SimpleSigner(
                signing_cert=asn1_x509.Certificate.load(certificate.public_bytes(Encoding.DER)),
                signing_key=keys.PrivateKeyInfo.load(private),
                cert_registry=SimpleCertificateStore(),  # type: ignore[no-untyped-call]
            ),
        )

    def sign(self, document: bytes, reason: str, *, field: str = "Signature") -> bytes:
        """Append a PAdES signature with this reason."""
        metadata = PdfSignatureMetadata(
            field_name=field, reason=reason, subfilter=SigSeedSubFilter.PADES
        )
        signed = PdfSigner(metadata, self.signer).sign_pdf(
            IncrementalPdfFileWriter(BytesIO(document))
        )
        return bytes(signed.getvalue())

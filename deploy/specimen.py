"""Makes the SPECIMEN certificate chain that a machine without an issuer's key signs with.

A root, an issuing authority and a signer, all self-made and all saying so: whoever trusts them trusts
this machine and nobody else. An authorised issuer configures its own key instead.
"""

import os
import shutil
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID, ObjectIdentifier

# Document signing (RFC 9336, 3).
DOCUMENT_SIGNING = ObjectIdentifier("1.3.6.1.5.5.7.3.36")
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class SpecimenChain:
    """Where the parts of the chain lie; certificates and key are PEM."""

    root: Path
    chain: Path
    signer_key: Path

    @property
    def revocation(self) -> tuple[Path, ...]:
        """Return the authorities' CRLs (DER); a chain from before there were any has none."""
        lists = (self.root.with_name("root.crl"), self.root.with_name("issuing.crl"))
        return tuple(file for file in lists if file.exists())


def make_specimen_chain(directory: Path) -> SpecimenChain:
    """Make the chain in a folder, or return the one that is there.

    The folder appears whole or not at all: it is built beside its place and moved there. Keys are
    readable by their owner only. The private keys of root and authority are thrown away, so each signs
    one empty CRL that holds as long as what it has issued.
    """
    made = SpecimenChain(
        directory / "root.crt.pem", directory / "chain.pem", directory / "signer.key.pem"
    )
    if made.root.exists():
        return made
    directory.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
    try:
        _build(building)
        building.rename(directory)
    except OSError:
        # Somebody else was quicker; theirs is as good.
        if not made.root.exists():
            raise
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return made


def _build(folder: Path) -> None:
    now = datetime.now(UTC)
    root_key, issuing_key, signer_key = (_new_key() for _ in range(3))
    root_name = _name("Stampede SPECIMEN Root CA (no legal value)")
    issuing_name = _name("Stampede SPECIMEN Issuing CA (no legal value)")
    signer_name = _name("Stampede SPECIMEN Stamp (no legal value)")
    root = _authority(root_name, root_name, root_key, root_key, now, years=20, path_length=1)
    issuing = _authority(
        issuing_name, root_name, issuing_key, root_key, now, years=10, path_length=0
    )
    signer = (
        _begin(signer_name, issuing_name, signer_key, issuing_key, now, years=3)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(content_commitment=True, digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([DOCUMENT_SIGNING]), critical=False)
        .sign(issuing_key, hashes.SHA256())
    )
    _write(folder / "signer.key.pem", _private(signer_key), mode=0o600)
    _write(folder / "chain.pem", _public(signer) + _public(issuing), mode=0o644)
    _write(folder / "root.crt.pem", _public(root), mode=0o644)
    _write(folder / "root.crl", _empty_list(root_name, root_key, now, of=issuing), mode=0o644)
    _write(
        folder / "issuing.crl", _empty_list(issuing_name, issuing_key, now, of=signer), mode=0o644
    )
    folder.chmod(0o700)


def _authority(
    subject: x509.Name,
    issuer: x509.Name,
    key: RSAPrivateKey,
    issuer_key: RSAPrivateKey,
    now: datetime,
    *,
    years: int,
    path_length: int,
) -> x509.Certificate:
    return (
        _begin(subject, issuer, key, issuer_key, now, years=years)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .sign(issuer_key, hashes.SHA256())
    )


def _empty_list(
    issuer: x509.Name, key: RSAPrivateKey, now: datetime, *, of: x509.Certificate
) -> bytes:
    return (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer)
        .last_update(now - _DAY)
        .next_update(of.not_valid_after_utc)
        .add_extension(x509.CRLNumber(1), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False
        )
        .sign(key, hashes.SHA256())
        .public_bytes(Encoding.DER)
    )


def _begin(
    subject: x509.Name,
    issuer: x509.Name,
    key: RSAPrivateKey,
    issuer_key: RSAPrivateKey,
    now: datetime,
    *,
    years: int,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _DAY)
        .not_valid_after(now + 365 * years * _DAY)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()),
            critical=False,
        )
    )


def _usage(
    *,
    digital_signature: bool = False,
    content_commitment: bool = False,
    key_cert_sign: bool = False,
    crl_sign: bool = False,
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=content_commitment,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Stampede SPECIMEN"),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def _new_key() -> RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def _private(key: RSAPrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _public(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)


def _write(path: Path, content: bytes, *, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)

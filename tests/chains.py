"""Certificate chains for keys of every kind: a root, and a leaf for the key under test."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache

from asn1crypto import algos
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import (
    CertificatePublicKeyTypes,
    PrivateKeyTypes,
)
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

NOW = datetime(2026, 11, 24, 5, 30, tzinfo=UTC)
DAY = timedelta(days=1)


@cache
def rsa_key(bits: int = 2048) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)


@cache
def key_of(kind: str) -> PrivateKeyTypes:
    """A key by the name of the algorithm that it is to sign with."""
    if kind.startswith("RSA-"):
        return rsa_key(int(kind.rpartition("-")[2]))
    if kind == "Ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    return ec.generate_private_key({"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1()}[kind[-5:]])


KINDS = (
    "RSA-2048",
    "RSA-3072",
    "RSA-4096",
    "RSA-PSS-2048",
    "ECDSA P-256",
    "ECDSA P-384",
    "Ed25519",
)


@dataclass(frozen=True)
class Issued:
    """A leaf, its issuer, and their PEM forms."""

    leaf: x509.Certificate
    root: x509.Certificate

    @property
    def chain(self) -> tuple[x509.Certificate, ...]:
        return (self.leaf, self.root)

    @property
    def chain_pem(self) -> bytes:
        return self.leaf.public_bytes(Encoding.PEM) + self.root.public_bytes(Encoding.PEM)

    @property
    def root_pem(self) -> bytes:
        return self.root.public_bytes(Encoding.PEM)


@cache
def _root() -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("Test root")
    certificate = (
        _begin(name, name, key.public_key(), NOW - 3650 * DAY, NOW + 3650 * DAY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage(key_cert_sign=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    return key, certificate


def issue(
    public: CertificatePublicKeyTypes,
    *,
    since: datetime = NOW - DAY,
    until: datetime = NOW + 365 * DAY,
    key_usage: x509.KeyUsage | None = None,
    name: str = "Test stamp",
) -> Issued:
    """Issue a certificate that may sign documents."""
    key, root = _root()
    leaf = (
        _begin(_name(name), root.subject, public, since, until)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(
            key_usage or usage(digital_signature=True, content_commitment=True), critical=True
        )
        .sign(key, hashes.SHA256())
    )
    return Issued(leaf, root)


def issue_pss(public: rsa.RSAPublicKey, parameters: dict[str, object] | None) -> Issued:
    """Issue a certificate for id-RSASSA-PSS, with parameters or without; cryptography makes none."""
    key, root = _root()
    plain = asn1_x509.Certificate.load(issue(public).leaf.public_bytes(Encoding.DER))
    to_sign = plain["tbs_certificate"]
    algorithm: dict[str, object] = {"algorithm": "rsassa_pss"}
    if parameters is not None:
        algorithm["parameters"] = algos.RSASSAPSSParams(parameters)
    to_sign["subject_public_key_info"]["algorithm"] = algorithm
    signature = key.sign(to_sign.dump(force=True), ec.ECDSA(hashes.SHA256()))
    made = asn1_x509.Certificate(
        {
            "tbs_certificate": to_sign,
            "signature_algorithm": plain["signature_algorithm"],
            "signature_value": signature,
        }
    )
    return Issued(x509.load_der_x509_certificate(made.dump(force=True)), root)


def pem(key: PrivateKeyTypes) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def usage(**wanted: bool) -> x509.KeyUsage:
    names = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    return x509.KeyUsage(**{name: wanted.get(name, False) for name in names})


def _begin(
    subject: x509.Name,
    issuer: x509.Name,
    public: CertificatePublicKeyTypes,
    since: datetime,
    until: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(since)
        .not_valid_after(until)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])

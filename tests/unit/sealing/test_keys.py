"""Keys of every kind: sealed with, found valid by pyHanko, and refused with a sentence."""

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    pkcs12,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.sample import sample_letter
from tests.chains import KINDS, Issued, issue, issue_pss, key_of, pem, rsa_key, usage
from tests.unit.sealing.conftest import AT, SERIAL, stamp
from workers.checking import check
from workers.sealing import KeyUnusableError, Sealed, Signer, seal
from workers.sealing.signing import signature

SHA512_PSS: dict[str, Any] = {
    "hash_algorithm": {"algorithm": "sha512"},
    "mask_gen_algorithm": {"algorithm": "mgf1", "parameters": {"algorithm": "sha512"}},
    "salt_length": 64,
}
SHA256_PSS: dict[str, Any] = {
    "hash_algorithm": {"algorithm": "sha256"},
    "mask_gen_algorithm": {"algorithm": "mgf1", "parameters": {"algorithm": "sha256"}},
    "salt_length": 32,
}


def signer_of(kind: str) -> tuple[Signer, Issued]:
    key = key_of(kind)
    issued = issue(key.public_key())  # type: ignore[arg-type]
    return Signer.from_pem(pem(key), issued.chain_pem, pss="PSS" in kind), issued


def sealed_by(signer: Signer) -> Sealed:
    return seal(sample_letter(), [stamp()], signer=signer, at=AT, reason=f"[{SERIAL}] test")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_key_seals_what_pyhanko_finds_intact_and_trusted(kind: str) -> None:
    signer, issued = signer_of(kind)
    assert signer.algorithm.name == kind
    (found,) = check(sealed_by(signer).bytes, trust_roots_pem=issued.root_pem).signatures
    assert (found.intact, found.trusted, found.whole_file) == (True, True, True)
    assert found.level == "B-B"


@pytest.mark.parametrize("kind", KINDS)
def test_the_hashes_on_record_are_sha256_whatever_the_key_signs(kind: str, signer: Signer) -> None:
    result = sealed_by(signer_of(kind)[0])
    assert result.document_sha256 == sealed_by(signer).document_sha256


@settings(max_examples=60, deadline=None)
@given(st.binary(min_size=32, max_size=32))
def test_a_signature_never_outgrows_its_place(digest: bytes) -> None:
    for kind in ("ECDSA P-256", "ECDSA P-384", "Ed25519", "RSA-PSS-2048"):
        signer, _ = signer_of(kind)
        assert len(signature.sign_digest(digest, signer)) <= signature.length(signer)


@pytest.mark.parametrize("parameters", [None, SHA256_PSS], ids=["free", "SHA-256"])
def test_a_certificate_for_pss_only_signs_with_pss_unasked(
    parameters: dict[str, Any] | None,
) -> None:
    issued = issue_pss(rsa_key().public_key(), parameters)
    signer = Signer.from_key(rsa_key(), issued.chain)
    assert signer.algorithm.name == "RSA-PSS-2048"
    assert check(sealed_by(signer).bytes, trust_roots_pem=issued.root_pem).good


def test_a_certificate_that_binds_its_key_to_other_parameters_is_refused() -> None:
    issued = issue_pss(rsa_key().public_key(), SHA512_PSS)
    with pytest.raises(KeyUnusableError, match="other parameters than SHA-256"):
        Signer.from_key(rsa_key(), issued.chain)


@pytest.mark.parametrize(
    ("key", "says"),
    [
        (rsa.generate_private_key(65537, 1024), "has 1024 bits"),
        (ec.generate_private_key(ec.SECP521R1()), "secp521r1; use P-256 or P-384"),
        (ec.generate_private_key(ec.SECP256K1()), "secp256k1; use P-256 or P-384"),
        (ed448.Ed448PrivateKey.generate(), "this one is Ed448"),
    ],
)
def test_a_key_of_another_kind_is_refused(key: Any, says: str) -> None:
    with pytest.raises(KeyUnusableError, match=says):
        Signer.from_pem(pem(key), issue(key.public_key()).chain_pem)


def test_pss_is_for_rsa_keys_only() -> None:
    key = key_of("ECDSA P-256")
    chain = issue(key.public_key()).chain_pem  # type: ignore[arg-type]
    with pytest.raises(KeyUnusableError, match="not an RSA key"):
        Signer.from_pem(pem(key), chain, pss=True)


def test_a_certificate_that_may_not_sign_documents_is_refused() -> None:
    issued = issue(rsa_key().public_key(), key_usage=usage(key_encipherment=True))
    with pytest.raises(KeyUnusableError, match="may not sign documents"):
        Signer.from_pem(pem(rsa_key()), issued.chain_pem)


def test_a_chain_that_begins_with_the_issuer_is_refused() -> None:
    issued = issue(rsa_key().public_key(), key_usage=usage(digital_signature=True))
    stranger = issue(key_of("ECDSA P-256").public_key())  # type: ignore[arg-type]
    with pytest.raises(KeyUnusableError, match="put the key's own"):
        Signer.from_pem(pem(rsa_key()), stranger.chain_pem + issued.chain_pem)


def _encrypted(passphrase: bytes) -> bytes:
    return rsa_key().private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(passphrase)
    )


@pytest.mark.parametrize(
    ("key", "passphrase", "says"),
    [
        (_encrypted(b"secret"), None, "name a file with its passphrase"),
        (_encrypted(b"secret"), b"wrong", "cannot be read"),
        (pem(rsa_key()), b"secret", "leave its passphrase out"),
        (b"nothing of the kind", None, "is it PEM"),
    ],
)
def test_a_key_file_that_cannot_be_read_says_why(
    key: bytes, passphrase: bytes | None, says: str
) -> None:
    with pytest.raises(KeyUnusableError, match=says):
        Signer.from_pem(key, issue(rsa_key().public_key()).chain_pem, passphrase)


def test_an_encrypted_key_is_opened_with_its_passphrase() -> None:
    issued = issue(rsa_key().public_key())
    signer = Signer.from_pem(_encrypted(b"secret"), issued.chain_pem, b"secret")
    assert check(sealed_by(signer).bytes, trust_roots_pem=issued.root_pem).good


def test_certificates_that_are_none_are_refused() -> None:
    with pytest.raises(KeyUnusableError, match="certificates cannot be read"):
        Signer.from_pem(pem(rsa_key()), b"no certificate")


@pytest.mark.parametrize("kind", ["RSA-2048", "ECDSA P-256", "Ed25519"])
def test_a_pkcs12_file_brings_key_and_chain(kind: str) -> None:
    key: Any = key_of(kind)
    issued = issue(key.public_key())
    content = pkcs12.serialize_key_and_certificates(
        b"stamp", key, issued.leaf, [issued.root], BestAvailableEncryption(b"secret")
    )
    signer = Signer.from_pkcs12(content, b"secret")
    assert signer.certificates == issued.chain
    assert check(sealed_by(signer).bytes, trust_roots_pem=issued.root_pem).good
    with pytest.raises(KeyUnusableError, match="is its passphrase right"):
        Signer.from_pkcs12(content, b"wrong")


def test_a_pkcs12_file_without_a_key_is_refused() -> None:
    issued = issue(rsa_key().public_key())
    content = pkcs12.serialize_key_and_certificates(
        None, None, None, [issued.leaf], BestAvailableEncryption(b"secret")
    )
    with pytest.raises(KeyUnusableError, match="lacks the key"):
        Signer.from_pkcs12(content, b"secret")

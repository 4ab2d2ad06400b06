"""Keys on a token, here SoftHSM: every algorithm, threads, forks, and a token that goes away."""

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import pkcs11
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from pkcs11 import TokenFlag

from deploy.sample import sample_letter
from tests.chains import DAY, NOW, Issued, issue, key_of, rsa_key
from tests.softhsm import MODULE, PIN, SoftToken
from tests.unit.sealing.conftest import AT, SERIAL, stamp
from workers.checking import check
from workers.sealing import KeyUnusableError, Signer, seal
from workers.sealing.signing import hsm
from workers.sealing.signing.hsm import TokenError, TokenKey

pytestmark = pytest.mark.system

KINDS = ("RSA-2048", "RSA-4096", "RSA-PSS-2048", "ECDSA P-256", "ECDSA P-384", "Ed25519")
Make = Callable[..., SoftToken]


@pytest.fixture
def make_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    def make(more: str = "") -> SoftToken:
        made = SoftToken(tmp_path, more=more)
        monkeypatch.setenv("SOFTHSM2_CONF", str(made.configuration))
        return made

    yield make
    hsm.close()


def at(label: str | None = "key", **other: Any) -> TokenKey:
    return replace(TokenKey(module=MODULE, token="stamp", pin=PIN, label=label), **other)


@pytest.fixture
def token(make_token: Make) -> SoftToken:
    made = make_token()
    made.store(rsa_key(), label="key", key_id="01")
    return made


@pytest.fixture
def issued() -> Issued:
    return issue(rsa_key().public_key())


@pytest.fixture
def signer(token: SoftToken, issued: Issued) -> Signer:
    return hsm.load(at(), issued.chain, pss=False)


def seals_well(signer: Signer, issued: Issued) -> bool:
    sealed = seal(sample_letter(), [stamp()], signer=signer, at=AT, reason=f"[{SERIAL}] test")
    return check(sealed.bytes, trust_roots_pem=issued.root_pem).good


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mechanisms", ["ALL", "-CKM_SHA256_RSA_PKCS,CKM_SHA256_RSA_PKCS_PSS"])
def test_a_token_signs_with_every_algorithm_also_where_it_does_not_hash(
    kind: str, mechanisms: str, make_token: Make
) -> None:
    key: Any = key_of(kind)
    issued = issue(key.public_key())
    make_token(f"slots.mechanisms = {mechanisms}\n").store(key, label="key", key_id="01")
    signer = hsm.load(at(), issued.chain, pss="PSS" in kind)
    offered = pkcs11.lib(str(MODULE)).get_token(token_label="stamp").slot.get_mechanisms()
    assert (pkcs11.Mechanism.SHA256_RSA_PKCS_PSS in offered) == (mechanisms == "ALL")
    assert signer.algorithm.name == kind
    assert seals_well(signer, issued)


def test_the_certificates_come_from_the_token(token: SoftToken, issued: Issued) -> None:
    stranger = issue(rsa_key().public_key(), name="another")
    token.store_certificate(issued.root, key_id="77")
    token.store_certificate(stranger.leaf, key_id="02")
    token.store_certificate(issued.leaf, key_id="01")
    signer = hsm.load(at(), pss=False)
    assert signer.certificates == issued.chain


def test_of_a_keys_certificates_on_the_token_the_newest_is_taken(token: SoftToken) -> None:
    renewed = issue(rsa_key().public_key(), until=NOW + 700 * DAY)
    before = issue(rsa_key().public_key())
    for certificate in (renewed.root, renewed.leaf, before.leaf):
        token.store_certificate(certificate, key_id="01")
    assert hsm.load(at(), pss=False).certificates == renewed.chain


def test_a_key_is_found_by_its_id(token: SoftToken, issued: Issued) -> None:
    token.store(key_of("RSA-3072"), label="key", key_id="02")
    by_id = at(label=None, id=b"\1")
    assert seals_well(hsm.load(by_id, issued.chain, pss=False), issued)
    with pytest.raises(KeyUnusableError, match="several of key 'key'"):
        hsm.load(at(), issued.chain, pss=False)


def test_a_certificate_of_another_key_is_refused(token: SoftToken) -> None:
    other = issue(key_of("RSA-3072").public_key())  # type: ignore[arg-type]
    with pytest.raises(KeyUnusableError, match="is not the key of the first certificate"):
        hsm.load(at(), other.chain, pss=False)


def test_what_is_not_there_is_named(token: SoftToken, issued: Issued, tmp_path: Path) -> None:
    chain = issued.chain
    with pytest.raises(KeyUnusableError, match="no private key 'missing' on token 'stamp'"):
        hsm.load(at("missing"), chain, pss=False)
    with pytest.raises(KeyUnusableError, match="no certificate with the id of key 'key'"):
        hsm.load(at(), pss=False)
    with pytest.raises(TokenError, match=r"none\.so: cannot open shared object file"):
        hsm.load(at(module=tmp_path / "none.so"), chain, pss=False)
    with pytest.raises(TokenError, match="no token 'elsewhere'; is it connected"):
        hsm.load(at(token="elsewhere"), chain, pss=False)
    # None of these is in the way of what is there.
    assert seals_well(hsm.load(at(), chain, pss=False), issued)


def test_a_file_that_is_no_module_is_a_passing_fault(tmp_path: Path, issued: Issued) -> None:
    module = tmp_path / "module.so"
    module.write_bytes(b"no library")
    with pytest.raises(TokenError, match="file too short"):
        hsm.load(at(module=module), issued.chain, pss=False)


def test_a_wrong_pin_is_tried_once_only(token: SoftToken, issued: Issued) -> None:
    wrong = at(pin="0000")
    with pytest.raises(TokenError, match="refused the PIN: PinIncorrect"):
        hsm.load(wrong, issued.chain, pss=False)
    with pytest.raises(TokenError, match="which is not tried again"):
        hsm.load(wrong, issued.chain, pss=False)
    assert "0000" not in repr(wrong)


def test_a_token_is_not_made_to_lock_itself() -> None:
    hsm.spare_the_last_try("stamp", TokenFlag.USER_PIN_COUNT_LOW | TokenFlag.LOGIN_REQUIRED)
    with pytest.raises(TokenError, match="would lock itself at the next wrong PIN"):
        hsm.spare_the_last_try("stamp", TokenFlag.USER_PIN_FINAL_TRY | TokenFlag.LOGIN_REQUIRED)


def test_a_token_that_went_away_is_a_passing_fault_until_it_is_back(
    token: SoftToken, signer: Signer, issued: Issued
) -> None:
    assert seals_well(signer, issued)
    token.take_away()
    for _ in range(2):
        with pytest.raises(TokenError, match="no token 'stamp'; is it connected"):
            signer.sign(b"data")
    token.bring_back()
    assert seals_well(signer, issued)


def test_sessions_that_the_token_closed_are_opened_again_unseen(
    token: SoftToken, signer: Signer, issued: Issued
) -> None:
    # Gone and back between two signatures: the old handles mean nothing any more.
    token.take_away()
    pkcs11.lib(str(MODULE)).finalize()
    token.bring_back()
    assert seals_well(signer, issued)


def test_a_closed_signer_opens_again(signer: Signer, issued: Issued) -> None:
    hsm.close()
    hsm.close()
    assert seals_well(signer, issued)


def test_threads_share_the_one_session(signer: Signer) -> None:
    public: Any = signer.certificates[0].public_key()
    data = [b"%d" % number for number in range(200)]
    with ThreadPoolExecutor(8) as pool:
        signatures = list(pool.map(signer.sign, data))
    for signed, signature in zip(data, signatures, strict=True):
        public.verify(signature, signed, padding.PKCS1v15(), hashes.SHA256())


def test_a_child_opens_a_session_of_its_own_and_leaves_its_parents_alone(
    signer: Signer, issued: Issued
) -> None:
    before = signer.sign(b"data")
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, signer.sign(b"data"))
        finally:
            hsm.close()
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        assert pipe.read() == before
    os.waitpid(child, 0)
    assert signer.sign(b"data") == before


class TimeLimitError(Exception):
    """Stands for what Celery raises when a task takes too long."""


def interrupt_signing(_number: int, frame: FrameType | None) -> None:
    while frame is not None and frame.f_code.co_name != "_sign_with":
        frame = frame.f_back
    if frame is not None:
        raise TimeLimitError
    # Between two signatures; once more.
    signal.setitimer(signal.ITIMER_VIRTUAL, 0.003)


def sign_forever(signer: Signer) -> None:
    while True:
        signer.sign(b"data")


def test_an_interrupted_call_is_the_tokens_fault(signer: Signer) -> None:
    before = signal.signal(signal.SIGVTALRM, interrupt_signing)
    try:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0.003)
        with pytest.raises(TokenError, match="TimeLimitError"):
            sign_forever(signer)
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
    assert signer.sign(b"data")

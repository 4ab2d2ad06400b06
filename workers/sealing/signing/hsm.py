"""Keys that a token keeps (PKCS #11, OASIS, 2.40): an HSM, a smart card, or SoftHSM.

One session a process and token, opened at its first use and shared by all keys on it; calls into one
module are made one at a time, because python-pkcs11 initialises modules for a single thread. After a
fork the child opens sessions of its own and never touches its parent's. When a call fails, the
module is started anew and the call is made once more; then the token counts as away. A PIN that was
refused is not tried again by this process: tokens lock themselves after a few wrong ones.
"""

import hashlib
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Lock
from typing import TypeVar

import pkcs11
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from pkcs11 import MGF, Attribute, Mechanism, ObjectClass, TokenFlag
from pkcs11.exceptions import (
    MultipleObjectsReturned,
    MultipleTokensReturned,
    NoSuchKey,
    NoSuchToken,
    PinExpired,
    PinIncorrect,
    PinInvalid,
    PinLenRange,
    PinLocked,
    PKCS11Error,
)
from pkcs11.types import SignMixin

from workers.sealing.signing.algorithms import PSS_SALT_BYTES, Algorithm, KeyUnusableError, Scheme
from workers.sealing.signing.der import NULL, OCTET_STRING, oid, sequence, tlv
from workers.sealing.signing.keys import HASHES, PSS, Signer, usable

T = TypeVar("T")

_PIN_REFUSED = (PinIncorrect, PinInvalid, PinLenRange, PinLocked, PinExpired)
_LONGEST_CHAIN = 8
_PSS_PARAMETERS = (Mechanism.SHA256, MGF.SHA256, PSS_SALT_BYTES)
# DigestInfo up to the digest itself (RFC 8017, 9.2, note 1), for tokens that do not hash.
_SHA256_WITH_NULL = sequence(oid("2.16.840.1.101.3.4.2.1"), NULL)


class TokenError(Exception):
    """The token cannot be used now; trying again later may end otherwise. The text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenKey:
    """Where a key lies.

    Attributes:
        module: the PKCS #11 library of the token's maker.
        token: the token's label.
        pin: of the token's user.
        label: the key's CKA_LABEL, if that is how it is found.
        id: the key's CKA_ID, if that is how it is found.
    """

    module: Path
    token: str
    pin: str = field(repr=False)
    label: str | None = None
    id: bytes | None = None

    def __str__(self) -> str:
        """Say which key it is, for people."""
        name = f"'{self.label}'" if self.label is not None else f"id {(self.id or b'').hex()}"
        return f"key {name} on token '{self.token}'"


def load(at: TokenKey, certificates: Sequence[x509.Certificate] = (), *, pss: bool) -> Signer:
    """Return a signer for a key on a token, having tried it once.

    Args:
        at: where the key lies.
        certificates: the key's own, then its issuers; if there are none, the token's.
        pss: sign with PSS instead of PKCS #1 v1.5; RSA keys only.

    Raises:
        KeyUnusableError: there is no such key, or not with these certificates.
        TokenError: the token cannot be used now.
    """
    chain = tuple(certificates) or _with_token(at, partial(_chain_on, at))
    algorithm = usable(chain[0], pss=pss)
    signer = Signer(chain, algorithm, partial(_sign, at, algorithm))
    probe = b"is this the key of that certificate?"
    if not _verifies(chain[0], algorithm, signer.sign(probe), probe):
        raise KeyUnusableError(
            f"{at} is not the key of the first certificate of its chain; name the other key, or put"
            " the key's own certificate first"
        )
    return signer


def close() -> None:
    """End every session of this process and let go of the modules; using a key opens them again."""
    for module in _MODULES.values():
        module.close()


class _Open:
    """A session, what its token can do, and the keys that were found with it."""

    def __init__(self, session: pkcs11.Session) -> None:
        self.session = session
        self.mechanisms = frozenset(session.token.slot.get_mechanisms())
        self._keys: dict[TokenKey, SignMixin] = {}

    def key(self, at: TokenKey) -> SignMixin:
        """Return a key, looked for once a session."""
        found = self._keys.get(at)
        if found is None:
            try:
                key = self.session.get_key(
                    object_class=ObjectClass.PRIVATE_KEY, label=at.label, id=at.id
                )
            except NoSuchKey as error:
                raise KeyUnusableError(f"there is no private {at}") from error
            except MultipleObjectsReturned as error:
                raise KeyUnusableError(f"there are several of {at}; name its id too") from error
            if not isinstance(key, SignMixin):
                raise KeyUnusableError(f"{at} may not sign; make it with CKA_SIGN")
            found = self._keys[at] = key
        return found


class _Module:
    """A PKCS #11 library and the sessions that this process has through it, by token and PIN."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)
        self._refused: set[tuple[str, str]] = set()
        self.begin_anew()

    def begin_anew(self) -> None:
        """Forget the sessions; the library is initialised again before it is next used."""
        self._lock = Lock()
        self._open: dict[tuple[str, str], _Open] = {}
        self._stale = True

    def use(self, at: TokenKey, work: Callable[[_Open], T]) -> T:
        """Call the token; if that fails with a session from before, once more with a new one.

        Raises:
            TokenError: it failed, or something else interrupted the call.
        """
        with self._lock:
            try:
                if not self._stale and (at.token, at.pin) in self._open:
                    with suppress(PKCS11Error, KeyUnusableError, TokenError):
                        return work(self._session(at))
                    self._stale = True
                return work(self._session(at))
            except (KeyUnusableError, TokenError):
                self._stale = True
                raise
            except Exception as error:
                # Also what a time limit raises: the token was slow, not the document.
                self._stale = True
                raise TokenError(f"{at} cannot be used: {_words(error)}") from error

    def close(self) -> None:
        """End the sessions and the library."""
        with self._lock:
            if not self._stale:
                with suppress(PKCS11Error):
                    pkcs11.lib(self._path).finalize()
            self._stale = True

    def _session(self, at: TokenKey) -> _Open:
        if (at.token, at.pin) in self._refused:
            raise TokenError(
                f"token '{at.token}' refused the PIN, which is not tried again; correct it"
            )
        if self._stale:
            self._restart()
            self._stale = False
        opened = self._open.get((at.token, at.pin))
        if opened is None:
            try:
                token = pkcs11.lib(self._path).get_token(token_label=at.token)
                spare_the_last_try(at.token, token.flags)
                opened = _Open(token.open(user_pin=at.pin))
            except NoSuchToken as error:
                raise TokenError(f"there is no token '{at.token}'; is it connected?") from error
            except MultipleTokensReturned as error:
                raise TokenError(f"several tokens are labelled '{at.token}'") from error
            except _PIN_REFUSED as error:
                self._refused.add((at.token, at.pin))
                raise TokenError(f"token '{at.token}' refused the PIN: {_words(error)}") from error
            self._open[at.token, at.pin] = opened
        return opened

    def _restart(self) -> None:
        """Initialise the library again: sessions end, and tokens that came back are seen."""
        self._open.clear()
        library = pkcs11.lib(self._path)
        try:
            library.reinitialize()
        except PKCS11Error:
            # What was no longer initialised cannot be finalised.
            library.initialize()


_MODULES: dict[Path, _Module] = {}
_MODULES_LOCK = Lock()


def _after_fork() -> None:
    global _MODULES_LOCK
    # A lock that another thread of the parent held would never be released here.
    _MODULES_LOCK = Lock()
    for module in _MODULES.values():
        module.begin_anew()


os.register_at_fork(after_in_child=_after_fork)


def spare_the_last_try(token: str, flags: TokenFlag) -> None:
    """Leave a token alone that one more wrong PIN would lock; other processes may have tried too.

    Raises:
        TokenError: says so.
    """
    if flags & TokenFlag.USER_PIN_FINAL_TRY:
        raise TokenError(
            f"token '{token}' would lock itself at the next wrong PIN, so none is tried; log in once"
            " with the right PIN by the token's own program, and correct the PIN's file"
        )


def _with_token(at: TokenKey, work: Callable[[_Open], T]) -> T:
    with _MODULES_LOCK:
        module = _MODULES.get(at.module)
        if module is None:
            module = _MODULES[at.module] = _Module(at.module)
    return module.use(at, work)


def _sign(at: TokenKey, algorithm: Algorithm, data: bytes) -> bytes:
    return _with_token(at, lambda opened: _sign_with(opened, at, algorithm, data))


def _sign_with(opened: _Open, at: TokenKey, algorithm: Algorithm, data: bytes) -> bytes:
    sign: Callable[..., bytes] = opened.key(at).sign
    digest = partial(hashlib.new, algorithm.digest, data)
    match algorithm.scheme:
        case Scheme.PKCS1:
            if Mechanism.SHA256_RSA_PKCS in opened.mechanisms:
                return sign(data, mechanism=Mechanism.SHA256_RSA_PKCS)
            info = sequence(_SHA256_WITH_NULL, tlv(OCTET_STRING, digest().digest()))
            return sign(info, mechanism=Mechanism.RSA_PKCS)
        case Scheme.PSS:
            if Mechanism.SHA256_RSA_PKCS_PSS in opened.mechanisms:
                mechanism, signed = Mechanism.SHA256_RSA_PKCS_PSS, data
            else:
                mechanism, signed = Mechanism.RSA_PKCS_PSS, digest().digest()
            return sign(signed, mechanism=mechanism, mechanism_param=_PSS_PARAMETERS)
        case Scheme.ECDSA:
            # The two numbers in equal halves (PKCS #11, 2.3.1); CMS wants them as DER (RFC 5753, 7.2).
            both = sign(digest().digest(), mechanism=Mechanism.ECDSA)
            half = len(both) // 2
            return encode_dss_signature(int.from_bytes(both[:half]), int.from_bytes(both[half:]))
        case Scheme.ED25519:
            return sign(data, mechanism=Mechanism.EDDSA)


def _chain_on(at: TokenKey, opened: _Open) -> tuple[x509.Certificate, ...]:
    """Return the certificate of a key, found by the key's own id, and its issuers on the token."""
    own, others = [], []
    key_id = opened.key(at)[Attribute.ID]
    for held in opened.session.get_objects({Attribute.CLASS: ObjectClass.CERTIFICATE}):
        try:
            certificate = x509.load_der_x509_certificate(held[Attribute.VALUE])
        except ValueError:
            # Tokens may hold certificates of other kinds; they are not ours.
            continue
        others.append(certificate)
        if held[Attribute.ID] == key_id:
            own.append(certificate)
    if not own:
        raise KeyUnusableError(
            f"the token has no certificate with the id of {at} ({key_id.hex()}); store it under"
            " that id, or name a file with 'chain'"
        )
    # A renewed certificate lies beside the one before it, and some tools give issuers the same id.
    leaves = [one for one in own if not any(_issued(one, o) for o in own if o is not one)] or own
    chain = [max(leaves, key=lambda one: one.not_valid_after_utc)]
    while chain[-1].subject != chain[-1].issuer and len(chain) < _LONGEST_CHAIN:
        issuers = [other for other in others if _issued(other, chain[-1])]
        if not issuers:
            break
        chain.append(issuers[0])
    return tuple(chain)


def _issued(issuer: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _verifies(
    certificate: x509.Certificate, algorithm: Algorithm, signature: bytes, data: bytes
) -> bool:
    key = certificate.public_key()
    try:
        if isinstance(key, RSAPublicKey):
            around = PSS if algorithm.scheme is Scheme.PSS else padding.PKCS1v15()
            key.verify(signature, data, around, hashes.SHA256())
        elif isinstance(key, EllipticCurvePublicKey):
            key.verify(signature, data, ECDSA(HASHES[algorithm.digest]))
        elif isinstance(key, Ed25519PublicKey):
            key.verify(signature, data)
        else:
            return False
    except InvalidSignature:
        return False
    return True


def _words(error: Exception) -> str:
    return f"{type(error).__name__} {error}".strip()

"""The evidence that goes into a document: certificates, and proof that none of them is revoked.

CRLs and OCSP responses come from files that the settings name, or from the addresses that the
certificates name; they are checked, kept in memory and on disk, and asked for again long before they
end. What is kept is used as long as it is valid, also while asking fails.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

from billiard.exceptions import SoftTimeLimitExceeded
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from common.telemetry import REVOCATION_AGE, REVOCATION_FAILURES, REVOCATION_LEFT, logger
from workers.fetching import Fetcher, FetchError
from workers.revocation_data import (
    Kind,
    Proof,
    RevocationDataError,
    RevokedError,
    addresses,
    ocsp_question,
    read,
)
from workers.revocation_store import Kept, RevocationStore
from workers.sealing.signing.certificates import der, fingerprint, path
from workers.sealing.signing.security_store import Evidence

log = logger(__name__)

# What is valid for long is asked for again after so long: a revocation should be noticed.
LONGEST_UNASKED = timedelta(hours=1)
# After a failure nobody asks again for so long.
PAUSE_AFTER_FAILURE = timedelta(seconds=30)
LONGEST_PAUSE = 2 * PAUSE_AFTER_FAILURE
# Larger than any CRL that one would want in every document.
LONGEST_ANSWER = 4 * 1024 * 1024


class EvidenceError(Exception):
    """There is no valid revocation data, and none could be had; the text says for what and why."""


@dataclass(frozen=True, slots=True)
class Held:
    """Evidence, and until when it holds.

    `covers` are the fingerprints of the leaves that it is about, `revoked` those of authorities that
    turned out to be revoked.
    """

    evidence: Evidence
    until: datetime
    covers: frozenset[str]
    revoked: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Known:
    """The proof in use for a certificate, and when to ask for a newer one."""

    certificate: x509.Certificate
    issuer: x509.Certificate
    proof: Proof
    ask_at: datetime


class Revocation:
    """Collects evidence for one worker process."""

    def __init__(
        self,
        *,
        store: RevocationStore,
        files: Sequence[Path],
        roots: Sequence[x509.Certificate],
        fetcher: Fetcher,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Take the parts; nothing is read or asked here.

        Args:
            store: what all processes of this machine keep together.
            files: CRLs (DER or PEM) and OCSP responses (DER), looked at before anybody is asked.
            roots: where chains end.
            fetcher: asks responders and CRL distribution points.
            now: the time.
            jitter: from 0 to 1, so that processes do not ask all at once.
        """
        self._store = store
        self._files = files
        self._roots = roots
        self._fetcher = fetcher
        self._now = now
        self._jitter = jitter
        self._known: dict[str, _Known] = {}
        self._held: dict[tuple[x509.Certificate, ...], Held] = {}

    def evidence(
        self,
        signer: Sequence[x509.Certificate],
        authorities: Sequence[Sequence[x509.Certificate]] = (),
    ) -> Held:
        """Return evidence for a signer, and for those timestamp authorities that it can be had for.

        The same object is returned as long as nothing changes.

        Args:
            signer: the signing certificate, then its issuers.
            authorities: the same of each authority.

        Raises:
            EvidenceError: there is none for the signer.
            RevokedError: a certificate of the signer's chain is revoked.
        """
        key = (signer[0], *(chain[0] for chain in authorities))
        held = self._held.get(key)
        if held is not None and self._now() < held.until:
            return held
        certificates: dict[bytes, None] = {}
        proofs: dict[bytes, Proof] = {}
        covers = {self._add(signer, certificates, proofs)}
        revoked: set[str] = set()
        for chain in authorities:
            try:
                covers.add(self._add(chain, certificates, proofs))
            except EvidenceError as error:
                log.warning("no evidence for a timestamp authority", reason=str(error))
            except RevokedError as error:
                log.error("a timestamp authority is revoked", reason=str(error))
                revoked.add(fingerprint(chain[0]))
        held = Held(
            Evidence(
                tuple(certificates),
                tuple(data for data, proof in proofs.items() if proof.kind == "crl"),
                tuple(data for data, proof in proofs.items() if proof.kind == "ocsp"),
            ),
            min((proof.until for proof in proofs.values()), default=self._now() + LONGEST_UNASKED),
            frozenset(covers),
            frozenset(revoked),
        )
        if len(covers) == len(key):
            self._held = {key: held}
        return held

    def refresh_ahead(self) -> None:
        """Ask for newer data for one certificate whose data is half over; a failure is only noted.

        For when nobody waits: after a document is finished.
        """
        now = self._now()
        due = next((known for known in self._known.values() if known.ask_at <= now), None)
        if due is None:
            return
        try:
            self._ask(due.certificate, due.issuer, wait=False)
        except (EvidenceError, RevokedError) as error:
            log.warning("no newer revocation data", reason=str(error))

    def _add(
        self,
        chain: Sequence[x509.Certificate],
        certificates: dict[bytes, None],
        proofs: dict[bytes, Proof],
    ) -> str:
        """Collect a chain's evidence and return its leaf's fingerprint."""
        found: list[Proof] = []
        whole = path(chain[0], chain, self._roots)
        top = whole[-1]
        if top not in self._roots and top.issuer != top.subject:
            raise EvidenceError(
                f"the issuer of {_name(top)} is not known; put it into the chain or the roots"
            )
        for certificate, issuer in pairwise(whole):
            found.append(self._proof(certificate, issuer))
        for certificate in whole:
            certificates[der(certificate)] = None
        for proof in found:
            proofs[proof.der] = proof
            if proof.responder is not None:
                certificates[proof.responder] = None
        return fingerprint(whole[0])

    def _proof(self, certificate: x509.Certificate, issuer: x509.Certificate) -> Proof:
        """Return valid data for a certificate, asking only when there is none."""
        known = self._known.get(fingerprint(certificate))
        if known is not None and self._now() < known.proof.until:
            return known.proof
        try:
            return self._ask(certificate, issuer, wait=True)
        except SoftTimeLimitExceeded as error:
            # It was a responder that took the time, not the document.
            if self._store.load(fingerprint(certificate)).revoked:
                raise RevokedError(certificate) from error
            raise EvidenceError(f"{_name(certificate)}: took too long") from error

    def _ask(self, certificate: x509.Certificate, issuer: x509.Certificate, *, wait: bool) -> Proof:
        """Return newer data than what is known, from this machine's store or by asking for it.

        Raises:
            EvidenceError: there is none, and what is known does not hold any more.
            RevokedError: the certificate is revoked.
        """
        name, now = fingerprint(certificate), self._now()
        known = self._known.get(name)
        with self._store.asking(name, wait=wait) as mine:
            kept = self._store.load(name)
            # A clock that was ahead for a while may have left a time that does not come for years.
            paused = now < kept.retry_at <= now + LONGEST_PAUSE
            if kept.revoked and paused:
                self._forget(name)
                raise RevokedError(certificate)
            proof = self._usable(kept, certificate, issuer, now)
            if proof is not None and (known is None or proof.since > known.proof.since):
                return self._use(certificate, issuer, proof, self._ask_at(proof, now))
            proof = proof or (known.proof if known and known.proof.until > now else None)
            if not mine or paused:
                # Somebody is asking, or did a moment ago and got nothing.
                if proof is None:
                    raise EvidenceError(f"{_name(certificate)}: {kept.reason}")
                return self._use(certificate, issuer, proof, max(kept.retry_at, now))
            try:
                fresh = self._obtain(certificate, issuer, now)
            except EvidenceError as error:
                REVOCATION_FAILURES.labels(_name(certificate)).inc()
                retry_at = now + PAUSE_AFTER_FAILURE * (1 + self._jitter())
                self._store.put_off(name, retry_at, str(error))
                if kept.revoked:
                    # It stays so until somebody says otherwise; nobody's silence does.
                    self._forget(name)
                    raise RevokedError(certificate) from error
                if proof is None:
                    raise
                log.warning("no newer revocation data", reason=str(error))
                return self._use(certificate, issuer, proof, retry_at)
            except RevokedError:
                log.error("a certificate is revoked", certificate=_name(certificate))
                retry_at = now + PAUSE_AFTER_FAILURE
                self._store.keep(name, Kept(retry_at=retry_at, revoked=True))
                self._forget(name)
                raise
            self._store.keep(name, Kept(kind=fresh.kind, der=fresh.der))
            return self._use(certificate, issuer, fresh, self._ask_at(fresh, now))

    def _usable(
        self, kept: Kept, certificate: x509.Certificate, issuer: x509.Certificate, now: datetime
    ) -> Proof | None:
        if kept.kind is None:
            return None
        try:
            return read(kept.kind, kept.der, certificate, issuer, now)
        except RevocationDataError:
            return None

    def _use(
        self,
        certificate: x509.Certificate,
        issuer: x509.Certificate,
        proof: Proof,
        ask_at: datetime,
    ) -> Proof:
        name = fingerprint(certificate)
        known = self._known.get(name)
        self._known[name] = _Known(certificate, issuer, proof, ask_at)
        if known is None or known.proof != proof:
            self._held.clear()
        now, label = self._now(), _name(certificate)
        REVOCATION_AGE.labels(label).set((now - proof.since).total_seconds())
        REVOCATION_LEFT.labels(label).set((proof.until - now).total_seconds())
        return proof

    def _forget(self, name: str) -> None:
        self._known.pop(name, None)
        self._held.clear()

    def _ask_at(self, proof: Proof, now: datetime) -> datetime:
        """Return when half of what is left is over, give or take a fifth, within an hour or so."""
        half = min((proof.until - now) / 2, LONGEST_UNASKED)
        return now + half * (0.8 + 0.4 * self._jitter())

    def _obtain(
        self, certificate: x509.Certificate, issuer: x509.Certificate, now: datetime
    ) -> Proof:
        """Return data from the files, or from whoever the certificate names.

        Raises:
            EvidenceError: there is none that can be used.
            RevokedError: the certificate is revoked.
        """
        reasons: list[str] = []
        for kind, where, data in self._sources(certificate, issuer, now, reasons):
            try:
                return read(kind, data, certificate, issuer, now)
            except RevocationDataError as error:
                reasons.append(f"{where}: {error}")
        nothing = "no file has its revocation data, and it names no address"
        raise EvidenceError(f"{_name(certificate)}: {'; '.join(reasons) or nothing}")

    def _sources(
        self,
        certificate: x509.Certificate,
        issuer: x509.Certificate,
        now: datetime,
        reasons: list[str],
    ) -> Iterator[tuple[Kind, str, bytes]]:
        for known in list(self._known.values()):
            # One CRL says all of an issuer's certificates; a second copy would only take room.
            if known.issuer == issuer and known.proof.kind == "crl" and now < known.ask_at:
                yield "crl", "what is known", known.proof.der
        for file in self._files:
            try:
                data = _der_of(file.read_bytes())
            except OSError as error:
                reasons.append(f"{file}: {error.strerror}")
                continue
            for kind in ("crl", "ocsp"):
                yield kind, str(file), data
        for kind, url in addresses(certificate):
            try:
                yield kind, url, self._fetched(kind, url, certificate, issuer)
            except FetchError as error:
                reasons.append(f"{url}: {error}")

    def _fetched(
        self, kind: Kind, url: str, certificate: x509.Certificate, issuer: x509.Certificate
    ) -> bytes:
        if kind == "crl":
            return _der_of(self._fetcher.get(url, max_bytes=LONGEST_ANSWER))
        return self._fetcher.post(
            url,
            ocsp_question(certificate, issuer),
            content_type="application/ocsp-request",
            answer_type="application/ocsp-response",
            max_bytes=LONGEST_ANSWER,
        )


def _der_of(data: bytes) -> bytes:
    """Return a CRL as DER; other data as it is."""
    if not data.startswith(b"-----BEGIN"):
        return data
    try:
        return x509.load_pem_x509_crl(data).public_bytes(Encoding.DER)
    except ValueError:
        return data


def _name(certificate: x509.Certificate) -> str:
    return certificate.subject.rfc4514_string()

"""Seals at the signature level that is asked for; when that cannot be had, as the policy says.

`wait`: the job goes back into its lane and is tried again, with the same serials. `fall-back`: the
document is sealed at the level that can be had now, with room for a timestamp that comes later.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Self

from cryptography import x509

from common.levels import Level
from common.settings import WorkerSettings
from common.telemetry import LEVELS, logger
from workers import sealing
from workers.fetching import Fetcher
from workers.revocation import EvidenceError, Held, Revocation
from workers.revocation_data import RevokedError
from workers.revocation_store import RevocationStore
from workers.sealing import Design, Evidence, Sealed, Signer, Stamp, TokenTooLongError
from workers.sealing.signing.certificates import fingerprint
from workers.sealing.signing.timestamp import Token
from workers.timestamping import FIRST_ROOM, AuthoritiesDownError, Timestamper

log = logger(__name__)

Chains = tuple[tuple[x509.Certificate, ...], ...]

# Of a lease. A task is asked to stop after 0.6 of its own and killed after 0.8 (workers/app.py); a job
# whose worker is killed twice fails, and others who hang are no fault of its document.
PATIENCE = 0.4
# A token that turns out longer than its place, or signed by somebody new, asks for one more round.
ROUNDS = 4


class LevelMissedError(Exception):
    """The level cannot be had now, and the policy is to wait: a passing fault."""


class SigningKeyRevokedError(Exception):
    """The stamping certificate, or one above it, is revoked: nothing is signed until it is replaced."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A sealed document, its level, and what upgrading it later needs to know.

    `evidence_until` is until when the revocation data in a file that waits for its timestamp holds.
    """

    sealed: Sealed
    level: Level
    to_be_upgraded: bool = False
    evidence_until: datetime | None = None


class _NewAuthorityError(Exception):
    """The token's signer was not known when the evidence was collected, or is not to be used."""


class Sealer:
    """Seals for one worker process."""

    def __init__(
        self,
        *,
        level: Level,
        falls_back: bool,
        timestamper: Timestamper,
        revocation: Revocation,
        fetcher: Fetcher,
        patience_seconds: float,
    ) -> None:
        """Take the level, the policy and the parts.

        Args:
            level: the one to reach.
            falls_back: seal at a lower level when it cannot be had now, instead of waiting.
            timestamper: gets timestamps.
            revocation: gets revocation data.
            fetcher: what both ask with.
            patience_seconds: how long a document may wait for others in all; half of it for
                revocation data, so that a timestamp may come without.
        """
        self._level = level
        self._falls_back = falls_back
        self.timestamper = timestamper
        self._revocation = revocation
        self._fetcher = fetcher
        self._patience = patience_seconds

    @classmethod
    def from_settings(cls, settings: WorkerSettings) -> Self:
        """Make the sealer that the settings describe."""
        timestamp_roots = _certificates(settings.timestamp_roots_file)
        fetcher = Fetcher(seconds=settings.authority_timeout_seconds)
        folder = settings.data_dir / "revocation"
        return cls(
            level=settings.signature_level,
            falls_back=settings.signature_level_policy == "fall-back",
            timestamper=Timestamper(
                urls=settings.timestamp_urls,
                roots=timestamp_roots,
                fetcher=fetcher,
                memory=folder / "authorities.json",
            ),
            revocation=Revocation(
                store=RevocationStore(folder),
                files=settings.revocation_files,
                roots=[*_certificates(settings.signing_roots_file), *timestamp_roots],
                fetcher=fetcher,
            ),
            fetcher=fetcher,
            patience_seconds=settings.lease_seconds * PATIENCE,
        )

    def seal(
        self,
        document: bytes,
        stamps: Sequence[Stamp],
        *,
        signer: Signer,
        at: datetime,
        reason: str,
        design: Design | None = None,
    ) -> Outcome:
        """Seal a document at the level, or as the policy says.

        Raises:
            SealingError: the document or a placement is at fault.
            LevelMissedError: the level cannot be had now, and the policy is to wait.
            SigningKeyRevokedError: the key may not sign any more.
        """

        def seal(
            *,
            evidence: Evidence | None = None,
            room: int = 0,
            fetch: Callable[[bytes], bytes] | None = None,
        ) -> Sealed:
            return sealing.seal(
                document,
                stamps,
                signer=signer,
                at=at,
                reason=reason,
                design=design,
                evidence=evidence,
                timestamp_room=room,
                fetch_timestamp=fetch,
            )

        outcome = (
            Outcome(seal(), Level.B_B) if self._level is Level.B_B else self._best(signer, seal)
        )
        LEVELS.labels(outcome.level).inc()
        return outcome

    def refresh_ahead(self) -> None:
        """Have newer revocation data fetched, if it is time to; for when nobody waits."""
        if self._level is Level.B_LT:
            with self._fetcher.until(time.monotonic() + self._patience / 2):
                self._revocation.refresh_ahead()

    def _best(self, signer: Signer, seal: Callable[..., Sealed]) -> Outcome:
        began = time.monotonic()
        with self._fetcher.until(began + self._patience):
            return self._as_good_as_it_gets(signer, seal, began + self._patience / 2)

    def _as_good_as_it_gets(
        self, signer: Signer, seal: Callable[..., Sealed], until: float
    ) -> Outcome:
        """Seal at the level, or as the policy says; revocation data is waited for until a deadline."""
        try:
            return self._with_timestamp(signer, seal, until)
        except AuthoritiesDownError as error:
            if not self._falls_back:
                raise LevelMissedError(str(error)) from error
            log.warning("sealed without a timestamp", reason=str(error))
        held = self._held(signer, self.timestamper.chains, until)
        # Whoever gives the timestamp later may need more than those who gave the last ones.
        room = max(self.timestamper.room, FIRST_ROOM)
        sealed = seal(evidence=held and held.evidence, room=room)
        # Evidence about the signer alone does not make a B-LT of a later timestamp.
        full = held is not None and len(held.covers) > 1
        return Outcome(sealed, Level.B_B, True, held.until if held is not None and full else None)

    def _with_timestamp(self, signer: Signer, seal: Callable[..., Sealed], until: float) -> Outcome:
        """Seal with a timestamp, and for B-LT with the evidence about signer and authority.

        Raises:
            AuthoritiesDownError: there is no timestamp to be had.
        """
        for _ in range(ROUNDS):
            asked = self.timestamper.chains
            held = self._held(signer, asked, until)
            tokens: list[Token] = []
            try:
                sealed = seal(
                    evidence=held and held.evidence,
                    room=self.timestamper.room,
                    fetch=partial(self._stamped, held, asked, tokens),
                )
            except (TokenTooLongError, _NewAuthorityError) as error:
                # What was met is remembered, so that the next round is ready for it.
                log.info("sealing again", reason=str(error) or type(error).__name__)
                continue
            full = held is not None and holds(held, tokens[-1])
            return Outcome(sealed, Level.B_LT if full else Level.B_T)
        raise AuthoritiesDownError(f"no token fitted in {ROUNDS} rounds")

    def _held(self, signer: Signer, authorities: Chains, until: float) -> Held | None:
        """Return the evidence for B-LT; None when the level is lower, or has to be."""
        if self._level is not Level.B_LT:
            return None
        try:
            with self._fetcher.until(until):
                return self._revocation.evidence(signer.certificates, authorities)
        except RevokedError as error:
            log.error("the stamping key is revoked; replace it", reason=str(error))
            raise SigningKeyRevokedError(str(error)) from error
        except EvidenceError as error:
            if not self._falls_back:
                raise LevelMissedError(str(error)) from error
            log.warning("sealed without revocation data", reason=str(error))
            return None

    def _stamped(
        self, held: Held | None, asked: Chains, tokens: list[Token], value: bytes
    ) -> bytes:
        """Fetch a token, and see that the document has the evidence about its signer."""
        token = self.timestamper.fetch(value)
        if held is not None and fingerprint(token.certificates[0]) in held.revoked:
            self.timestamper.distrust(token.certificates[0])
            raise _NewAuthorityError
        if held is not None and not holds(held, token):
            if token.certificates[0] not in [chain[0] for chain in asked]:
                raise _NewAuthorityError
            if not self._falls_back:
                raise LevelMissedError(
                    "no revocation data for the timestamp authority and its time"
                )
        tokens.append(token)
        return token.der


def holds(held: Held, token: Token) -> bool:
    """Say whether evidence is about the signer of a token, and still holds at the token's time."""
    return fingerprint(token.certificates[0]) in held.covers and token.at < held.until


def _certificates(file: Path | None) -> tuple[x509.Certificate, ...]:
    return () if file is None else tuple(x509.load_pem_x509_certificates(file.read_bytes()))

"""Timestamp authorities, asked in their order: the first that answers rightly is taken.

One that keeps failing is left alone for a while (`common/breaker.py`). What the last tokens were like is
remembered: how long, which tells the room to keep free, and by whom, which tells whose revocation
data a document needs.
"""

import json
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from billiard.exceptions import SoftTimeLimitExceeded
from cryptography import x509

from common.breaker import Breaker
from common.telemetry import TIMESTAMPS, logger
from workers.fetching import Fetcher, FetchError, NoTimeError
from workers.sealing.signing.certificates import der, fingerprint
from workers.sealing.signing.timestamp import (
    TimestampError,
    Token,
    question,
    read_answer,
    room_for,
)

log = logger(__name__)

# RFC 3161, 3.4.
QUERY_TYPE = "application/timestamp-query"
REPLY_TYPE = "application/timestamp-reply"
# A token with its certificates takes 2 to 8 KB.
LONGEST_ANSWER = 64 * 1024
# Room for a token before the first one was seen, and beside what the longest took.
FIRST_ROOM = 8 * 1024
SLACK = 256
# Authorities take turns and stand in for each other; one that was not met for so long is not expected.
_LATELY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class _Signer:
    """Who signed a token, leaf first, and when one was last met."""

    chain: tuple[x509.Certificate, ...]
    at: datetime


class AuthoritiesDownError(Exception):
    """No authority gave a timestamp; the text says of each why."""


class Timestamper:
    """Fetches timestamps for one worker process."""

    def __init__(
        self,
        *,
        urls: Sequence[str],
        roots: Sequence[x509.Certificate],
        fetcher: Fetcher,
        memory: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Take the authorities; nothing is asked here.

        Args:
            urls: addresses of the authorities, the preferred one first.
            roots: one of these must stand above a token's certificate.
            fetcher: carries questions and answers.
            memory: file where the processes of this machine leave what they learnt for the next one.
            clock: seconds, for the pauses of the breakers.
            now: the time that a token's is compared with.
        """
        self._authorities = [(url, Breaker(clock)) for url in urls]
        self._roots = roots
        self._fetcher = fetcher
        self._now = now
        self._memory = memory
        self._longest = 0
        self._signers: dict[str, _Signer] = {}
        self._distrusted: set[str] = set()
        self._recall()

    @property
    def room(self) -> int:
        """Return the bytes to keep free for the next token within a signature."""
        return room_for(self._longest + SLACK) if self._longest else FIRST_ROOM

    @property
    def chains(self) -> tuple[tuple[x509.Certificate, ...], ...]:
        """Return the certificates of those who signed tokens lately, each leaf first.

        In an order that does not change with who was last; whoever was last is always among them.
        """
        if not self._signers:
            return ()
        last = max(signer.at for signer in self._signers.values())
        since = min(last, self._now() - _LATELY)
        return tuple(s.chain for _, s in sorted(self._signers.items()) if s.at >= since)

    def distrust(self, certificate: x509.Certificate) -> None:
        """Take no more tokens of a signer: its certificate is revoked."""
        self._distrusted.add(fingerprint(certificate))
        self._signers.pop(fingerprint(certificate), None)
        self._note()

    def fetch(self, signature_value: bytes) -> Token:
        """Return a checked timestamp over a signature's value.

        Raises:
            AuthoritiesDownError: no authority gave one.
        """
        reasons = []
        for url, breaker in self._authorities:
            if not breaker.lets_through:
                reasons.append(f"{url}: left alone after failures")
                continue
            try:
                token = self._ask(url, signature_value)
            except NoTimeError as error:
                # Not this one's failure: it keeps its turn for the next document.
                reasons.append(f"{url}: {error}")
            except (FetchError, TimestampError) as error:
                breaker.failed()
                TIMESTAMPS.labels(url, "failed").inc()
                log.warning("no timestamp", authority=url, reason=str(error))
                reasons.append(f"{url}: {error}")
            except SoftTimeLimitExceeded as error:
                # It was the authorities that took the time, not the document.
                breaker.failed()
                raise AuthoritiesDownError(f"{url}: took too long") from error
            else:
                breaker.succeeded()
                TIMESTAMPS.labels(url, "granted").inc()
                self._remember(token)
                return token
        raise AuthoritiesDownError("; ".join(reasons))

    def _ask(self, url: str, signature_value: bytes) -> Token:
        asked = question(signature_value)
        answer = self._fetcher.post(
            url,
            asked.as_bytes(),
            content_type=QUERY_TYPE,
            answer_type=REPLY_TYPE,
            max_bytes=LONGEST_ANSWER,
        )
        token = read_answer(answer, asked, signature_value, roots=self._roots, now=self._now())
        if fingerprint(token.certificates[0]) in self._distrusted:
            raise TimestampError("its certificate is revoked")
        return token

    def _remember(self, token: Token) -> None:
        leaf, length = fingerprint(token.certificates[0]), len(token.der)
        known = self._signers.get(leaf)
        new = known is None or known.chain != token.certificates or length > self._longest
        self._longest = max(self._longest, length)
        self._signers[leaf] = _Signer(token.certificates, self._now())
        if new:
            self._note()

    def _note(self) -> None:
        if self._memory is None:
            return
        known = {
            "longest": self._longest,
            "signers": [
                {"at": signer.at.isoformat(), "chain": [der(each).hex() for each in signer.chain]}
                for signer in self._signers.values()
            ],
        }
        memory = self._memory
        building = memory.with_name(f".{memory.name}.{os.getpid()}.{threading.get_ident()}")
        try:
            memory.parent.mkdir(parents=True, exist_ok=True)
            building.write_text(json.dumps(known))
            building.replace(memory)
        except OSError as error:
            log.warning("timestamp authorities cannot be remembered", reason=str(error))

    def _recall(self) -> None:
        """Take up what processes before this one learnt; a file that is damaged tells nothing."""
        if self._memory is None:
            return
        try:
            known = json.loads(self._memory.read_bytes())
            longest = min(int(known["longest"]), LONGEST_ANSWER)
            signers = [
                _Signer(
                    tuple(x509.load_der_x509_certificate(bytes.fromhex(e)) for e in each["chain"]),
                    datetime.fromisoformat(each["at"]).astimezone(UTC),
                )
                for each in known["signers"]
            ]
            self._signers = {fingerprint(signer.chain[0]): signer for signer in signers}
        except (OSError, LookupError, ValueError, TypeError, OverflowError, RecursionError):
            return
        self._longest = longest

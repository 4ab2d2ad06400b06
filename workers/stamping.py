"""One job: claim, read, seal, store, finish.

Whatever dies here leaves the job to its parent or its lease: nothing is charged or told before the one
transaction that finishes it, and a stored result that lost its claim lies under a key that nobody
reads. What goes wrong has a class (`faults.py`), and the class says what becomes of the job.
"""

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from random import Random
from typing import Any, TypeVar
from uuid import UUID

from billiard.exceptions import SoftTimeLimitExceeded
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from common import documents, jobs
from common.codes import CodeSigner
from common.database import Database
from common.documents import Documents, MissingDocumentError
from common.jobs import Claim, ReservedStamp, Result, Setback, SetbackKind, State
from common.pace import Pace
from common.partners import Mode
from common.problems import Code
from common.settings import WorkerSettings
from common.telemetry import FINISHED, SETBACKS, STAMPING, logger
from common.verdicts import is_specimen
from workers import faults
from workers.faults import TookTooLongError
from workers.hands import Hands
from workers.keyring import Keyring
from workers.placing import WIB, engine_placement
from workers.sealer import Outcome, Sealer
from workers.sealing import Design, SealingError, Signer, Stamp

log = logger(__name__)
T = TypeVar("T")

# How much of the time of an attempt is spent waiting for a database that is away: for the claim, and in
# all. A worker that did not wait would empty its lane, one message after the other, for nothing.
CLAIM_PATIENCE = 0.5
WHOLE_PATIENCE = 0.9
# A document whose time was up is at fault if it kept a processor busy for this part of it. One that did
# not was in a process that was frozen, or on a machine that had no time for it.
ITS_SHARE = 0.25


class DocumentChangedError(Exception):
    """The stored document is not the one that was accepted."""


class NotClaimedError(Exception):
    """The database stayed away, and the job is as it was: its message belongs back into the lane."""


class AttemptEndedError(Exception):
    """An attempt did not end in a stamp; the text says why. For Flower and the log of the worker."""


class Stamper:
    """Stamps jobs with the parts of one worker process."""

    def __init__(
        self,
        *,
        settings: WorkerSettings,
        database: Database,
        documents: Documents,
        pace: Pace,
        keys: Keyring,
        sealer: Sealer,
        codes: CodeSigner,
        design: Design | None,
        tell: Callable[[list[UUID]], None],
        hands: Hands | None = None,
        random: Random | None = None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """Take the parts; nothing is opened here."""
        self._settings = settings
        self._database = database
        self._documents = documents
        self._pace = pace
        self._keys = keys
        self._sealer = sealer
        self._codes = codes
        self._design = design
        self._tell = tell
        self._hands = hands or Hands()
        self._random = random or Random()
        self._pause = pause

    def stamp(self, job_id: UUID, *, worker: str | None = None) -> None:
        """Take the job to its end, if it is still there to be claimed.

        Args:
            job_id: the job.
            worker: the name of this process, under which it claims; None: no parent watches over it.

        Raises:
            AttemptEndedError: something else than the document was at fault; the job went back into its
                lane, or is parked.
            NotClaimedError: there is no database.
            sqlalchemy.exc.SQLAlchemyError: the database went away after the claim; the lease brings the
                job back.
        """
        began = time.monotonic()
        try:
            claim = self._patiently(
                partial(
                    jobs.claim,
                    job_id=job_id,
                    lease_seconds=self._settings.lease_seconds,
                    worker=worker,
                ),
                began + self._settings.soft_limit_seconds * CLAIM_PATIENCE,
            )
        except SQLAlchemyError as error:
            if faults.kind_of(error) is not SetbackKind.PASSING:
                raise
            raise NotClaimedError(faults.reason_of(error)) from None
        if claim is None:
            log.info("nothing to claim")
            return
        if claim.attempt == 1:
            self._pace.progress(
                claim.lane, taken_up=1, waited_seconds=claim.waited_seconds, service_seconds=()
            )
        log.info("claimed", attempt=claim.attempt)
        started = time.perf_counter()
        until = began + self._settings.soft_limit_seconds * WHOLE_PATIENCE
        try:
            self._seal_and_finish(claim)
        except SealingError as error:
            self._fail(claim, Code(error.code), error.detail, until)
        except Exception as error:
            self._set_back(claim, error, until)
            # Without the cause: what a parent gets of a MemoryError would make it fall.
            raise AttemptEndedError(faults.reason_of(error)) from None
        seconds = time.perf_counter() - started
        STAMPING.observe(seconds)
        self._pace.progress(claim.lane, taken_up=0, waited_seconds=None, service_seconds=(seconds,))
        # Now nobody waits for it.
        self._sealer.refresh_ahead()

    def _seal_and_finish(self, claim: Claim) -> None:
        try:
            document = self._documents.get(documents.original_key(claim.job_id))
        except MissingDocumentError as error:
            raise DocumentChangedError("the accepted document is gone") from error
        now = datetime.now(UTC)
        signer = self._keys.signer(now)
        outcome = self._seal(claim, document, signer, now)
        sealed = outcome.sealed
        if sealed.document_sha256 != claim.document_sha256:
            raise DocumentChangedError("the stored document differs from the accepted one")
        key = documents.result_key(claim.job_id, claim.attempt)
        self._documents.put(key, sealed.chunks)
        result = Result(
            key=key,
            length=sum(map(len, sealed.chunks)),
            sha256=sealed.sha256,
            level=outcome.level,
            to_be_upgraded=outcome.to_be_upgraded,
            evidence_until=outcome.evidence_until,
            specimen=claim.mode is Mode.TEST
            or self._design is None
            or is_specimen(signer.certificates[0].subject.rfc4514_string()),
        )
        with self._database.transaction() as connection:
            changed = jobs.finish(connection, claim, result)
        if changed is None:
            log.warning("claim was taken over; result thrown away", attempt=claim.attempt)
            self._documents.delete(key)
            return
        log.info("stamped", attempt=claim.attempt, bytes=result.length, level=result.level)
        FINISHED.labels("stamped", "").inc()
        self._tell(changed.deliveries)

    def _seal(self, claim: Claim, document: bytes, signer: Signer, now: datetime) -> Outcome:
        """Seal, and make sure that what cannot be sealed is the document that was accepted."""
        busy = time.process_time()
        # A token may hang where nothing interrupts it.
        signer = replace(signer, sign=self._hands.without(signer.sign))
        try:
            with self._hands.holding():
                return self._sealer.seal(
                    document,
                    [self._stamp_for(claim, stamp, now) for stamp in claim.stamps],
                    signer=signer,
                    at=now,
                    reason=self._reason(claim),
                    design=self._design,
                )
        except SoftTimeLimitExceeded as error:
            if time.process_time() - busy < self._settings.soft_limit_seconds * ITS_SHARE:
                raise TookTooLongError(
                    "the time was up, and the document had hardly any"
                ) from error
            raise SealingError(Code.DOCUMENT_UNPROCESSABLE, reason="time") from error
        except SealingError as error:
            if hashlib.sha256(document).digest() != claim.document_sha256:
                raise DocumentChangedError("the stored document is damaged") from error
            raise

    def _fail(self, claim: Claim, code: Code, facts: Mapping[str, Any], until: float) -> None:
        changed = self._patiently(partial(jobs.fail, claim=claim, code=code, facts=facts), until)
        if changed is None:
            log.warning("claim was taken over; failure not recorded", attempt=claim.attempt)
            return
        log.info("failed", attempt=claim.attempt, code=code)
        FINISHED.labels("failed", code).inc()
        self._tell(changed.deliveries)

    def _set_back(self, claim: Claim, error: Exception, until: float) -> None:
        """Put a job back into its lane, or park it, as the class of the fault says."""
        setback = Setback(faults.kind_of(error), faults.reason_of(error))
        wait = faults.retry_seconds(claim.attempt, self._random)
        state = self._patiently(
            partial(
                jobs.give_back,
                claim=claim,
                setback=setback,
                retry_after_seconds=wait,
                faults_allowed=self._settings.attempts_before_parking,
            ),
            until,
        )
        SETBACKS.labels(setback.kind).inc()
        told = log.bind(attempt=claim.attempt, kind=setback.kind, reason=setback.reason)
        if state is None:
            told.warning("claim was taken over; setback not recorded")
        elif state is State.PARKED:
            told.error("parked", exc_info=error)
        elif setback.kind is SetbackKind.OURS:
            told.error("attempt failed", again_in=round(wait, 1), exc_info=error)
        else:
            told.warning("attempt failed", again_in=round(wait, 1))

    def _patiently(self, work: Callable[[Connection], T], until: float) -> T:
        """Do what one transaction does; while the database is away, again and again until a time.

        Only for what may be done twice: a commit whose answer was lost may have taken place.
        """
        while True:
            try:
                with self._database.transaction() as connection:
                    return work(connection)
            except SQLAlchemyError as error:
                passing = faults.kind_of(error) is SetbackKind.PASSING
                if not passing or time.monotonic() >= until:
                    raise
                log.warning("waiting for the database", reason=faults.reason_of(error))
            self._pause(self._random.uniform(0.2, 1.0))

    def _reason(self, claim: Claim) -> str:
        """Return what the signature is for: every serial in brackets, then our words.

        Checkers read the serials from here, so none is left out; a job's stamps are few.
        """
        serials = " ".join(f"[{serial}]" for serial in claim.serials)
        return f"{serials} {self._settings.signing_reason}"

    def _stamp_for(self, claim: Claim, stamp: ReservedStamp, now: datetime) -> Stamp:
        today = now.astimezone(WIB).date()
        return Stamp(
            serial=stamp.serial,
            qr_text=self._codes.text(
                serial=stamp.serial, day=today, document_sha256=claim.document_sha256
            ),
            face_value=self._settings.face_value,
            date=today,
            specimen=claim.mode is Mode.TEST,
            placement=engine_placement(stamp.placement),
        )

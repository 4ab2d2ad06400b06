"""Jobs, one after the other: claim, read, seal, store, finish, and with the finish claim the next.

Whatever dies here leaves one job to its parent or its lease: nothing is charged or told before the one
statement that finishes it, and a stored result that lost its claim lies under a key that nobody reads.
What goes wrong has a class (`faults.py`), and the class says what becomes of the job.
"""

import hashlib
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
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
from common.jobs import Claim, Finished, Next, ReservedStamp, Result, Setback, SetbackKind, State
from common.pace import Pace
from common.partners import Mode
from common.problems import Code
from common.settings import WorkerSettings
from common.telemetry import FINISHED, SETBACKS, STAMPING, about, logger
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
    """Attempts did not end in a stamp; the text says why. For Flower and the log of the worker."""


@dataclass(slots=True)
class _Work:
    """What is to be done with the jobs of one call, and what has come of it so far."""

    left: deque[UUID]
    worker: str | None
    may_go_on: Callable[[int], bool]
    began: float = field(default_factory=time.monotonic)
    begun: int = 0
    # Asked for with the finish of another job, and not yet answered.
    asked_for: Next | None = None
    # What the lane's pace is still to be told of.
    taken_up: list[Claim] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    lane: str = ""
    # Why attempts ended that were no document's fault.
    ended: list[str] = field(default_factory=list)

    def may_begin(self) -> bool:
        return not self.begun or self.may_go_on(self.begun)


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
        # The key, and the signer made of it.
        self._held: tuple[Signer, Signer] | None = None

    def stamp(
        self,
        *job_ids: UUID,
        worker: str | None = None,
        may_go_on: Callable[[int], bool] = lambda _: True,
        put_back: Callable[[Sequence[UUID]], None] = lambda _: None,
    ) -> None:
        """Take jobs of a lane to their ends, one after the other, where they are there to be claimed.

        One is claimed at a time, mostly with the finish of the one before it. What goes wrong with one
        keeps no other from its turn, but that the time of an attempt is counted from this call.

        Args:
            job_ids: the jobs.
            worker: the name of this process, under which it claims; None: no parent watches over it.
            may_go_on: says after how many jobs that were begun one more may be.
            put_back: takes those that were not begun, if it said no; what it raises passes through.

        Raises:
            AttemptEndedError: something else than a document was at fault; such a job went back into its
                lane, or is parked.
            NotClaimedError: there is no database. The jobs that are not ended are as they were.
            sqlalchemy.exc.SQLAlchemyError: the database went away after a claim; the lease brings that
                job back, and those behind it are as they were.
        """
        work = _Work(deque(job_ids), worker, may_go_on)
        try:
            self._one_after_the_other(work)
        finally:
            self._note(work)
        # Now nobody waits for it.
        self._sealer.refresh_ahead()
        if work.left:
            put_back(list(work.left))
        if work.ended:
            raise AttemptEndedError("; ".join(work.ended))

    def _one_after_the_other(self, work: _Work) -> None:
        claim: Claim | None = None
        while work.left and (claim or work.may_begin()):
            job_id = work.left.popleft()
            with about(job_id=str(job_id)):
                claim = claim or self._claim(job_id, work)
                if claim is None:
                    log.info("nothing to claim")
                    continue
                work.begun += 1
                work.lane = claim.lane
                if claim.attempt == 1:
                    work.taken_up.append(claim)
                if work.begun == 1:
                    # At once: it may take long, and those who wait count on it.
                    self._note(work)
                claim = self._attempt(claim, work)

    def _note(self, work: _Work) -> None:
        """Tell the lane's pace what it was not told yet."""
        if not work.taken_up and not work.seconds:
            return
        self._pace.progress(
            work.lane,
            taken_up=len(work.taken_up),
            waited_seconds=work.taken_up[-1].waited_seconds if work.taken_up else None,
            service_seconds=work.seconds,
        )
        work.taken_up, work.seconds = [], []

    def _claim(self, job_id: UUID, work: _Work) -> Claim | None:
        try:
            return self._patiently(
                partial(
                    jobs.claim,
                    job_id=job_id,
                    lease_seconds=self._settings.lease_seconds,
                    worker=work.worker,
                ),
                work.began + self._settings.soft_limit_seconds * CLAIM_PATIENCE,
            )
        except SQLAlchemyError as error:
            if faults.kind_of(error) is not SetbackKind.PASSING:
                raise
            raise NotClaimedError(faults.reason_of(error)) from None

    def _attempt(self, claim: Claim, work: _Work) -> Claim | None:
        """Take an attempt to its end; returns the claim of the next job, if that was made with it."""
        started = time.perf_counter()
        until = work.began + self._settings.soft_limit_seconds * WHOLE_PATIENCE
        next_claim = None
        try:
            next_claim = self._seal_and_finish(claim, work)
        except SealingError as error:
            self._fail(claim, Code(error.code), error.detail, until)
        except Exception as error:
            self._set_back(claim, error, until)
            self._let_go(work, until)
            work.ended.append(faults.reason_of(error))
            return None
        seconds = time.perf_counter() - started
        STAMPING.observe(seconds)
        work.seconds.append(seconds)
        return next_claim

    def _seal_and_finish(self, claim: Claim, work: _Work) -> Claim | None:
        try:
            document = self._documents.get(documents.original_key(claim.job_id))
        except MissingDocumentError as error:
            raise DocumentChangedError("the accepted document is gone") from error
        now = datetime.now(UTC)
        signer = self._signer(now)
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
        finished = self._finish(claim, result, work)
        if finished.changed is None:
            log.warning("claim was taken over; result thrown away", attempt=claim.attempt)
            self._documents.delete(key)
            return None
        log.info("stamped", attempt=claim.attempt, bytes=result.length, level=result.level)
        FINISHED.labels("stamped", "").inc()
        self._tell(finished.changed.deliveries)
        work.asked_for = None
        return finished.claim

    def _finish(self, claim: Claim, result: Result, work: _Work) -> Finished:
        """Finish, and claim the next job where there is one and it may be begun: one round trip."""
        if work.left and work.may_begin():
            work.asked_for = Next(
                job_id=work.left[0],
                lease_seconds=self._settings.lease_seconds,
                worker=work.worker,
            )
        return jobs.finish_alone(self._database, claim, result, work.asked_for)

    def _let_go(self, work: _Work, until: float) -> None:
        """Give up a job that was asked for by a statement whose answer was lost, if it was given."""
        asked_for, work.asked_for = work.asked_for, None
        if asked_for is None or asked_for.worker is None:
            return
        self._patiently(
            partial(
                jobs.take_from,
                job_ids=[asked_for.job_id],
                worker=asked_for.worker,
                setback=Setback(SetbackKind.LOST, "the answer to its claim was lost"),
                counts=False,
            ),
            until,
        )

    def _signer(self, now: datetime) -> Signer:
        """Return the key to sign with, which puts the document down: a token may hang for ever.

        The same one while the key is the same: the engine keeps what it has encoded for a signer.
        """
        key = self._keys.signer(now)
        if self._held is None or self._held[0] is not key:
            self._held = (key, replace(key, sign=self._hands.without(key.sign)))
        return self._held[1]

    def _seal(self, claim: Claim, document: bytes, signer: Signer, now: datetime) -> Outcome:
        """Seal, and make sure that what cannot be sealed is the document that was accepted."""
        busy = time.process_time()
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

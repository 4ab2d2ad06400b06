"""The words of a job's life: its states, and the values that go from one step to the next."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from common.levels import Level
from common.partners import Mode
from common.placements import Placement


class State(StrEnum):
    """Where a job is in its life."""

    QUEUED = "queued"
    STAMPING = "stamping"
    PARKED = "parked"
    STAMPED = "stamped"
    FAILED = "failed"
    CANCELLED = "cancelled"


FINAL = frozenset({State.STAMPED, State.FAILED, State.CANCELLED})


class SetbackKind(StrEnum):
    """Why an attempt did not end in a stamp."""

    # The document, or the place that was asked for: the job failed.
    DOCUMENT = "document"
    # Something that all jobs need was away or slow.
    PASSING = "passing"
    # A fault of ours.
    OURS = "ours"
    # Its worker went away without a word, or was ended.
    LOST = "lost"
    # Its process died, or had to be killed, with the document in its hands.
    KILLED = "killed"


@dataclass(frozen=True, slots=True)
class Setback:
    """How an attempt ended that did not end in a stamp; the reason is for operators."""

    kind: SetbackKind
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """What is accepted; the document is already stored under the job's id."""

    id: UUID
    account_id: UUID
    partner_id: UUID
    mode: Mode
    lane: str
    ticket: int | None
    placements: Sequence[Placement]
    external_reference: str | None
    metadata: Mapping[str, str]
    document_name: str
    document_bytes: int
    document_sha256: bytes
    accepted_at: datetime
    receipt: str
    batch_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class ReservedStamp:
    """One stamp of a job: the serial it carries on every attempt, and where it goes."""

    serial: str
    placement: Placement


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The right to stamp a job, until the lease runs out or somebody claims it anew."""

    job_id: UUID
    account_id: UUID
    partner_id: UUID
    mode: Mode
    attempt: int
    lane: str
    stamps: Sequence[ReservedStamp]
    document_sha256: bytes
    external_reference: str | None
    # Since the acceptance, by the database's clock.
    waited_seconds: float

    @property
    def serials(self) -> list[str]:
        """Return the stamps' serials in order."""
        return [stamp.serial for stamp in self.stamps]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The stamped file: where it is stored, its length in bytes, its SHA-256 and signature level.

    It is a `specimen` when its stamps or their signer say so, also in live mode.

    One that is to be upgraded has room for a timestamp; see `upgrades.py`.
    """

    key: str
    length: int
    sha256: bytes
    level: Level = Level.B_B
    to_be_upgraded: bool = False
    evidence_until: datetime | None = None
    specimen: bool = False


@dataclass(frozen=True, slots=True)
class Changed:
    """A change that took place, and the webhook deliveries it caused."""

    deliveries: list[UUID]

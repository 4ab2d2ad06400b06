"""How a job and a batch look to their owner."""

from datetime import UTC, datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, Field

from common.batches import Batch
from common.jobs import SetbackKind, State
from common.jobs.records import JobPicture
from common.pace import Wait
from common.partners import Mode
from common.placements import Placement
from common.problems import PROBLEMS
from web.parts import Parts, parts


class FileFacts(BaseModel):
    """A file by its facts."""

    name: str
    bytes: int
    sha256: str = Field(description="SHA-256 of the whole file, 64 hexadecimal digits.")


class StampedFacts(FileFacts):
    """The stamped file, and what its signature brings along."""

    level: Literal["B-B", "B-T", "B-LT"] = Field(
        description="PAdES level of the signature (ETSI EN 319 142-1)."
    )
    earlier_sha256: str | None = Field(
        description="SHA-256 that the file had before its timestamp came; a copy of it is as good."
    )


class JobProblem(BaseModel):
    """Why a job failed; `code` is one of the problem codes."""

    code: str
    title: str
    facts: dict[str, Any]


class JobSetback(BaseModel):
    """An attempt that did not end in a stamp."""

    attempt: int = Field(description="Which one; they count from 1.")
    at: datetime = Field(description="When it ended.")
    kind: SetbackKind = Field(
        description="`document`: the job failed by it; `passing`: something was away or slow; `ours`: a "
        "fault of ours; `lost`: its worker went away; `killed`: its process died over the document."
    )


class JobStamp(BaseModel):
    """One stamp of a job."""

    serial: str | None = Field(
        description="The serial number that the stamp carries, on every attempt; null while the job "
        "waits for serials, and where the number was taken back from a job without a stamp."
    )
    placement: Placement


class JobLinks(BaseModel):
    """Where to go from here."""

    self: str
    status_page: str = Field(description="A page for people; whoever has the link sees the job.")
    receipt: str
    document: str | None = Field(description="The stamped file, while there is one.")


class Job(BaseModel):
    """A job as its owner sees it."""

    id: UUID
    state: State
    mode: Mode
    waiting_for: Literal["serials"] | None = Field(
        description="`serials`: accepted while none were in stock; the job goes on by itself once there "
        "are some. Null otherwise."
    )
    serial: str | None = Field(
        description="The first stamp's serial number; `stamps` has them all. Null where it has none."
    )
    position: int | None = Field(
        description="Place in the queue, 1 is next; null when not queued or not known."
    )
    seconds_left: int | None = Field(
        description="Measured estimate until stamped; null when not queued or not yet measured."
    )
    attempts: int = Field(description="How often a worker took the job up.")
    setbacks: list[JobSetback] = Field(
        description="The newest attempts that did not end in a stamp, in their order."
    )
    placement: Placement = Field(
        description="Where the first stamp goes, as it was asked for; `stamps` has them all."
    )
    stamps: list[JobStamp] = Field(description="Every stamp, in the order asked for.")
    batch_id: UUID | None = Field(description="The batch that it came in, if it came in one.")
    external_reference: str | None
    metadata: dict[str, str]
    document: FileFacts
    stamped: StampedFacts | None
    problem: JobProblem | None
    accepted_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    purged_at: datetime | None = Field(
        description="When the documents were deleted, at the end of their retention time."
    )
    links: JobLinks


class AcceptedJob(Job):
    """The answer to a submission: the job and its receipt."""

    receipt: str = Field(
        description="Signed proof of arrival, a JWS (EdDSA) to check against /.well-known/jwks.json."
    )


class JobPage(BaseModel):
    """Some jobs, newest first."""

    object: Literal["list"]
    data: list[Job]
    next_cursor: str | None = Field(description="Send as `cursor` for the jobs after these.")


class BatchLinks(BaseModel):
    """Where to go from here."""

    self: str
    jobs: str


class BatchState(BaseModel):
    """A batch as its owner sees it."""

    id: UUID
    mode: Mode
    external_reference: str | None
    total: int = Field(description="How many jobs it has.")
    counts: dict[State, int] = Field(description="How many of them are in each state.")
    accepted_at: datetime
    finished_at: datetime | None = Field(description="When the last of its jobs ended.")
    links: BatchLinks


class AcceptedBatch(BatchState):
    """The answer to a batch: all of its jobs, in the order asked for, each with its receipt."""

    jobs: list[AcceptedJob]


class BatchPage(BaseModel):
    """Some batches, newest first."""

    object: Literal["list"]
    data: list[BatchState]
    next_cursor: str | None = Field(description="Send as `cursor` for the batches after these.")


def rfc3339(at: datetime | None) -> str | None:
    """Return a time as RFC 3339 in UTC with milliseconds."""
    if at is None:
        return None
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def stamped_name(document_name: str) -> str:
    """Return the file name that a stamped document is downloaded under."""
    return f"{document_name.removesuffix('.pdf').removesuffix('.PDF')}-stamped.pdf"


def job_links(job_id: UUID, shared: Parts, *, stamped: bool) -> dict[str, str | None]:
    """Return a job's links."""
    here = f"{shared.settings.public_url}/v1/jobs/{job_id}"
    return {
        "self": here,
        "status_page": shared.links.url(job_id),
        "receipt": f"{here}/receipt",
        "document": f"{here}/document" if stamped else None,
    }


def job_json(job: JobPicture, wait: Wait, shared: Parts | None = None) -> dict[str, Any]:
    """Return a job as JSON values, in the shape of `Job`.

    Args:
        job: the job.
        wait: its place and time left, as they are shown.
        shared: whose addresses its links have; those of the app that serves this request.
    """
    ended = job.state is State.STAMPED and job.purged_at is None
    return {
        "id": str(job.id),
        "state": job.state,
        "mode": job.mode,
        "waiting_for": job.waiting_for,
        "serial": job.serial,
        "position": wait.position,
        "seconds_left": wait.seconds_left,
        "attempts": job.attempt,
        "setbacks": [
            {
                "attempt": each["attempt"],
                "at": rfc3339(datetime.fromisoformat(each["at"])),
                "kind": each["kind"],
            }
            for each in job.setbacks
        ],
        "placement": job.placements[0],
        "stamps": job.stamps,
        "batch_id": None if job.batch_id is None else str(job.batch_id),
        "external_reference": job.external_reference,
        "metadata": job.metadata,
        "document": {
            "name": job.document_name,
            "bytes": job.document_bytes,
            "sha256": job.document_sha256.hex(),
        },
        "stamped": None
        if job.result_sha256 is None
        else {
            "name": stamped_name(job.document_name),
            "bytes": job.result_bytes,
            "sha256": job.result_sha256.hex(),
            "level": job.signature_level,
            "earlier_sha256": None if job.earlier_sha256 is None else job.earlier_sha256.hex(),
        },
        "problem": None
        if job.problem_code is None
        else {
            "code": job.problem_code,
            "title": PROBLEMS[job.problem_code].english,
            "facts": job.problem_facts,
        },
        "accepted_at": rfc3339(job.accepted_at),
        "started_at": rfc3339(job.started_at),
        "finished_at": rfc3339(job.finished_at),
        "purged_at": rfc3339(job.purged_at),
        "links": job_links(job.id, shared or parts(), stamped=ended),
    }


def batch_json(batch: Batch) -> dict[str, Any]:
    """Return a batch as JSON values, in the shape of `BatchState`."""
    here = f"{parts().settings.public_url}/v1/batches/{batch.id}"
    return {
        "id": str(batch.id),
        "mode": batch.mode,
        "external_reference": batch.external_reference,
        "total": batch.total,
        "counts": {state.value: batch.counts.get(state, 0) for state in State},
        "accepted_at": rfc3339(batch.accepted_at),
        "finished_at": rfc3339(batch.finished_at),
        "links": {"self": here, "jobs": f"{here}/jobs"},
    }

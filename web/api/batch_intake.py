"""Reading a batch: its documents, and what is asked for each; all of it is good, or none is taken.

Documents above half a megabyte wait in temporary files, as werkzeug puts them. Each is read twice, one
at a time: looked at here, and stored when all of them are known to be good.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from flask import request
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from werkzeug.datastructures import FileStorage
from werkzeug.exceptions import RequestEntityTooLarge

from common.problems import Code, ProblemError
from common.settings import WebSettings
from web import once
from web.answers import field_problem, problem_member
from web.api.fields import JobFields, Line
from web.api.intake import CHUNK, MULTIPART, PDF, Facts, bytes_of, file_name, refuse_unstampable

JOBS_PART = "jobs"
REFERENCE_PART = "external_reference"
# Room for the fields of a job: twenty stamps at anchors, and all the metadata that it may have.
FIELDS_BYTES = 32 * 1024


class BatchJob(JobFields):
    """One job of a batch: the fields of `POST /v1/jobs`, and which document they are for."""

    model_config = ConfigDict(title="BatchJob")

    document: Line = Field(min_length=1, max_length=200, description="The name of its part.")


class BatchForm(BaseModel):
    """The parts of a batch; every other part is a document, under a name of your own."""

    model_config = ConfigDict(
        json_schema_extra={"additionalProperties": {"type": "string", "contentMediaType": PDF}}
    )

    jobs: list[BatchJob] = Field(
        min_length=1,
        description="What is asked for each document: a JSON array, one job for each, in the order "
        "that they are to be stamped.",
    )
    external_reference: Line | None = Field(
        None, min_length=1, max_length=200, description="Your own name for the batch."
    )


@dataclass(frozen=True, slots=True)
class Item:
    """A document of the batch that looks like a PDF, still in its part of the form."""

    part: FileStorage
    facts: Facts

    def read(self) -> bytes:
        """Return the document."""
        self.part.stream.seek(0)
        return bytes_of(self.part)


@dataclass(frozen=True, slots=True)
class BatchSubmission:
    """All that a batch asks for."""

    items: Sequence[Item]
    external_reference: str | None

    def fingerprint(self) -> bytes:
        """Return a SHA-256 over everything that was asked for."""
        asked = hashlib.sha256(orjson.dumps(self.external_reference))
        for item in self.items:
            asked.update(item.facts.fingerprint())
        return once.fingerprint(asked.digest())


def read_batch(settings: WebSettings) -> BatchSubmission:
    """Read this request's body and refuse what can be refused now, naming everything that is wrong.

    Raises:
        ProblemError: `content_type_unsupported`, `batch_too_large`, `field_unknown`,
            `field_invalid`, and `batch_refused` with one entry of `errors` for each fault.
    """
    files, form = _parts(settings)
    reference = _reference(form)
    wanted = _jobs(files, form, settings)
    documents = {name: files.getlist(name) for name in files if name != JOBS_PART}
    named = Counter(one["document"] for one in wanted if isinstance(one.get("document"), str))
    items: list[Item] = []
    errors: list[dict[str, Any]] = []
    for number, one in enumerate(wanted, start=1):
        try:
            items.append(_item(one, documents, named, settings.max_document_bytes))
        except ProblemError as error:
            name = one.get("document")
            said = {"document": name if isinstance(name, str) else None, "job": number}
            errors.append(said | problem_member(error))
    for name in (name for name in documents if name not in named):
        stray = ProblemError(Code.FIELD_UNKNOWN, "no job names this part")
        errors.append({"document": name, "job": None} | problem_member(stray))
    if errors:
        raise ProblemError(
            Code.BATCH_REFUSED, f"{len(errors)} of it cannot be taken", {"errors": errors}
        )
    return BatchSubmission(items, reference)


def _parts(settings: WebSettings) -> tuple[Any, Any]:
    """Return files and fields of the form, within the limits of a batch."""
    if request.mimetype != MULTIPART:
        raise ProblemError(Code.CONTENT_TYPE_UNSUPPORTED, facts={"accepted": [MULTIPART]})
    if request.args:
        raise ProblemError(Code.FIELD_UNKNOWN, "the fields are form parts, not query parameters")
    fields_bytes = settings.batch_documents * FIELDS_BYTES
    request.max_content_length = settings.max_batch_bytes + fields_bytes
    request.max_form_memory_size = fields_bytes + CHUNK
    request.max_form_parts = settings.batch_documents + 2
    try:
        return request.files, request.form
    except RequestEntityTooLarge as error:
        raise _too_large(settings) from error


def _reference(form: Any) -> str | None:
    strangers = [name for name in form if name not in (JOBS_PART, REFERENCE_PART)]
    if strangers:
        raise ProblemError(
            Code.FIELD_UNKNOWN,
            # A part may even come without a name.
            f"unknown: {', '.join(map(str, strangers))}; a document is a part with a file name"[
                :300
            ],
        )
    for name in form:
        if len(form.getlist(name)) > 1:
            raise ProblemError(Code.FIELD_INVALID, f"{name}: given more than once")
    if REFERENCE_PART not in form:
        return None
    try:
        return JobFields(external_reference=form[REFERENCE_PART]).external_reference
    except ValidationError as error:
        raise field_problem(error) from error


def _jobs(files: Any, form: Any, settings: WebSettings) -> list[dict[str, Any]]:
    """Return what is asked for each document, as JSON objects."""
    text: str | bytes | None = form.get(JOBS_PART)
    if text is None and JOBS_PART in files:
        text = bytes_of(files[JOBS_PART])
    if text is None:
        raise ProblemError(Code.FIELD_INVALID, f"{JOBS_PART}: Field required")
    try:
        wanted = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise ProblemError(
            Code.FIELD_INVALID, f"{JOBS_PART}: must be a JSON array of jobs"
        ) from error
    if not isinstance(wanted, list) or not wanted or not all(isinstance(o, dict) for o in wanted):
        raise ProblemError(Code.FIELD_INVALID, f"{JOBS_PART}: must be a JSON array of jobs")
    if len(wanted) > settings.batch_documents:
        raise _too_large(settings)
    return wanted


def _item(
    wanted: dict[str, Any],
    documents: dict[str, list[FileStorage]],
    named: Counter[str],
    max_bytes: int,
) -> Item:
    try:
        fields = BatchJob.model_validate(wanted)
    except ValidationError as error:
        raise field_problem(error) from error
    sent = documents.get(fields.document, [])
    if not sent:
        raise ProblemError(Code.DOCUMENT_MISSING, "there is no part of this name with a file")
    if len(sent) > 1:
        raise ProblemError(Code.FIELD_INVALID, "document: several parts have this name")
    if named[fields.document] > 1:
        raise ProblemError(Code.FIELD_INVALID, "document: several jobs name it")
    (part,) = sent
    document = bytes_of(part)
    if len(document) > max_bytes:
        raise ProblemError(
            Code.DOCUMENT_TOO_LARGE, f"the limit is {max_bytes} bytes", {"max_bytes": max_bytes}
        )
    refuse_unstampable(document)
    return Item(part, Facts.of(document, file_name(part.filename), fields))


def _too_large(settings: WebSettings) -> ProblemError:
    limits: dict[str, object] = {
        "max_documents": settings.batch_documents,
        "max_bytes": settings.max_batch_bytes,
        "max_document_bytes": settings.max_document_bytes,
    }
    return ProblemError(
        Code.BATCH_TOO_LARGE,
        f"the limits are {settings.batch_documents} documents and {settings.max_batch_bytes} bytes",
        limits,
        # The rest of the body may not have been read, so the connection cannot be used again.
        {"Connection": "close"},
    )

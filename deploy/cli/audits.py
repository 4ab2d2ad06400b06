"""`stampede audit`: what holds of all jobs, in the database and in the object store."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import click
import psycopg
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as NoConnectionError

from common import audit, database, documents, jwks
from common.documents import StoreAwayError
from common.receipts import ReceiptChecker
from common.settings import data_dir_from_environment
from deploy import document_audit
from deploy.cli.surroundings import (
    TRUST_VARIABLE,
    TRUSTED,
    as_json,
    certificates,
    first_line,
    named_file,
    print_json,
    settings,
    transaction,
)
from deploy.document_audit import DocumentAudit, Progress

# What takes no longer needs no word.
QUIET_SECONDS = 2.0


@click.command("audit")
@click.option(
    "--ids",
    "ids_shown",
    default=20,
    show_default=True,
    type=click.IntRange(1),
    help="How many offenders to name per rule; all are counted.",
)
@click.option(
    "--documents", "with_documents", is_flag=True, help="Also read every file and every receipt."
)
@click.option("--sample", type=click.IntRange(1), help="With --documents: of so many jobs only.")
@click.option(
    "--after",
    type=click.UUID,
    help="With --documents: go on behind this job, as the last run said.",
)
@click.option(
    "--verify", is_flag=True, help="With --documents: also check signatures, with pyHanko."
)
@click.option(
    "--parallel",
    default=8,
    show_default=True,
    type=click.IntRange(1, 64),
    help="With --documents: files read at the same time.",
)
@click.option(
    "--receipt-keys",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Public keys that receipts are checked against, JWKS or PEM.  [default: the one of"
    " $STAMPEDE_RECEIPT_KEY_FILE]",
)
@as_json
def audit_command(
    ids_shown: int,
    with_documents: bool,
    sample: int | None,
    after: UUID | None,
    verify: bool,
    parallel: int,
    receipt_keys: Path | None,
    json_: bool,
) -> None:
    """Check every invariant over the whole database. Ends with 1 where one does not hold.

    It may run in production, under load: one snapshot that changes nothing, in a single process of the
    database, and no writer waits for it. Do not migrate meanwhile. It may be ended at any time.
    docs/audit.md says what each rule means when it speaks.

    With --documents: also whether every receipt verifies, and every file is there with the recorded
    length and hash. That reads the whole object store, or a --sample of it.
    """
    if not with_documents and (sample or after or verify or receipt_keys):
        raise click.UsageError(
            "--sample, --after, --verify and --receipt-keys belong to --documents"
        )
    looks = _document_audit(verify, parallel, ids_shown, receipt_keys) if with_documents else None
    found = _in_the_database(ids_shown)
    facts, violations, rules = found.as_json(), list(found.violations), len(audit.RULES)
    if looks is not None:
        progress, wrong = _in_the_store(looks, sample, after)
        violations += wrong
        rules += len(document_audit.RULES) - (not verify)
        facts |= {
            "violations": [violation.as_json() for violation in violations],
            "documents": {"jobs": progress.looked_at, "files": progress.files},
        }
    if json_:
        print_json(facts)
    else:
        _print(found, violations, rules)
    sys.exit(1 if violations else 0)


def _print(found: audit.Audit, violations: list[audit.Violation], rules: int) -> None:
    for violation in violations:
        more = violation.count - len(violation.ids)
        click.echo(
            f"VIOLATED  {violation.rule}: {', '.join(violation.ids)}"
            + (f" and {more} more" if more else "")
        )
    click.echo(f"{found.jobs} jobs, {len(violations)} of {rules} rules violated")


def _in_the_database(ids_shown: int) -> audit.Audit:
    def tell(what: str, seconds: float) -> None:
        if seconds >= QUIET_SECONDS:
            click.echo(f"{seconds:7.1f} s  {what}", err=True)

    with transaction() as connection:
        try:
            return audit.audit(connection, ids_shown=ids_shown, tell=tell)
        except OperationalError as error:
            for kind, sentence in (
                (psycopg.errors.LockNotAvailable, "a migration holds a table; try again after it"),
                (psycopg.errors.QueryCanceled, "it was cancelled at the database"),
            ):
                if isinstance(error.orig, kind):
                    raise click.ClickException(sentence) from error
            raise


def _document_audit(
    verify: bool, parallel: int, ids_shown: int, receipt_keys: Path | None
) -> DocumentAudit:
    trusted = named_file(TRUST_VARIABLE) or data_dir_from_environment() / TRUSTED
    chosen = settings()
    return DocumentAudit(
        database=database.connect(chosen),
        documents=documents.connect(chosen),
        receipts=_receipt_checker(receipt_keys),
        trust_roots_pem=certificates(trusted, f"${TRUST_VARIABLE}") if verify else None,
        parallel=parallel,
        ids_shown=ids_shown,
    )


def _receipt_checker(file: Path | None) -> ReceiptChecker:
    try:
        if file is not None:
            return ReceiptChecker(jwks.public_keys(file.read_bytes(), jwks.Use.RECEIPT))
        own = named_file("STAMPEDE_RECEIPT_KEY_FILE")
        if own is None:
            raise click.ClickException("no key to check receipts against; name --receipt-keys")
        return ReceiptChecker([jwks.private_key(own.read_bytes()).public_key()])
    except (OSError, ValueError) as error:
        raise click.ClickException(f"{file or own} cannot be used: {error}") from error


def _in_the_store(
    looks: DocumentAudit, sample: int | None, after: UUID | None
) -> tuple[Progress, list[audit.Violation]]:
    reached = after

    def tell(progress: Progress) -> None:
        nonlocal reached
        reached = progress.last
        said(progress)

    said = _now_and_then(resumable=sample is None)
    try:
        return looks.run(sample=sample, after=after, tell=tell)
    except (StoreAwayError, OperationalError, NoConnectionError) as error:
        on = f"; go on with --after {reached}" if reached is not None and sample is None else ""
        raise click.ClickException(
            f"the documents cannot be read now: {first_line(error)}{on}"
        ) from error


def _now_and_then(*, resumable: bool) -> Callable[[Progress], None]:
    """Return what tells of progress, every few seconds, and where a run that is ended may go on."""
    last = time.monotonic()

    def say(progress: Progress) -> None:
        nonlocal last
        if time.monotonic() - last >= QUIET_SECONDS:
            last = time.monotonic()
            on = f"; go on with --after {progress.last}" if resumable else ""
            click.echo(f"{progress.looked_at} of {progress.jobs} jobs{on}", err=True)

    return say

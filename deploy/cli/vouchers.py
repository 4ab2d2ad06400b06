"""`stampede voucher`: stamps for applicants, behind codes that are sold elsewhere."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import click

from common import partners
from common.partners import Mode, UnknownPartnerError
from common.vouchers import code, issuing, records
from common.vouchers.code import MistypedError, VoucherCode
from common.vouchers.issuing import NewBatch, ReferenceUsedError
from common.vouchers.records import UnknownVoucherError
from deploy.cli.surroundings import as_json, operator, print_json, said, transaction
from deploy.cli.words import REASON, Words
from deploy.codefile import CodeFile, CodeFileError, unfinished_name

# A voucher's last day ends in Jakarta, as the days on stamps do.
WIB = timezone(timedelta(hours=7), "WIB")
COLUMNS = ("code", "stamps", "mode", "expires_at", "reference")


@click.group()
def voucher() -> None:
    """Vouchers: stamps for applicants without an account."""


@voucher.command("issue")
@click.option("--partner", "name", required=True, help="Who sells them.")
@click.option("--mode", type=click.Choice([m.value for m in Mode]), required=True)
@click.option("--stamps", type=click.IntRange(1, 10_000), required=True, help="Worth of each.")
@click.option("--count", type=click.IntRange(1, 1_000_000), required=True, help="How many.")
@click.option(
    "--reference", type=Words(), required=True, help="Your name for the batch; it is issued once."
)
@click.option(
    "--expires",
    type=click.DateTime(["%Y-%m-%d"]),
    help="Last day on which they can be used, in Jakarta.  [default: no end]",
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="New file for the codes (CSV); they are in clear nowhere else.",
)
def voucher_issue(
    name: str,
    mode: str,
    stamps: int,
    count: int,
    reference: str,
    expires: datetime | None,
    output: Path,
) -> None:
    """Make a batch of vouchers and write their codes into a file.

    The file is on the disk before the vouchers exist. While it is named ….unfinished, `stampede voucher
    list --reference …` says whether they do.
    """
    expires_at = None if expires is None else expires.replace(tzinfo=WIB) + timedelta(days=1)
    if expires_at is not None and expires_at <= datetime.now(UTC):
        raise click.UsageError("--expires is in the past")
    with _in_words(reference, output), transaction() as connection:
        batch = NewBatch(
            reference=reference,
            partner_id=partners.find_by_name(connection, name).id,
            mode=Mode(mode),
            stamps=stamps,
            expires_at=expires_at,
            by=operator(),
        )
        issuing.require_unused(connection, reference)
    codes = [code.generate() for _ in range(count)]
    with _in_words(reference, output):
        file = CodeFile(output)
        file.write(_rows(batch, codes))
    _commit(batch, codes, file)
    try:
        file.finish()
    except CodeFileError as error:
        raise click.ClickException(f"{error}; rename it") from error
    click.echo(f"{count} vouchers of {stamps} stamps each; their codes are in {output}")


def _rows(batch: NewBatch, codes: Sequence[VoucherCode]) -> Iterator[Sequence[object]]:
    yield COLUMNS
    until = "" if batch.expires_at is None else batch.expires_at.isoformat()
    for one in codes:
        yield one, batch.stamps, batch.mode, until, batch.reference


def _commit(batch: NewBatch, codes: Sequence[VoucherCode], file: CodeFile) -> None:
    """Make the vouchers; the file goes where they certainly do not exist, and stays otherwise."""
    may_exist = False
    try:
        with _in_words(batch.reference, file.file), transaction() as connection:
            issuing.issue(connection, batch, codes)
            may_exist = True
    except BaseException as error:
        if not may_exist:
            file.discard()
            raise
        raise click.ClickException(
            f"the commit was not confirmed: {error}. See 'stampede voucher list --reference"
            f" {batch.reference}': if the batch is there, {file.unfinished} holds its codes, so rename"
            f" it to {file.file}; if not, delete it and issue again"
        ) from error


@voucher.command("show")
@click.argument("typed", metavar="CODE")
@as_json
def voucher_show(typed: str, json_: bool) -> None:
    """Show what is left of a voucher."""
    wanted = _typed(typed)
    with _in_words(), transaction() as connection:
        found = records.show(connection, wanted)
    _print([asdict(found)], json_=json_)


@voucher.command("list")
@click.option("--reference", help="Only this batch.")
@as_json
def voucher_list(reference: str | None, json_: bool) -> None:
    """Show the batches, and how many of each are spent.

    Touched are those that something was submitted with; spent, those that have nothing left.
    """
    with _in_words(), transaction() as connection:
        found = records.batches(connection, reference=reference)
    _print([asdict(batch) for batch in found], json_=json_)


@voucher.command("void")
@click.argument("typed", metavar="[CODE]", required=False)
@click.option("--reference", help="Instead of one code: every voucher of this batch.")
@click.option("--reason", type=REASON, required=True, help="Why; whoever holds it may read it.")
def voucher_void(typed: str | None, reference: str | None, reason: str) -> None:
    """Take the unspent stamps of a voucher, or of a batch. What was submitted with them finishes.

    Should such a job fail, its stamps come back to the voucher, where nobody can spend them; the same
    command again takes these out too.
    """
    if (typed is None) == (reference is None):
        raise click.UsageError("either CODE or --reference")
    wanted = None if typed is None else _typed(typed)
    with _in_words(), transaction() as connection:
        if wanted is not None:
            taken = records.void(connection, wanted, reason=reason, by=operator())
        else:
            taken = records.void_batch(connection, str(reference), reason=reason, by=operator())
    click.echo(f"void; {taken} unspent stamps taken out")


def _typed(typed: str) -> VoucherCode:
    """Read a code; a typo needs no database to be told."""
    try:
        return code.read(typed)
    except MistypedError as error:
        raise click.ClickException(str(error)) from error


@contextmanager
def _in_words(reference: str = "", output: Path | None = None) -> Iterator[None]:
    """Say what went wrong, and what to do."""
    try:
        yield
    except UnknownPartnerError as error:
        raise click.ClickException(
            f"there is no partner '{error}'; make it with: stampede partner create '{error}'"
        ) from error
    except UnknownVoucherError as error:
        raise click.ClickException(str(error)) from error
    except CodeFileError as error:
        raise click.ClickException(
            f"{error}. No batch '{reference}' exists: the unfinished file of a run for it may be"
            " deleted once that run has ended"
        ) from error
    except ReferenceUsedError as error:
        unfinished = None if output is None else unfinished_name(output)
        raise click.ClickException(
            f"{error}, and is not issued again. "
            + (
                f"{unfinished} is there: if it is of that run, it holds the codes; rename it to {output}"
                if unfinished is not None and unfinished.exists()
                else "Its codes are in the file that it was issued to; if that is lost, take them back"
                f" with 'stampede voucher void --reference {reference} --reason lost' and issue under"
                " another reference"
            )
        ) from error


def _print(found: Sequence[dict[str, object]], *, json_: bool) -> None:
    plain = [{name: _plain(value) for name, value in facts.items()} for facts in found]
    if json_:
        print_json({"data": plain})
        return
    for facts in plain:
        for name, value in facts.items():
            click.echo(f"{name:<12} {said(value)}")
        click.echo("")


def _plain(value: object) -> object:
    return value if isinstance(value, str | int | None) else str(value)

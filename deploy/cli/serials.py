"""`stampede serials`: the issuer's serial numbers, put into stock and counted."""

import sys
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO

import click

from common.serials import importing, stock
from common.serials.importing import Imported
from deploy.cli.surroundings import as_json, print_json, transaction
from deploy.cli.words import Words


@click.group()
def serials() -> None:
    """Serial numbers that the issuer gives out as lists."""


@serials.command("import")
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True, path_type=Path))
@click.option(
    "--reference", type=Words(), required=True, help="Name of the delivery; stands for one file."
)
@click.option("--skip-bad", is_flag=True, help="Import the others when some rows cannot be used.")
@as_json
def serials_import(file: Path, reference: str, skip_bad: bool, json_: bool) -> None:
    """Put the serials of a CSV file into the stock.

    FILE may be - for standard input. It has a column `serial`, or one column without a heading. The
    same file again adds nothing; one with rows that cannot be used adds nothing either, unless
    --skip-bad says so.
    """
    try:
        with _opened(file) as content, transaction() as connection:
            found = importing.import_list(
                connection, content, reference=reference, skip_bad=skip_bad
            )
    except OSError as error:
        raise click.ClickException(f"{file} cannot be read: {error.strerror}") from error
    except importing.UnreadableListError as error:
        raise click.ClickException(f"{file} is no list of serials: {error}") from error
    except importing.ReferenceReusedError as error:
        raise click.ClickException(str(error)) from error
    except importing.RefusedRowsError as error:
        _show_refused(error.found)
        if json_:
            print_json(asdict(error.found))
        raise click.ClickException(
            f"{error}; nothing was imported. --skip-bad imports the others"
        ) from error
    _show_refused(found)
    if json_:
        print_json(asdict(found))
        return
    click.echo(
        f"{found.rows} rows: {found.added} added, {found.known} known before,"
        f" {found.refused} cannot be used"
    )


@serials.command("stock")
@as_json
def serials_stock(json_: bool) -> None:
    """Count the serials in stock, and the jobs that wait for some."""
    with transaction() as connection:
        level = stock.level(connection, exact=True)
    if json_:
        print_json({"in_stock": level.in_stock, "waiting_jobs": level.waiting_jobs})
        return
    click.echo(f"{level.in_stock} serials in stock, {level.waiting_jobs} jobs wait for some")


def _opened(file: Path) -> "nullcontext[BinaryIO] | BinaryIO":
    # Standard input is not ours to close.
    return nullcontext(sys.stdin.buffer) if str(file) == "-" else file.open("rb")


def _show_refused(found: Imported) -> None:
    for row in found.first_refused:
        click.echo(f"line {row.line}: '{row.text}': {row.why}", err=True)
    if found.refused > len(found.first_refused):
        click.echo(f"and {found.refused - len(found.first_refused)} more", err=True)

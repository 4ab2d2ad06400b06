"""`stampede verify`: the signatures of a file, or the QR codes of one."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import NoReturn

import click

from common.settings import data_dir_from_environment
from deploy import firststart, qr
from deploy.cli.surroundings import (
    TRUST_VARIABLE,
    TRUSTED,
    as_json,
    certificates,
    code_keys,
    named_file,
    print_json,
    said,
)
from deploy.report import Report, look_up
from workers.checking import UncheckableError, check

TIMESTAMPS_VARIABLE = "STAMPEDE_TIMESTAMP_ROOTS_FILE"


@click.command()
@click.argument(
    "file", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@click.option(
    "--trust",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Certificates to trust, PEM.  [default: $STAMPEDE_TRUST_ROOTS_FILE, else the data folder's"
    " SPECIMEN root]",
)
@click.option(
    "--trust-timestamps",
    "authorities",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Further certificates, trusted for timestamps only.  [default:"
    " $STAMPEDE_TIMESTAMP_ROOTS_FILE, if set]",
)
@click.option(
    "--qr",
    "code",
    metavar="WHAT",
    help="Check the QR codes of WHAT instead, offline: a stamped PDF, a picture, or a code's text.",
)
@click.option(
    "--keys",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Keys that codes are checked against, JWKS or PEM.  [default: the data folder's]",
)
@as_json
def verify(
    file: Path | None,
    trust: Path | None,
    authorities: Path | None,
    code: str | None,
    keys: Path | None,
    json_: bool,
) -> None:
    """Check every signature of FILE. Ends with 1 unless all are intact and trusted.

    Needs nothing but the file and the certificates. Where a database is configured and answers, it
    also says what became of the serial numbers in the file.

    With --qr: check QR codes; ends with 1 unless all are genuine and, in a PDF, of that document.
    """
    if code is not None:
        if file is not None:
            raise click.UsageError("either FILE or --qr WHAT")
        _verify_codes(
            code, keys or data_dir_from_environment() / firststart.CODE_PUBLIC_KEYS, json_=json_
        )
    if file is None:
        raise click.UsageError("name a FILE, or --qr WHAT")
    document = file.read_bytes()
    trusted = certificates(
        trust or named_file(TRUST_VARIABLE) or data_dir_from_environment() / TRUSTED, "--trust"
    )
    stamping = authorities or named_file(TIMESTAMPS_VARIABLE)
    try:
        checked = check(
            document,
            trust_roots_pem=trusted,
            timestamp_roots_pem=None
            if stamping is None
            else certificates(stamping, "--trust-timestamps"),
        )
    except UncheckableError as error:
        raise click.ClickException(f"{file} cannot be read as a PDF: {error}") from error
    known, not_asked = look_up(checked, document)
    report = Report(document=document, checked=checked, known=known, not_asked=not_asked)
    if json_:
        print_json(report.as_json())
    else:
        for line in report.lines():
            click.echo(line)
    sys.exit(0 if checked.good else 1)


def _verify_codes(what: str, keys: Path, *, json_: bool) -> NoReturn:
    try:
        outcome = qr.check(what, code_keys(keys))
    except qr.UnreadableError as error:
        raise click.ClickException(str(error)) from error
    if json_:
        print_json(outcome.as_json())
    else:
        for found in outcome.codes:
            for name, value in asdict(found).items():
                click.echo(f"{name:<22} {said(value)}")
            click.echo("")
        click.echo("good" if outcome.good else "NOT good")
    sys.exit(0 if outcome.good else 1)

"""`stampede keys` and `design`: what stamps are signed with, and what they look like."""

import logging
import sys
from datetime import UTC, datetime
from pathlib import Path

import click
from pydantic import ValidationError

from common.settings import Settings, WorkerSettings
from common.telemetry import configure_logs
from deploy import design_check
from deploy.cli.surroundings import as_json, load, print_json
from workers.keyring import Keyring, choose, state
from workers.sealing import Design, DesignError


@click.command("keys")
@as_json
def keys_command(json_: bool) -> None:
    """List the stamping keys. Says which one signs now; ends with 1 if none does."""
    settings = load(WorkerSettings)
    # What the ring would log is printed below.
    logging.disable()
    configure_logs(settings)
    now = datetime.now(UTC)
    ring = Keyring(settings)
    found = ring.keys(now)
    ring.close()
    facts = [key.as_json(state(key, found, now), now) for key in found]
    if json_:
        print_json({"keys": facts, "problems": ring.problems()})
    else:
        for fact in facts:
            click.echo(
                f"{fact['state']:<6} {fact['name']:<16} {fact['source']:<7} {fact['algorithm']:<13}"
                f" {fact['valid_from']} to {fact['valid_until']}  {fact['subject']}"
            )
            if fact["ends_soon"]:
                click.echo(f"       WARNING  '{fact['name']}' ends soon or has ended")
        for problem in ring.problems():
            click.echo(f"       PROBLEM  {problem}")
        if choose(found, now) is None:
            click.echo("no key signs now; jobs wait until one does")
    sys.exit(1 if choose(found, now) is None else 0)


@click.group()
def design() -> None:
    """Stamp designs of an issuer's own."""


@design.command("check")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Save a PNG of two stamps: in test mode, and in live mode with SAMPLE across it.",
)
@as_json
def design_check_command(file: Path, output: Path | None, json_: bool) -> None:
    """Say whether and how a PDF can be a stamp.

    It has one page, and fields that name the places of serial, code, date and value. To stamp with it,
    set STAMPEDE_STAMP_DESIGN_FILE.
    """
    address = _public_url()
    try:
        loaded = Design.load(file.read_bytes())
        if output is not None:
            output.write_bytes(design_check.picture(loaded, public_url=address))
    except DesignError as error:
        raise click.ClickException(f"{file} cannot be a stamp: {error}") from error
    found = design_check.report(loaded, public_url=address)
    if json_:
        print_json(found.as_json())
        return
    click.echo(f"size              {found.width} x {found.height} points")
    click.echo(f"places            {', '.join(found.places)}")
    click.echo(
        f"adds              {found.bytes_per_document} bytes a document,"
        f" {found.bytes_per_stamp} bytes a stamp"
    )
    click.echo(
        f"dots per module   {found.dots_per_module} at 25 mm and 150 dpi; 2 or more are read"
    )
    for remark in found.remarks:
        click.echo(f"NOTE              {remark}")


def _public_url() -> str:
    """Return the address that codes carry here, also where no copy was ever started."""
    try:
        return Settings.load().public_url
    except ValidationError:
        return str(Settings.model_fields["public_url"].default)

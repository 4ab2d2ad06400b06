"""`stampede job` and `audit`: what became of one job, and what holds of them all."""

import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import Any
from uuid import UUID

import click

from common import audit
from common.jobs import records
from deploy.cli.surroundings import as_json, print_json, said, transaction


@click.group()
def job() -> None:
    """Jobs."""


@job.command("show")
@click.argument("job_id", type=click.UUID)
@as_json
def job_show(job_id: UUID, json_: bool) -> None:
    """Show all that is known of a job."""
    with transaction() as connection:
        found = records.show(connection, job_id)
    if found is None:
        raise click.ClickException(f"there is no job {job_id}")
    facts = {name: _plain(value) for name, value in asdict(found).items() if name != "receipt"}
    if json_:
        # The first stamp also by itself, as before a job could have several.
        print_json(facts | {"serial": found.serial, "placement": found.placements[0]})
        return
    for name, value in facts.items():
        for line in value if isinstance(value, list) else [value]:
            click.echo(f"{name:<20} {said(line)}")


@click.command("audit")
@as_json
def audit_command(json_: bool) -> None:
    """Check every invariant over the whole database. Ends with 1 where one does not hold."""
    with transaction() as connection:
        found = audit.audit(connection)
    if json_:
        print_json(found.as_json())
    else:
        for violation in found.violations:
            click.echo(f"VIOLATED  {violation.rule}: {', '.join(violation.ids)}")
        click.echo(
            f"{found.jobs} jobs, {len(found.violations)} of {len(audit.RULES)} rules violated"
        )
    sys.exit(1 if found.violations else 0)


def _plain(value: Any) -> Any:
    turn: Callable[[Any], Any] = bytes.hex if isinstance(value, bytes) else str
    return value if isinstance(value, dict | list | int | str | None) else turn(value)

"""`stampede job`: what became of one job."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any
from uuid import UUID

import click

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


def _plain(value: Any) -> Any:
    turn: Callable[[Any], Any] = bytes.hex if isinstance(value, bytes) else str
    return value if isinstance(value, dict | list | int | str | None) else turn(value)

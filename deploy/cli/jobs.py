"""`stampede job`: what became of jobs, and what to do with parked ones."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any
from uuid import UUID

import click

from common import jobs
from common.jobs import State, records, setbacks
from deploy.cli.surroundings import as_json, print_json, said, transaction

# Of what an operator says to an owner, in characters.
LONGEST_REASON = 200


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
        missed = setbacks.of_job(connection, job_id)
    if found is None:
        raise click.ClickException(f"there is no job {job_id}")
    facts = {name: _plain(value) for name, value in asdict(found).items() if name != "receipt"}
    facts["setbacks"] = [{n: _plain(value) for n, value in each.items()} for each in missed]
    if json_:
        # The first stamp also by itself, as before a job could have several.
        print_json(facts | {"serial": found.serial, "placement": found.placements[0]})
        return
    for name, value in facts.items():
        for line in value if isinstance(value, list) else [value]:
            click.echo(f"{name:<20} {said(line)}")


@job.command("list")
@click.option(
    "--state",
    type=click.Choice([state.value for state in State]),
    required=True,
    help="Jobs in this state.",
)
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True)
@as_json
def job_list(state: str, limit: int, json_: bool) -> None:
    """List jobs in a state, the oldest first.

    With what went wrong last, if anything did.
    """
    with transaction() as connection:
        found = records.in_state(connection, State(state), limit=limit)
        last = {each.id: setbacks.of_job(connection, each.id)[-1:] for each in found}
    if json_:
        jobs_ = [
            {
                "id": str(each.id),
                "state": each.state,
                "accepted_at": str(each.accepted_at),
                "attempts": each.attempt,
                "last_setback": next(
                    ({n: _plain(v) for n, v in e.items()} for e in last[each.id]), None
                ),
            }
            for each in found
        ]
        print_json({"jobs": jobs_})
        return
    for each in found:
        said_last = "; ".join(f"{e['ended_at']:%F %T}Z {e['reason']}" for e in last[each.id])
        click.echo(f"{each.id}  attempts {each.attempt:<4} {said_last or '-'}")
    click.echo(f"{len(found)} jobs {state}")


@job.command("requeue")
@click.argument("job_ids", type=click.UUID, nargs=-1)
@click.option("--parked", "all_", is_flag=True, help="All jobs that are parked.")
def job_requeue(job_ids: tuple[UUID, ...], all_: bool) -> None:
    """Send parked jobs back into their lanes.

    They keep their serials. Ends with 1 if one of those named was not parked.
    """
    if bool(job_ids) == all_:
        raise click.UsageError("name jobs, or say --parked for all of them")
    with transaction() as connection:
        sent = jobs.requeue(connection, None if all_ else job_ids)
    click.echo(f"{len(sent)} jobs are queued again")
    left = [str(job_id) for job_id in job_ids if job_id not in sent]
    if left:
        raise click.ClickException(f"not parked: {', '.join(left)}")


@job.command("give-up")
@click.argument("job_id", type=click.UUID)
@click.option("--reason", required=True, help="One sentence, which its owner reads.")
def job_give_up(job_id: UUID, reason: str) -> None:
    """End a job that cannot be stamped as failed.

    Its quota is given back. For a parked job, or one that is queued again after a fault.
    """
    said_ = " ".join(reason.split())
    if not 1 <= len(said_) <= LONGEST_REASON:
        raise click.UsageError(f"the reason has 1 to {LONGEST_REASON} characters")
    with transaction() as connection:
        changed = jobs.give_up(connection, job_id, reason=said_)
    if changed is None:
        raise click.ClickException(f"{job_id} is neither parked nor queued after a fault")
    click.echo(f"{job_id} has failed; its quota is given back, and its owner is told")


def _plain(value: Any) -> Any:
    turn: Callable[[Any], Any] = bytes.hex if isinstance(value, bytes) else str
    return value if isinstance(value, dict | list | int | str | None) else turn(value)

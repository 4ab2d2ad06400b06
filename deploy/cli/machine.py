"""`stampede up` and `stampede demo`: all of it on this machine, and one letter through it."""

from pathlib import Path

import click
from sqlalchemy.exc import OperationalError, ProgrammingError

from common.settings import data_dir_from_environment
from deploy import demo as demo_run
from deploy import firststart, local, roles
from deploy.cli.surroundings import (
    TRUSTED,
    as_json,
    code_keys,
    first_line,
    print_json,
    settings,
)
from deploy.demo import DemoError
from deploy.processes import CrashedError
from deploy.servers import ServerError


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8000, show_default=True, help="Port of the web server.")
@click.option("--flower-port", type=int, help="Port of Flower.  [default: port + 1000]")
@click.option(
    "--max-workers",
    default=roles.default_max_workers(),
    show_default=True,
    type=click.IntRange(1),
    help="Stamp processes that autoscaling may start.",
)
def up(host: str, port: int, flower_port: int | None, max_workers: int) -> None:
    """Run everything on this machine until Ctrl-C.

    PostgreSQL and Valkey are started too, unless STAMPEDE_DATABASE_URL or STAMPEDE_BROKER_URL name
    others. All state lies in the data folder and survives a restart.
    """
    choices = local.Choices(
        data_dir_from_environment(), host, port, flower_port or port + 1000, max_workers
    )
    try:
        local.up(choices, click.echo)
    except (local.UpError, ServerError, CrashedError) as error:
        raise click.ClickException(str(error)) from error
    except (OperationalError, ProgrammingError) as error:
        raise click.ClickException(f"the database cannot be used: {first_line(error)}") from error
    click.echo("ended; nothing is left running")


@click.command()
@click.option("--url", help="Address of the running copy.  [default: from its settings]")
@click.option("--output", type=click.Path(path_type=Path), help="Where to save the stamped file.")
@as_json
def demo(url: str | None, output: Path | None, json_: bool) -> None:
    """See one letter being stamped. Submits it to the running copy, watches it, saves and verifies it."""
    keys = firststart.read_demo(data_dir_from_environment())
    if keys is None:
        raise click.ClickException(
            f"no demo partner in {data_dir_from_environment()}; start a copy with 'make up'"
        )
    try:
        outcome = demo_run.run_demo(
            url=url or settings().public_url,
            keys=keys,
            letter=firststart.make_letter(data_dir_from_environment()).read_bytes(),
            output=output,
            trust_roots_pem=(data_dir_from_environment() / TRUSTED).read_bytes(),
            code_keys=code_keys(data_dir_from_environment() / firststart.CODE_PUBLIC_KEYS),
            say=lambda line: click.echo(line, err=json_),
        )
    except DemoError as error:
        raise click.ClickException(str(error)) from error
    if json_:
        print_json(outcome.as_json())
    else:
        click.echo(f"done in {outcome.seconds} s")

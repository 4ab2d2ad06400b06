"""`stampede run ROLE`: one part of the service in the foreground; `stampede probe ROLE`: does it answer?

What a container, a cluster or a person by hand starts. The process becomes the part (exec), so that signals
reach it and its end is the container's end.
"""

import http.client
import os
import time
from pathlib import Path

import click
from sqlalchemy.exc import OperationalError, ProgrammingError

from common import database, lanes
from common.settings import Settings, data_dir_from_environment, env_file
from deploy import roles
from deploy.cli.surroundings import first_line, settings
from deploy.firststart import read_variables
from deploy.roles import Places, Role

MIGRATE = "migrate"
DEFAULT_PORTS = {"web": 8000, "flower": 9000}
PROBE_PATHS = {"web": "/readyz", "flower": "/healthcheck"}
PROBE_SECONDS = 5.0

_role = click.argument("role", type=click.Choice([*roles.ROLES, MIGRATE]))
_port = click.option(
    "--port", type=int, help="Port of web or flower.  [default: 8000 for web, 9000 for flower]"
)


@click.command()
@_role
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@_port
@click.option(
    "--most",
    type=click.IntRange(1),
    help="Most processes of stamp or check; threads of courier.  [default: the role's own]",
)
@click.option(
    "--wait",
    "wait_seconds",
    type=click.IntRange(1),
    help="Of migrate: change nothing, but wait so many seconds for somebody else's migration.",
)
def run(role: str, host: str, port: int | None, most: int | None, wait_seconds: int | None) -> None:
    """Run one part of the service in the foreground.

    It is what containers and clusters start. Roles: web, stamp, courier, check, upkeep, beat, flower; and
    migrate, which brings the tables up to date and ends. Settings come from STAMPEDE_… variables, from
    files named like them in the folder STAMPEDE_SECRETS_DIR, and from the settings file of the data
    folder. SIGTERM ends a part in order.
    """
    if role == MIGRATE:
        _migrate(wait_seconds)
        return
    if wait_seconds is not None:
        raise click.UsageError("--wait is for migrate")
    places = Places(
        data=data_dir_from_environment(),
        host=host,
        port=port or DEFAULT_PORTS.get(role, 0),
        most=most,
    )
    _become(roles.ROLES[role], places)


@click.command()
@click.argument("role", type=click.Choice([*PROBE_PATHS, *sorted(roles.WORKERS)]))
@_port
def probe(role: str, port: int | None) -> None:
    """Say whether a part on this host answers.

    Ends with 1 if it does not; for the health check of a container. Web is asked whether it is ready,
    Flower whether it is alive, a worker for a pong through the broker.
    """
    if role in PROBE_PATHS:
        answers = _page_answers(port or DEFAULT_PORTS[role], PROBE_PATHS[role])
    else:
        answers = _worker_answers(roles.ROLES[role])
    if not answers:
        raise click.ClickException(f"{role} does not answer")
    click.echo(f"{role} answers")


def _become(role: Role, places: Places) -> None:
    """Replace this process by the role; never returns."""
    environment = role.environment(read_variables(env_file()) | os.environ)
    if "PROMETHEUS_MULTIPROC_DIR" in environment:
        Path(environment["PROMETHEUS_MULTIPROC_DIR"]).mkdir(parents=True, exist_ok=True)
    command = role.command(places)
    os.execve(command[0], command, environment)  # noqa: S606


def _migrate(wait_seconds: int | None) -> None:
    known = settings()
    try:
        if wait_seconds is None:
            database.migrate(known.database_url)
        else:
            _wait_for_migration(known, wait_seconds)
    except (OperationalError, ProgrammingError) as error:
        raise click.ClickException(f"the database cannot be used: {first_line(error)}") from error
    click.echo("the tables are up to date")


def _wait_for_migration(known: Settings, seconds: int) -> None:
    opened = database.connect(known)
    deadline = time.monotonic() + seconds
    try:
        while True:
            try:
                with opened.reading() as connection:
                    if database.is_migrated(connection):
                        return
            except OperationalError:
                # It may come up later than we did.
                if time.monotonic() > deadline:
                    raise
            if time.monotonic() > deadline:
                raise click.ClickException(f"nobody brought the tables up to date in {seconds} s")
            time.sleep(1)
    finally:
        opened.close()


def _page_answers(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PROBE_SECONDS)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _worker_answers(role: Role) -> bool:
    control = lanes.make_celery(settings()).control
    try:
        return bool(control.ping(destination=[role.node], timeout=PROBE_SECONDS))
    except OSError:
        return False

"""What every command stands on: the data folder, its settings and its database, and how it prints."""

import getpass
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click
from pydantic import ValidationError
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError, ProgrammingError

from common import database
from common.codes import PublishedKeys
from common.settings import Settings, env_file
from deploy import firststart
from workers.trust import Trust

S = TypeVar("S", bound=Settings)
TRUSTED = Path("keys/specimen/root.crt.pem")
TRUST_VARIABLE = "STAMPEDE_TRUST_ROOTS_FILE"
as_json = click.option("--json", "json_", is_flag=True, help="Print one JSON object at the end.")


def code_keys(file: Path) -> PublishedKeys:
    """Read the keys that codes are checked against."""
    try:
        return PublishedKeys(file.read_bytes())
    except FileNotFoundError as error:
        raise click.ClickException(f"no keys in {file}; name some with --keys") from error
    except ValueError as error:
        raise click.ClickException(f"{file} cannot be used: {error}") from error


def named_file(variable: str) -> Path | None:
    """Return the file that a setting names, in the environment or in the settings file."""
    named = os.environ.get(variable) or firststart.read_variables(env_file()).get(variable)
    return Path(named) if named else None


def certificates(file: Path, option: str) -> bytes:
    """Return a file of certificates, having seen that there are some.

    Raises:
        click.ClickException: there are none; names the option that brings others.
    """
    if not file.exists():
        raise click.ClickException(f"no certificates in {file}; name some with {option}")
    pem = file.read_bytes()
    try:
        Trust.from_pem(pem)
    except ValueError as error:
        raise click.ClickException(f"no certificate in PEM can be read from {file}") from error
    return pem


def settings() -> Settings:
    """Read the settings that every part has."""
    return load(Settings)


def load(kind: type[S]) -> S:
    """Read the settings of one part."""
    try:
        return kind.load()
    except ValidationError as error:
        names = ", ".join(
            f"STAMPEDE_{str(e['loc'][0]).upper()}" if e["loc"] else e["msg"] for e in error.errors()
        )
        raise click.ClickException(
            f"no usable settings in {env_file()}: {names}; start a copy with 'make up', or set them"
        ) from error


@contextmanager
def transaction() -> Iterator[Connection]:
    """Open the database for one transaction."""
    opened = database.connect(settings())
    try:
        with opened.transaction() as connection:
            yield connection
    except (OperationalError, ProgrammingError) as error:
        raise click.ClickException(
            f"the database cannot be used; is the copy running? {first_line(error)}"
        ) from error
    finally:
        opened.close()


def operator() -> str:
    """Return who types: the login name, or the number of a user without one."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def first_line(error: Exception) -> str:
    """Return the first line of what an error says."""
    return str(error).partition("\n")[0]


def said(value: Any) -> str:
    """Return a fact as a person reads it; what is not known is a dash."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else str(value)


def print_json(value: Any) -> None:
    """Print the one JSON object that `--json` asks for."""
    click.echo(json.dumps(value))

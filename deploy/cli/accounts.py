"""`stampede partner` and `key`: who submits by API, and with which keys."""

from uuid import UUID

import click
from sqlalchemy import Connection

from common import partners
from common.partners import Mode
from deploy.cli.surroundings import transaction


@click.group()
def partner() -> None:
    """Partners: who submits documents by API."""


@partner.command("create")
@click.argument("name")
def partner_create(name: str) -> None:
    """Make a partner. One of this name that exists already is left as it is."""
    with transaction() as connection:
        made = partners.create(connection, name=name)
    click.echo(f"{made.id}  {made.name}")


@click.group()
def key() -> None:
    """API keys of partners."""


@key.command("issue")
@click.option("--partner", "name", required=True, help="The partner's name.")
@click.option("--mode", type=click.Choice([m.value for m in Mode]), required=True)
@click.option("--label", default="", help="What the key is for.")
def key_issue(name: str, mode: str, label: str) -> None:
    """Make a key for a partner. It is shown this once and kept only as a digest."""
    with transaction() as connection:
        owner = find_partner(connection, name)
        issued = partners.issue_key(
            connection, partner_id=owner.id, mode=Mode(mode), label=label or name
        )
    click.echo(f"{issued.id}  {issued.secret}")


@key.command("revoke")
@click.argument("key_id", type=click.UUID)
def key_revoke(key_id: UUID) -> None:
    """Make a key useless from now on."""
    try:
        with transaction() as connection:
            partners.revoke_key(connection, key_id)
    except partners.UnknownKeyError as error:
        raise click.ClickException(f"there is no key {key_id}") from error
    click.echo(f"{key_id}  revoked")


def find_partner(connection: Connection, name: str) -> partners.Partner:
    """Return the partner of this name; a command ends with one sentence where there is none."""
    try:
        return partners.find_by_name(connection, name)
    except partners.UnknownPartnerError as error:
        raise click.ClickException(
            f"there is no partner '{name}'; make it with: stampede partner create '{name}'"
        ) from error

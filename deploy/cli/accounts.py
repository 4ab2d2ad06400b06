"""`stampede partner` and `key`: who submits by API, how much, and with which keys."""

from dataclasses import replace
from typing import Any
from uuid import UUID

import click
from click.core import ParameterSource
from sqlalchemy import Connection

from common import allowances, partners
from common.partners import Mode
from deploy.cli.surroundings import transaction
from deploy.cli.words import Words

MOST = 1_000_000_000


@click.group()
def partner() -> None:
    """Partners: who submits documents by API."""


@partner.command("create")
@click.argument("name", type=Words())
def partner_create(name: str) -> None:
    """Make a partner. One of this name that exists already is left as it is."""
    with transaction() as connection:
        made = partners.create(connection, name=name)
    click.echo(f"{made.id}  {made.name}")


class Number(click.ParamType[int | None]):
    """A number from 1, or the word `default`."""

    name = "number"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | None:
        """Return the number; None for the word."""
        if value == "default":
            return None
        try:
            number = int(value)
        except ValueError:
            number = 0
        if not 1 <= number <= MOST:
            self.fail(f"'{value}' is neither 'default' nor a number from 1 to {MOST}", param, ctx)
        return number


@partner.command("limits")
@click.argument("name", type=Words())
@click.option("--per-minute", type=Number(), help="Documents it may submit in a minute.")
@click.option("--at-once", type=Number(), help="Submissions under way in one web process.")
@click.option("--prompt-per-minute", type=Number(), help="How many of them go to its own lanes.")
def partner_limits(name: str, **asked: int | None) -> None:
    """Show and change how much a partner may submit.

    Each is a number, or 'default'. A change counts after ten seconds. The defaults are those of
    STAMPEDE_PARTNER_SUBMISSIONS_PER_MINUTE, STAMPEDE_PARTNER_SUBMISSIONS_AT_ONCE and
    STAMPEDE_PARTNER_PROMPT_PER_MINUTE.
    """
    source = click.get_current_context().get_parameter_source
    given = {
        option: number
        for option, number in asked.items()
        if source(option) is ParameterSource.COMMANDLINE
    }
    with transaction() as connection:
        owner = find_partner(connection, name)
        numbers = allowances.own(connection, owner.id)
        if given:
            numbers = replace(numbers, **given)
            allowances.set_own(connection, owner.id, numbers)
    for what, number in (
        ("documents a minute", numbers.per_minute),
        ("at once", numbers.at_once),
        ("prompt a minute", numbers.prompt_per_minute),
    ):
        click.echo(f"{what:<20}{'default' if number is None else number}")


@click.group()
def key() -> None:
    """API keys of partners and operators."""


@key.command("issue")
@click.option("--partner", "name", help="The partner's name.")
@click.option("--mode", type=click.Choice([m.value for m in Mode]), help="For a partner's key.")
@click.option("--operator", is_flag=True, help="A key that tops up quota, and submits nothing.")
@click.option("--label", default="", help="What the key is for; of an operator's, who has it.")
def key_issue(name: str | None, mode: str | None, operator: bool, label: str) -> None:
    """Make a key for a partner or an operator. It is shown this once and kept only as a digest."""
    if operator and (name is not None or mode is not None or not label):
        raise click.UsageError("an operator's key needs --label, and no --partner or --mode")
    with transaction() as connection:
        if operator:
            issued = partners.issue_operator_key(connection, label=label)
        elif name is None or mode is None:
            raise click.UsageError("name --partner and --mode, or make an --operator key")
        else:
            owner = find_partner(connection, name)
            issued = partners.issue_key(
                connection, partner_id=owner.id, mode=Mode(mode), label=label or name
            )
    click.echo(f"{issued.id}  {issued.secret}")


@key.command("list")
@click.option("--partner", "name", help="Only keys of this partner.")
def key_list(name: str | None) -> None:
    """List keys, with whose they are and since when."""
    with transaction() as connection:
        owner = None if name is None else find_partner(connection, name).id
        found = partners.list_keys(connection, partner_id=owner)
    for one in found:
        whose = "operator" if one.partner is None else f"{one.partner} ({one.mode})"
        revoked = "" if one.revoked_at is None else f"  revoked {one.revoked_at:%Y-%m-%d %H:%M}"
        click.echo(
            f"{one.id}  {one.hint}…  {whose}  '{one.label}'  {one.created_at:%Y-%m-%d %H:%M}{revoked}"
        )


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

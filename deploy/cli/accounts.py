"""`stampede partner`, `key` and `quota`: who submits by API, with which keys, and how much."""

from dataclasses import asdict
from uuid import UUID

import click
from sqlalchemy import Connection

from common import accounts, ledger, partners
from common.partners import Mode
from deploy.cli.surroundings import operator, transaction


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
        owner = _partner(connection, name)
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


@click.group()
def quota() -> None:
    """Quota of partners, counted in stamps."""


@quota.command("topup")
@click.option("--partner", "name", required=True, help="The partner's name.")
@click.option("--amount", type=click.IntRange(1, 1_000_000_000), required=True, help="Stamps.")
@click.option("--reference", required=True, help="Name of the payment; counts once.")
def quota_topup(name: str, amount: int, reference: str) -> None:
    """Add stamps to a partner's live quota. The same reference again changes nothing."""
    try:
        with transaction() as connection:
            balance = ledger.top_up(
                connection,
                account_id=_account(connection, name, Mode.LIVE),
                amount=amount,
                reference=reference,
                by=operator(),
            )
    except ledger.ReferenceReusedError as error:
        raise click.ClickException(str(error)) from error
    click.echo(", ".join(f"{what} {count}" for what, count in asdict(balance).items()))


def _account(connection: Connection, name: str, mode: Mode) -> UUID:
    return accounts.of_partner(connection, partner_id=_partner(connection, name).id, mode=mode)


def _partner(connection: Connection, name: str) -> partners.Partner:
    try:
        return partners.find_by_name(connection, name)
    except partners.UnknownPartnerError as error:
        raise click.ClickException(
            f"there is no partner '{name}'; make it with: stampede partner create '{name}'"
        ) from error

"""`stampede quota`: what partners may still have stamped, and the entries that say why."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from typing import Any
from uuid import UUID

import click
from sqlalchemy import Connection

from common import accounts, ledger, statements
from common.ledger import Balance
from common.partners import Mode
from common.problems import ProblemError
from common.statements import EntryKind
from deploy.cli.accounts import find_partner
from deploy.cli.surroundings import as_json, operator, print_json, settings, transaction
from deploy.cli.words import REASON, Words

MOST = 1_000_000_000

of_partner = click.option("--partner", "name", required=True, help="The partner's name.")
in_mode = click.option(
    "--mode",
    type=click.Choice([m.value for m in Mode]),
    default=Mode.LIVE.value,
    show_default=True,
    help="Which of the partner's accounts.",
)
by_reference = click.option(
    "--reference",
    type=Words(),
    required=True,
    help="Name of the payment or correction; counts once.",
)
by_somebody = click.option(
    "--by", type=Words(), default=operator, help="Who does it.  [default: the login name]"
)


class Threshold(click.ParamType[int | None]):
    """A number of stamps, or the word `default`."""

    name = "stamps"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | None:
        """Return the number; None for the word."""
        if value == "default":
            return None
        try:
            number = int(value)
        except ValueError:
            number = -1
        if not 0 <= number <= MOST:
            self.fail(f"'{value}' is neither 'default' nor a number from 0 to {MOST}", param, ctx)
        return number


@click.group()
def quota() -> None:
    """Quota of partners, counted in stamps."""


@quota.command("show")
@of_partner
@in_mode
@as_json
def show(name: str, mode: str, json_: bool) -> None:
    """Show where an account stands, and below what its owner is told."""
    with _account(name, mode) as (connection, account_id):
        balance = ledger.balance(connection, account_id)
        own = accounts.low_at(connection, account_id)
    facts = {"partner": name, "mode": mode} | asdict(balance)
    if mode == Mode.LIVE:
        facts["low_at"] = settings().quota_low_stamps if own is None else own
    if json_:
        print_json(facts)
        return
    for what, value in facts.items():
        click.echo(f"{what:<10} {value}")


@quota.command("topup")
@of_partner
@click.option("--amount", type=click.IntRange(1, MOST), required=True, help="Stamps.")
@by_reference
@by_somebody
@in_mode
@as_json
def topup(name: str, amount: int, reference: str, by: str, mode: str, json_: bool) -> None:
    """Add stamps to a partner's quota. The same reference again changes nothing."""
    with _account(name, mode) as (connection, account_id):
        balance = ledger.top_up(
            connection, account_id=account_id, amount=amount, reference=reference, by=by
        )
    _say(balance, json_)


@quota.command("adjust")
@of_partner
@click.option(
    "--amount",
    type=click.IntRange(-MOST, MOST),
    required=True,
    help="Stamps to add, or below zero to take away.",
)
@by_reference
@click.option(
    "--reason", type=REASON, required=True, help="Why; the partner reads it in the ledger."
)
@by_somebody
@in_mode
@as_json
def adjust(
    name: str, amount: int, reference: str, reason: str, by: str, mode: str, json_: bool
) -> None:
    """Correct a partner's quota, up or down. The same reference again changes nothing."""
    with _account(name, mode) as (connection, account_id):
        balance = ledger.adjust(
            connection,
            account_id=account_id,
            amount=amount,
            reference=reference,
            reason=reason,
            by=by,
        )
    _say(balance, json_)


@quota.command("low")
@of_partner
@click.option(
    "--at",
    type=Threshold(),
    required=True,
    help="Stamps; 0: never; 'default': as STAMPEDE_QUOTA_LOW_STAMPS says.",
)
def low(name: str, at: int | None) -> None:
    """Say below how many live stamps a partner is told by webhook."""
    with _account(name, Mode.LIVE) as (connection, account_id):
        accounts.set_low_at(connection, account_id, at)
    threshold = settings().quota_low_stamps if at is None else at
    click.echo(f"told below {threshold} stamps" if threshold else "never told")


@quota.command("ledger")
@of_partner
@in_mode
@click.option(
    "--from", "at_from", type=click.DateTime(), help="Only entries at or after this, UTC."
)
@click.option("--before", "at_before", type=click.DateTime(), help="Only entries before this, UTC.")
@click.option("--kind", type=click.Choice([k.value for k in EntryKind]), help="Only of this kind.")
@click.option("--job", "job_id", type=click.UUID, help="Only of this job.")
@click.option(
    "--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="Entries."
)
@click.option("--cursor", help="The `next` of the answer before, for the entries after those.")
@as_json
def entries(
    name: str,
    mode: str,
    at_from: datetime | None,
    at_before: datetime | None,
    kind: str | None,
    job_id: UUID | None,
    limit: int,
    cursor: str | None,
    json_: bool,
) -> None:
    """List the entries of an account, newest first."""
    with _account(name, mode) as (connection, account_id):
        # The connection's time zone is UTC, and so is what carries no zone of its own.
        page = statements.page(
            connection,
            account_id=account_id,
            limit=limit,
            cursor=cursor,
            at_from=at_from,
            at_before=at_before,
            kind=None if kind is None else EntryKind(kind),
            job_id=job_id,
        )
    if json_:
        rows = [
            asdict(entry) | {"job_id": entry.job_id and str(entry.job_id), "at": str(entry.at)}
            for entry in page.entries
        ]
        print_json({"entries": rows, "next": page.next_cursor})
        return
    for entry in page.entries:
        why = " ".join(
            str(fact)
            for fact in (entry.job_id, entry.reference, entry.reason, entry.by)
            if fact is not None
        )
        click.echo(
            f"{entry.at:%Y-%m-%d %H:%M:%S}  {entry.kind:<8}{entry.amount:>11}"
            f"  {entry.source} to {entry.target}  {why}"
        )
    if page.next_cursor is not None:
        click.echo(f"more with --cursor {page.next_cursor}")


@contextmanager
def _account(name: str, mode: str) -> Iterator[tuple[Connection, UUID]]:
    """Open a transaction on a partner's account; what the ledger refuses becomes one sentence."""
    try:
        with transaction() as connection:
            partner_id = find_partner(connection, name).id
            yield connection, accounts.of_partner(connection, partner_id=partner_id, mode=mode)
    except ProblemError as error:
        raise click.ClickException(error.problem.title("en")) from error
    except ValueError as error:
        raise click.ClickException(str(error)) from error


def _say(balance: Balance, json_: bool) -> None:
    if json_:
        print_json(asdict(balance))
    else:
        click.echo(", ".join(f"{what} {count}" for what, count in asdict(balance).items()))

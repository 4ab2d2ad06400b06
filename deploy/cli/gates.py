"""`stampede gate`: close, slow and open the intake, and see who did it when and why."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import click

from common import gates
from common.admission import FASTEST_RATE, OPEN, SLOWEST_RATE, Kind, Setting, State
from common.gates import Change, Gate
from deploy.cli.moments import TimeToCome
from deploy.cli.surroundings import as_json, operator, print_json, settings, transaction
from deploy.cli.words import REASON, Words

# What an operator may call a gate by; the lanes' own names are as good.
_NAMES = {
    "applicant": (Kind.APPLICANT,),
    "stamp.applicant": (Kind.APPLICANT,),
    "partner": (Kind.PARTNER,),
    "stamp.partner": (Kind.PARTNER,),
    "bulk": (Kind.BULK,),
    "stamp.bulk": (Kind.BULK,),
    "all": tuple(Kind),
}


class Lane(click.ParamType[tuple[Kind, ...]]):
    """A gate by the name of its lanes, or all of them."""

    name = "lane"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[Kind, ...]:
        """Return which gates are meant."""
        found = _NAMES.get(str(value).lower())
        if found is None:
            self.fail(
                f"there is no lane '{value}'; name applicant, partner, bulk, or all", param, ctx
            )
        return found


class Rate(click.ParamType[float]):
    """Submissions a second."""

    name = "number"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the rate."""
        try:
            rate = float(value)
        except ValueError:
            rate = 0.0
        # What is not a number is in no range either.
        if not SLOWEST_RATE <= rate <= FASTEST_RATE:
            self.fail(
                f"'{value}' is not a number from {SLOWEST_RATE:g} to {FASTEST_RATE:g}; to let nothing"
                " through, close the gate",
                param,
                ctx,
            )
        return rate


the_lanes = click.argument("lanes", metavar="LANE…", nargs=-1, required=True, type=Lane())
until = click.option(
    "--until",
    type=TimeToCome(),
    help="When it opens by itself: RFC 3339, UTC without a zone, or a span such as +30m.",
)
for_people = click.option(
    "--reason", type=REASON, help="Why, in words for people: pages and refusals repeat it."
)
by_somebody = click.option(
    "--by", type=Words(), default=operator, help="Who does it.  [default: the login name]"
)


@click.group()
def gate() -> None:
    """The gates of the intake: applicant, partner and bulk.

    What was accepted is stamped whatever the gates say. A change is felt by every front end within
    two seconds. docs/admission.md says what callers are told.
    """


@gate.command("show")
@click.option(
    "--history", type=click.IntRange(0, 1000), default=0, help="Also so many changes, newest first."
)
@as_json
def show(history: int, json_: bool) -> None:
    """Show how the gates stand, and who set them so."""
    with transaction() as connection:
        found = gates.show(connection)
        changes = gates.history(connection, limit=history) if history else []
    _say([found[kind] for kind in Kind], changes, json_=json_)


@gate.command("close")
@the_lanes
@until
@for_people
@by_somebody
@as_json
def close(
    lanes: Sequence[tuple[Kind, ...]],
    until: datetime | None,
    reason: str | None,
    by: str,
    json_: bool,
) -> None:
    """Take nothing new. Places in the waiting room are kept, and its slots stand still."""
    _set(lanes, Setting(State.CLOSED, None, reason, until), by=by, json_=json_)


@gate.command("slow")
@the_lanes
@click.option(
    "--rate",
    type=Rate(),
    required=True,
    help="Submissions a second, over all front ends together; 0.1 is one in ten seconds.",
)
@until
@for_people
@by_somebody
@as_json
def slow(
    lanes: Sequence[tuple[Kind, ...]],
    rate: float,
    until: datetime | None,
    reason: str | None,
    by: str,
    json_: bool,
) -> None:
    """Take so many a second. Applicants beyond that wait in the room, partners are told when to return."""
    _set(lanes, Setting(State.SLOW, rate, reason, until), by=by, json_=json_)


@gate.command("open")
@the_lanes
@for_people
@by_somebody
@as_json
def open_(lanes: Sequence[tuple[Kind, ...]], reason: str | None, by: str, json_: bool) -> None:
    """Take whatever can be stamped within the horizon."""
    _set(lanes, Setting(State.OPEN, None, reason), by=by, json_=json_)


def _set(lanes: Sequence[tuple[Kind, ...]], setting: Setting, *, by: str, json_: bool) -> None:
    named = {kind for each in lanes for kind in each}
    kinds = [kind for kind in Kind if kind in named]
    slot_seconds = settings().intake_slot_seconds
    with transaction() as connection:
        for kind in kinds:
            gates.change(connection, kind, setting, by=by, slot_seconds=slot_seconds)
        found = gates.show(connection)
    _say([found[kind] for kind in kinds], [], json_=json_)


def _say(found: Sequence[Gate], changes: Sequence[Change], *, json_: bool) -> None:
    if json_:
        print_json(
            {
                "gates": [
                    _facts(each.kind, each.setting)
                    | {
                        "since": each.since.isoformat(),
                        "changed_at": each.changed_at.isoformat(),
                        "changed_by": each.changed_by,
                    }
                    for each in found
                ],
                "history": [
                    _facts(each.kind, each.setting) | {"at": each.at.isoformat(), "by": each.by}
                    for each in changes
                ],
            }
        )
        return
    for each in found:
        click.echo(_line(each.kind, each.setting, each.changed_at, each.changed_by))
    if changes:
        click.echo("")
    for each_change in changes:
        click.echo(_line(each_change.kind, each_change.setting, each_change.at, each_change.by))


def _facts(kind: Kind, setting: Setting) -> dict[str, Any]:
    until = setting.reopens_at
    return {
        "gate": kind,
        "state": setting.state,
        "rate": setting.rate,
        "reason": setting.reason,
        "reopens_at": None if until is None else until.isoformat(),
    }


def _line(kind: Kind, setting: Setting, at: datetime, by: str) -> str:
    over = setting.at(datetime.now(UTC)) is OPEN and setting is not OPEN
    facts = [
        f"{kind:<10}{setting.state:<7}",
        "" if setting.rate is None else f"{setting.rate:g} a second ",
        ""
        if setting.reopens_at is None
        else f"until {setting.reopens_at:%Y-%m-%d %H:%M:%S} UTC{' (over)' if over else ''} ",
        f"by {by} at {at:%Y-%m-%d %H:%M:%S} UTC",
        "" if setting.reason is None else f": {setting.reason}",
    ]
    return "".join(facts)

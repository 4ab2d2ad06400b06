"""The gates as operators set them: one row for each kind of caller, and every change beside it.

The history says who changed what, when and why, and is never changed itself (docs/admission.md).
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, text

from common.admission import OPEN, Kind, Setting, State

# Who opens a gate whose time has come.
BY_ITSELF = "stampede"


@dataclass(frozen=True, slots=True)
class Gate:
    """A gate as it stands: its setting, who set it so and when, and since when it is in its state."""

    kind: Kind
    setting: Setting
    since: datetime
    changed_at: datetime
    changed_by: str


@dataclass(frozen=True, slots=True)
class Change:
    """A gate as somebody once set it."""

    kind: Kind
    setting: Setting
    at: datetime
    by: str


def show(connection: Connection) -> dict[Kind, Gate]:
    """Return all gates as they stand."""
    rows = connection.execute(
        text(
            "select kind, state, rate, reason, reopens_at, since, changed_at, changed_by from gates"
        )
    ).all()
    return {
        Kind(row.kind): Gate(
            Kind(row.kind), _setting(row), row.since, row.changed_at, row.changed_by
        )
        for row in rows
    }


def change(
    connection: Connection, kind: Kind, setting: Setting, *, by: str, slot_seconds: float
) -> bool:
    """Set a gate, and note who did it; says whether that changes anything.

    A closed gate stops the clock of those whose turn in the waiting room had come: when it opens,
    their slots begin anew.

    Args:
        connection: a transaction of the caller's.
        kind: whose gate.
        setting: how it is from now on.
        by: who sets it so.
        slot_seconds: how long a slot of the waiting room is.
    """
    before = connection.execute(
        text(
            "select state, rate, reason, reopens_at, since from gates where kind = :kind"
            " for no key update"
        ),
        {"kind": kind},
    ).one()
    if _setting(before) == setting:
        return False
    values = {
        "kind": kind,
        "state": setting.state,
        "rate": setting.rate,
        "reason": setting.reason,
        "reopens_at": setting.reopens_at,
        "by": by,
    }
    connection.execute(
        text(
            "with changed as (update gates set state = :state, rate = :rate, reason = :reason,"
            " reopens_at = :reopens_at, changed_at = now(), changed_by = :by,"
            " since = case when state = :state then since else now() end where kind = :kind)"
            " insert into gate_changes (kind, state, rate, reason, reopens_at, by)"
            " values (:kind, :state, :rate, :reason, :reopens_at, :by)"
        ),
        values,
    )
    if kind is Kind.APPLICANT and before.state == State.CLOSED and setting.state != State.CLOSED:
        connection.execute(
            text(
                "update waiting_turns set at = greatest(at, now())"
                " where at > :closed_at - make_interval(secs => :slot)"
            ),
            {"closed_at": before.since, "slot": slot_seconds},
        )
    return True


def open_due(connection: Connection, *, slot_seconds: float) -> list[Kind]:
    """Open the gates whose time has come; safe beside itself. Returns which."""
    due = connection.execute(
        text("select kind from gates where reopens_at <= now() for no key update skip locked")
    ).all()
    for row in due:
        change(connection, Kind(row.kind), OPEN, by=BY_ITSELF, slot_seconds=slot_seconds)
    return [Kind(row.kind) for row in due]


def history(
    connection: Connection, *, limit: int, kinds: Collection[Kind] = tuple(Kind)
) -> list[Change]:
    """Return the newest changes of some gates, newest first."""
    rows = connection.execute(
        text(
            "select kind, state, rate, reason, reopens_at, at, by from gate_changes"
            " where kind = any(:kinds) order by id desc limit :limit"
        ),
        {"kinds": list(kinds), "limit": limit},
    ).all()
    return [Change(Kind(row.kind), _setting(row), row.at, row.by) for row in rows]


def _setting(row: Row[Any]) -> Setting:
    return Setting(State(row.state), row.rate, row.reason, row.reopens_at)

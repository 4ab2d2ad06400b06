"""`stampede gate …`: what an operator does to the gates, and what it says when it cannot."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from common.admission import Kind
from deploy.cli import main
from tests.service.gate_stage import Stage, stage
from tests.service.test_intake_api import assert_problem

__all__ = ["stage"]


def gate(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["gate", *arguments])


def said(*arguments: str) -> Any:
    done = gate(*arguments, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.output)


def test_closing_slowing_and_opening_a_gate(stage: Stage) -> None:
    [closed] = said("close", "partner", "--reason", "The store is full.", "--by", "Sari")["gates"]
    assert closed["gate"] == "partner"
    assert closed["state"] == "closed"
    assert (closed["reason"], closed["changed_by"]) == ("The store is full.", "Sari")
    body = assert_problem(stage.submit(stage.front_end(), stage.account.live), 503, "intake_closed")
    assert body["reason"] == "The store is full."
    slow = gate("slow", "partner", "--rate", "2.5", "--by", "Sari")
    assert slow.output.startswith("partner   slow   2.5 a second by Sari at 20")
    [opened] = said("open", "partner", "--by", "Budi")["gates"]
    assert (opened["state"], opened["rate"], opened["reason"]) == ("open", None, None)
    assert stage.submit(stage.front_end(), stage.account.live).status_code == 202


def test_every_change_stays_in_the_history(stage: Stage) -> None:
    gate("close", "bulk", "--reason", "one", "--by", "Sari")
    gate("close", "bulk", "--reason", "two", "--by", "Budi")
    # Said again, nothing changes.
    gate("close", "bulk", "--reason", "two", "--by", "Sari")
    gate("open", "bulk", "--reason", "it works", "--by", "Sari")
    shown = said("show", "--history", "3")
    assert [(c["state"], c["reason"], c["by"]) for c in shown["history"]] == [
        ("open", "it works", "Sari"),
        ("closed", "two", "Budi"),
        ("closed", "one", "Sari"),
    ]
    assert [each["gate"] for each in shown["gates"]] == [kind.value for kind in Kind]
    lines = gate("show", "--history", "1").output.splitlines()
    assert len(lines) == 5
    assert lines[4].startswith("bulk      open   by Sari at ")
    assert lines[4].endswith(": it works")


def test_several_lanes_and_all_of_them_by_either_name(stage: Stage) -> None:
    changed = said("close", "stamp.bulk", "applicant", "--until", "+45m")["gates"]
    assert [each["gate"] for each in changed] == ["applicant", "bulk"]
    until = datetime.fromisoformat(changed[0]["reopens_at"])
    assert timedelta(minutes=44) < until - datetime.now(UTC) <= timedelta(minutes=45)
    assert {each["state"] for each in said("show")["gates"]} == {"closed", "open"}
    assert {each["state"] for each in said("open", "all")["gates"]} == {"open"}


def test_a_time_may_name_its_zone(stage: Stage) -> None:
    there = (datetime.now(UTC) + timedelta(days=1)).replace(microsecond=0)
    for typed in (there.isoformat(), there.isoformat().removesuffix("+00:00")):
        [closed] = said("close", "bulk", "--until", typed)["gates"]
        assert datetime.fromisoformat(closed["reopens_at"]) == there
    jakarta = (there + timedelta(hours=7)).isoformat().replace("+00:00", "+07:00")
    [closed] = said("close", "bulk", "--until", jakarta)["gates"]
    assert datetime.fromisoformat(closed["reopens_at"]) == there


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["close", "everything"], "there is no lane 'everything'; name applicant, partner, bulk"),
        (["close"], "Missing argument 'LANE…'"),
        (["slow", "bulk"], "Missing option '--rate'"),
        (["slow", "bulk", "--rate", "0"], "to let nothing through, close the gate"),
        (["slow", "bulk", "--rate", "nan"], "'nan' is not a number from 0.02 to 100000"),
        (["slow", "bulk", "--rate", "fast"], "'fast' is not a number"),
        (["close", "bulk", "--until", "soon"], "'soon' is no time such as 2024-"),
        (["close", "bulk", "--until", "2024-09-06T23:59:00+07:00"], "has passed"),
        (["close", "bulk", "--reason", " "], "it is empty"),
        (["close", "bulk", "--by", "a\nb"], "line break"),
        (["open", "bulk", "--rate", "3"], "No such option"),
    ],
)
def test_what_cannot_be_done_is_said_and_changes_nothing(
    stage: Stage, arguments: list[str], told: str
) -> None:
    before = said("show", "--history", "50")
    done = gate(*arguments)
    assert done.exit_code == 2
    assert told in done.output
    assert said("show", "--history", "50") == before


def test_a_gate_that_makes_no_sense_is_not_stored(stage: Stage) -> None:
    for change in (
        "state = 'slow', rate = null",
        "state = 'slow', rate = 'NaN'",
        "state = 'slow', rate = 0",
        "state = 'ajar'",
        "rate = 3",
        "reopens_at = now()",
    ):
        with pytest.raises(IntegrityError), stage.database.transaction() as connection:
            connection.execute(text(f"update gates set {change} where kind = 'bulk'"))

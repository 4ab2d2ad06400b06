"""`stampede quota …`: what an operator does to an account, and what each says when it cannot."""

import json
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import text

from common import partners
from common.database import Database
from deploy.cli import main
from tests.service.test_job_states import accept, balance, new_job
from tests.stack import Account


@pytest.fixture
def name(db: Database, account: Account) -> str:
    with db.transaction() as connection:
        return str(
            connection.execute(
                text("select name from partners where id = :id"), {"id": account.partner_id}
            ).scalar_one()
        )


def quota(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["quota", *arguments])


def shown(*arguments: str) -> Any:
    said = quota(*arguments, "--json")
    assert said.exit_code == 0, said.output
    return json.loads(said.output)


def test_showing_topping_up_and_adjusting(db: Database, account: Account, name: str) -> None:
    of = ("--partner", name)
    for _ in range(2):
        said = quota("topup", *of, "--amount", "50", "--reference", "invoice-1")
        assert said.output == "topped_up 150, available 150, held 0, captured 0\n"
    adjusted = shown("adjust", *of, "--amount", "-30", "--reference", "c-1", "--reason", "a slip")
    assert adjusted == {"topped_up": 120, "available": 120, "held": 0, "captured": 0}
    accept(db, new_job(account))
    assert shown("show", *of) == {"partner": name, "mode": "live", "low_at": 100} | adjusted | {
        "available": 119,
        "held": 1,
    }
    assert "available  119\n" in quota("show", *of).output
    assert shown("show", *of, "--mode", "test") == {
        "partner": name,
        "mode": "test",
        "topped_up": partners.SPECIMENS,
        "available": partners.SPECIMENS,
        "held": 0,
        "captured": 0,
    }


def test_the_threshold_of_an_account(name: str) -> None:
    of = ("--partner", name)
    assert quota("low", *of, "--at", "7").output == "told below 7 stamps\n"
    assert shown("show", *of)["low_at"] == 7
    assert quota("low", *of, "--at", "0").output == "never told\n"
    assert quota("low", *of, "--at", "default").output == "told below 100 stamps\n"
    assert shown("show", *of)["low_at"] == 100
    refused = quota("low", *of, "--at", "few")
    assert refused.exit_code == 2
    assert "'few' is neither 'default' nor a number" in refused.output


def test_the_entries_of_an_account_newest_first(db: Database, account: Account, name: str) -> None:
    of = ("--partner", name)
    job_id = accept(db, new_job(account, stamps=3))
    quota("adjust", *of, "--amount", "-1", "--reference", "c-1", "--reason", "a slip", "--by", "me")
    adjusted, held, first = (line.split() for line in quota("ledger", *of).output.splitlines())
    assert adjusted[2:] == ["adjust", "1", "available", "to", "outside", "c-1", "a", "slip", "me"]
    assert held[2:] == ["hold", "3", "available", "to", "held", str(job_id)]
    assert first[2:] == ["top_up", "100", "outside", "to", "available", "first", "tests"]

    page = shown("ledger", *of, "--limit", "2")
    assert [entry["kind"] for entry in page["entries"]] == ["adjust", "hold"]
    rest = shown("ledger", *of, "--limit", "2", "--cursor", page["next"])
    assert ([e["kind"] for e in rest["entries"]], rest["next"]) == (["top_up"], None)
    assert f"more with --cursor {page['next']}" in quota("ledger", *of, "--limit", "2").output
    (of_job,) = shown("ledger", *of, "--job", str(job_id))["entries"]
    assert (of_job["amount"], of_job["job_id"]) == (3, str(job_id))
    assert len(shown("ledger", *of, "--kind", "top_up")["entries"]) == 1
    assert len(shown("ledger", *of, "--from", "2026-01-01")["entries"]) == 3
    assert shown("ledger", *of, "--before", "2026-01-01")["entries"] == []
    (specimens,) = shown("ledger", *of, "--mode", "test")["entries"]
    assert (specimens["amount"], specimens["reference"]) == (partners.SPECIMENS, "specimen")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["adjust", "--amount", "-101", "--reference", "c-1", "--reason", "x"],
            "101 stamps cannot be taken away, only 100 are available",
        ),
        (
            ["adjust", "--amount", "0", "--reference", "c-1", "--reason", "x"],
            "an adjustment by zero changes nothing",
        ),
        (
            ["topup", "--amount", "5", "--reference", "first"],
            "'first' was used before: top up of 100",
        ),
        (["ledger", "--cursor", "x"], "This cursor is not one that we gave out"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_sentence(
    db: Database, account: Account, name: str, arguments: list[str], sentence: str
) -> None:
    command, *rest = arguments
    said = quota(command, "--partner", name, *rest)
    assert said.exit_code == 1
    assert said.output.startswith(f"Error: {sentence}")
    assert len(said.output.splitlines()) == 1
    assert balance(db, account) == (100, 0, 0)


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("command", ["show", "ledger"])
def test_a_partner_that_is_not_there_is_named(command: str) -> None:
    said = quota(command, "--partner", "nobody")
    assert said.exit_code == 1
    assert "there is no partner 'nobody'; make it with: stampede partner create" in said.output


@pytest.mark.parametrize(
    ("option", "given", "why"),
    [
        ("--reference", "", "it is empty"),
        ("--reference", " \t", "it is empty"),
        ("--reference", "a\nb", "control character"),
        ("--reference", "x" * 201, "more than 200 characters"),
        ("--reason", "", "it is empty"),
        ("--reason", "x" * 501, "more than 500 characters"),
        ("--by", "", "it is empty"),
    ],
)
def test_an_adjustment_says_under_which_name_and_why_and_who_made_it(
    db: Database, account: Account, name: str, option: str, given: str, why: str
) -> None:
    said_ = {"--reference": "c-1", "--reason": "a slip", "--by": "Ani"} | {option: given}
    refused = quota(
        "adjust",
        "--partner",
        name,
        "--amount",
        "5",
        *(part for each in said_.items() for part in each),
    )
    assert refused.exit_code == 2
    assert option in refused.output
    assert why in refused.output
    assert balance(db, account) == (100, 0, 0)


def test_an_empty_variable_is_no_reference_of_a_top_up(account: Account, name: str) -> None:
    for _ in range(2):
        refused = quota("topup", "--partner", name, "--amount", "5", "--reference", "")
        assert refused.exit_code == 2

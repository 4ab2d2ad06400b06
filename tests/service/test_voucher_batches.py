"""`stampede voucher`: batches that are made once, and a file of codes that no crash parts from them."""

import csv
import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError, OperationalError

from common import audit, jobs, partners
from common.database import Database
from common.identifiers import new_id
from common.partners import Mode
from common.vouchers import code, issuing
from common.vouchers.issuing import NewBatch, ReferenceUsedError
from deploy.cli import main
from deploy.codefile import CodeFile, CodeFileError
from tests.service.test_job_states import new_job
from tests.stack import ROOT, Account

Issue = Callable[..., Result]


@pytest.fixture
def seller(db: Database) -> str:
    name = f"seller {new_id()}"
    with db.transaction() as connection:
        partners.create(connection, name=name)
    return name


@pytest.fixture
def reference() -> str:
    return f"batch-{new_id()}"


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "codes.csv"


@pytest.fixture
def issue(seller: str, reference: str, output: Path) -> Issue:
    def issue(**changed: object) -> Result:
        options = {
            "partner": seller,
            "mode": "live",
            "stamps": 2,
            "count": 3,
            "reference": reference,
            "output": output,
        } | changed
        return run("issue", *(f"--{name}={value}" for name, value in options.items()))

    return issue


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["voucher", *arguments], prog_name="stampede")


def data(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.output
    return list(json.loads(result.output)["data"])


def codes_in(file: Path) -> list[str]:
    with file.open(newline="") as opened:
        return [row["code"] for row in csv.DictReader(opened)]


def counted(db: Database, reference: str) -> int:
    with db.transaction() as connection:
        return int(
            connection.execute(
                text("select count(*) from vouchers where reference = :reference"),
                {"reference": reference},
            ).scalar_one()
        )


def violations(db: Database, *ids: object) -> list[str]:
    with db.transaction() as connection:
        found = audit.audit(connection, ids_shown=100_000)
    return [v.rule for v in found.violations if {str(i) for i in ids} & set(v.ids)]


def test_a_batch_is_made_and_its_codes_are_in_the_file_and_nowhere_else(
    issue: Issue, output: Path, reference: str, seller: str, db: Database
) -> None:
    made = issue(expires="2099-12-31")
    assert made.exit_code == 0, made.output
    assert output.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in output.parent.iterdir()] == ["codes.csv"]
    with output.open(newline="") as opened:
        rows = list(csv.DictReader(opened))
    assert len({row["code"] for row in rows}) == 3
    for row in rows:
        assert (row["stamps"], row["mode"], row["reference"]) == ("2", "live", reference)
        # The last day ends in Jakarta.
        until = datetime.fromisoformat(row["expires_at"])
        assert until == datetime(2099, 12, 31, 17, tzinfo=UTC)
        [shown] = data(run("show", row["code"].lower(), "--json"))
        assert shown["partner"] == seller
        assert (shown["stamps"], shown["available"], shown["held"]) == (2, 2, 0)
        assert datetime.fromisoformat(shown["expires_at"]) == until
        with db.transaction() as connection:
            found = connection.execute(
                text("select count(*) from vouchers v where v::text like :code"),
                {"code": f"%{row['code']}%"},
            ).scalar_one()
        assert found == 0
    assert violations(db, reference) == []


def test_a_reference_is_issued_once_and_the_second_time_says_what_to_do(
    issue: Issue, output: Path, reference: str, db: Database
) -> None:
    assert issue().exit_code == 0
    before = output.read_bytes()
    again = issue(output=output.with_name("other.csv"))
    assert again.exit_code == 1
    assert "was issued at" in again.output
    assert f"stampede voucher void --reference {reference}" in again.output
    assert [path.name for path in output.parent.iterdir()] == ["codes.csv"]
    assert output.read_bytes() == before
    assert counted(db, reference) == 3


def test_two_runs_at_once_make_one_batch(reference: str, account: Account, db: Database) -> None:
    """The second waits for the first's commit, and finds the reference used."""
    batch = NewBatch(
        reference=reference,
        partner_id=account.partner_id,
        mode=Mode.TEST,
        stamps=1,
        expires_at=None,
        by="tests",
    )
    with db.transaction() as first:
        issuing.issue(first, batch, [code.generate()])
        with db.engine.connect() as second:
            second.execute(text("set local lock_timeout = '50ms'"))
            with pytest.raises(OperationalError, match="lock timeout"):
                issuing.issue(second, batch, [code.generate()])
    with pytest.raises(ReferenceUsedError), db.transaction() as second:
        issuing.issue(second, batch, [code.generate()])
    assert counted(db, reference) == 1


def test_a_code_that_exists_already_takes_the_whole_batch_back(
    reference: str, account: Account, db: Database
) -> None:
    one = code.generate()
    batch = NewBatch(
        reference=reference,
        partner_id=account.partner_id,
        mode=Mode.TEST,
        stamps=1,
        expires_at=None,
        by="tests",
    )
    with pytest.raises(IntegrityError), db.transaction() as connection:
        issuing.issue(connection, batch, [code.generate(), one, one])
    assert counted(db, reference) == 0


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"partner": "nobody"}, "stampede partner create 'nobody'"),
        ({"expires": "2020-01-01"}, "--expires is in the past"),
        ({"expires": "tomorrow"}, "does not match the format"),
        ({"stamps": 0}, "--stamps"),
        ({"count": 0}, "--count"),
        ({"mode": "both"}, "--mode"),
        ({"output": "/nowhere/codes.csv"}, "cannot be written: No such file or directory"),
    ],
)
def test_what_cannot_be_issued_is_said_and_leaves_nothing(
    issue: Issue, output: Path, reference: str, db: Database, changed: dict[str, Any], said: str
) -> None:
    refused = issue(**changed)
    assert refused.exit_code in (1, 2)
    assert said in refused.output
    assert list(output.parent.iterdir()) == []
    assert counted(db, reference) == 0


def test_codes_are_never_written_over_a_file(
    issue: Issue, output: Path, reference: str, db: Database
) -> None:
    output.write_text("codes that were sold")
    refused = issue()
    assert refused.exit_code == 1
    assert "is there already" in refused.output
    assert output.read_text() == "codes that were sold"
    assert [path.name for path in output.parent.iterdir()] == ["codes.csv"]
    assert counted(db, reference) == 0


def test_of_two_runs_into_one_file_the_second_is_refused(output: Path) -> None:
    first = CodeFile(output)
    with pytest.raises(CodeFileError, match="another run"):
        CodeFile(output)
    first.write([("code",), ("a",)])
    with pytest.raises(CodeFileError, match="another run"):
        CodeFile(output)
    first.finish()
    with pytest.raises(CodeFileError, match="is there already"):
        CodeFile(output)
    assert output.read_bytes() == b"code\r\na\r\n"


def test_a_disk_that_is_full_leaves_no_file_and_no_batch(
    issue: Issue, output: Path, reference: str, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    refused = issue()
    assert refused.exit_code == 1
    assert "No space left on device" in refused.output
    assert list(output.parent.iterdir()) == []
    assert counted(db, reference) == 0


KILLED_WHERE = """
import os, signal, sys
from common.vouchers import issuing
from deploy import codefile
from deploy.cli import main

def die(*_args, **_kwargs):
    os.kill(os.getpid(), signal.SIGKILL)

where = sys.argv.pop(1)
if where == "while the file is written":
    os.fsync = die
if where == "before the commit":
    plain = issuing.issue
    def issue(*args):
        plain(*args)
        die()
    issuing.issue = issue
if where == "after the commit":
    codefile.CodeFile.finish = die
main()
"""


@pytest.mark.parametrize(
    ("where", "exists"),
    [
        ("while the file is written", False),
        ("before the commit", False),
        ("after the commit", True),
    ],
)
def test_a_run_that_is_killed_leaves_what_is_said_and_the_next_says_what_to_do(
    where: str,
    exists: bool,
    issue: Issue,
    seller: str,
    reference: str,
    output: Path,
    environment: dict[str, str],
    db: Database,
) -> None:
    options = ["--partner", seller, "--mode", "live", "--stamps", "2", "--count", "3"]
    arguments = ["voucher", "issue", *options, "--reference", reference, "--output", str(output)]
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_WHERE, where, *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        check=False,
        capture_output=True,
    )
    assert killed.returncode == -9, killed.stderr
    unfinished = output.with_name("codes.csv.unfinished")
    assert [path.name for path in output.parent.iterdir()] == [unfinished.name]
    assert counted(db, reference) == (3 if exists else 0)
    again = issue()
    assert again.exit_code == 1
    if exists:
        assert f"rename it to {output}" in again.output.replace("\n", " ")
        for typed in codes_in(unfinished):
            assert data(run("show", typed, "--json"))[0]["available"] == 2
    else:
        assert "may be deleted" in again.output.replace("\n", " ")
        unfinished.unlink()
        assert issue().exit_code == 0
    assert violations(db, reference) == []


def test_a_commit_that_is_not_confirmed_keeps_the_file_and_says_how_to_find_out(
    issue: Issue, output: Path, reference: str, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection ends between the last statement and the answer to the commit."""
    plain = issuing.issue

    def and_cut(connection: Any, *rest: Any) -> None:
        plain(connection, *rest)
        own = connection.execute(text("select pg_backend_pid()")).scalar_one()
        with db.transaction() as other:
            other.execute(text("select pg_terminate_backend(:own)"), {"own": own})

    monkeypatch.setattr(issuing, "issue", and_cut)
    unknown = issue()
    assert unknown.exit_code == 1
    said = " ".join(unknown.output.split())
    assert f"stampede voucher list --reference {reference}" in said
    assert len(codes_in(output.with_name("codes.csv.unfinished"))) == 3
    assert run("list", "--reference", reference).exit_code == 1
    assert counted(db, reference) == 0


def test_the_list_says_how_many_were_issued_touched_and_spent(
    issue: Issue, output: Path, reference: str, db: Database, seller: str
) -> None:
    issue(stamps=1)
    accounts = [data(run("show", typed, "--json"))[0]["account"] for typed in codes_in(output)]
    with db.transaction() as connection:
        partner = partners.find_by_name(connection, seller)
    for number, end in enumerate(("stamped", "queued")):
        owner = Account(partner.id, "", "", new_id(), new_id(), accounts[number])
        job = new_job(owner, Mode.LIVE)
        with db.transaction() as connection:
            jobs.accept(connection, [job], publish_after_seconds=1200)
            claim = jobs.claim(connection, job.id, lease_seconds=60) if end == "stamped" else None
            if claim is not None:
                result = jobs.Result(key="x", length=1, sha256=b"r" * 32)
                assert jobs.finish(connection, claim, result)
    [batch] = data(run("list", "--reference", reference, "--json"))
    assert (batch["issued"], batch["touched"], batch["spent"], batch["void"]) == (3, 2, 1, 0)
    assert (batch["available"], batch["held"], batch["captured"]) == (1, 1, 1)
    assert reference in run("list").output
    voided = run("void", "--reference", reference, "--reason", "a test")
    assert "1 unspent" in voided.output
    [batch] = data(run("list", "--reference", reference, "--json"))
    assert (batch["void"], batch["available"], batch["held"]) == (3, 0, 1)
    assert violations(db, reference, *accounts) == []


def test_one_voucher_is_made_void_by_its_code(issue: Issue, output: Path, reference: str) -> None:
    issue()
    first, second, _ = codes_in(output)
    assert run("void", first, "--reason", "lost").output == "void; 2 unspent stamps taken out\n"
    assert data(run("show", first, "--json"))[0]["voided_at"] is not None
    assert data(run("show", second, "--json"))[0]["voided_at"] is None


def test_a_typo_is_told_before_anything_is_looked_up(
    issue: Issue, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    issue()
    [first, *_] = codes_in(output)
    typo = first[:-1] + ("A" if first[-1] != "A" else "B")
    unknown = run("show", str(code.generate()))
    assert "there is no voucher of this code" in unknown.output
    monkeypatch.setenv("STAMPEDE_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/nowhere")
    for command in (["show", typo], ["void", typo, "--reason", "a"]):
        told = run(*command)
        assert told.exit_code == 1
        assert "a character is wrong" in told.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["void", "--reason", "a"], "either CODE or --reference"),
        (["void", "--reference", "nothing", "--reason", "a"], "there is no batch 'nothing'"),
        (["list", "--reference", "nothing"], "there is no batch 'nothing'"),
    ],
)
def test_what_is_not_there_is_said(environment: object, arguments: list[str], said: str) -> None:
    refused = run(*arguments)
    assert refused.exit_code in (1, 2)
    assert said in refused.output


@pytest.mark.parametrize(
    ("damage", "rule"),
    [
        ("delete from vouchers where account_id = :id", "every voucher has an account"),
        ("delete from vouchers where account_id = :id", "a batch has as many vouchers"),
        ("update voucher_batches set stamps = 5 where reference = :reference", "a voucher was"),
        ("update voucher_batches set mode = 'test' where reference = :reference", "every voucher"),
        (
            "update vouchers set voided_at = now() - interval '1 day' where account_id = :id",
            "nothing",
        ),
        (
            "update vouchers set expires_at = now() - interval '1 day' where account_id = :id",
            "nothing",
        ),
    ],
)
def test_the_audit_sees_damage(
    issue: Issue, output: Path, reference: str, seller: str, db: Database, damage: str, rule: str
) -> None:
    issue(count=1)
    account = data(run("show", codes_in(output)[0], "--json"))[0]["account"]
    with db.transaction() as connection:
        partner = partners.find_by_name(connection, seller)
        job = new_job(Account(partner.id, "", "", new_id(), new_id(), account), Mode.LIVE)
        jobs.accept(connection, [job], publish_after_seconds=1200)
    assert violations(db, account, reference) == []
    with db.engine.connect() as connection:
        connection.execute(text(damage), {"id": account, "reference": reference})
        # In the damage's own transaction, which is then rolled back.
        broken = [
            name
            for name, query in audit.RULES.items()
            if {account, reference} & {str(i) for i in connection.execute(text(query)).scalars()}
        ]
        connection.rollback()
    assert any(name.startswith(rule) for name in broken)

"""The issuer's lists: what is taken, what is refused, and that the same list twice is the same as once."""

import io
import json
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy import text

from common import jobs
from common.database import Database
from common.partners import Mode
from common.serials import Supply, generate, importing
from common.serials.importing import (
    ReferenceReusedError,
    RefusedRow,
    RefusedRowsError,
    UnreadableListError,
)
from common.settings import WebSettings
from deploy.cli import main
from tests.service import serial_lists
from tests.service.serial_lists import import_text, imported, numbers
from tests.service.test_job_states import assert_clean, new_job
from tests.service.test_serial_stock import accept, cancel, in_stock
from tests.stack import Account


@pytest.fixture(scope="module")
def db(web_settings: WebSettings) -> Iterator[Database]:
    with serial_lists.own_database(web_settings.database_url) as opened:
        yield opened


@pytest.fixture(autouse=True)
def empty_database(db: Database) -> None:
    serial_lists.empty(db)


GOOD = "E0123456789OILU0"


@pytest.mark.parametrize(
    "content",
    [
        f"{GOOD}\n",
        GOOD,
        f"serial\n{GOOD}\n",
        f"\ufeffSerial\r\n{GOOD}\r\n",
        f'no,"serial",value\n1,"{GOOD}",10000\n',
        f"no;serial\n1; {GOOD} \n\n",
        f"batch\tSERIAL\n1\t{GOOD}\n",
    ],
)
def test_a_list_has_a_column_called_serial_or_one_column(db: Database, content: str) -> None:
    found = import_text(db, content)
    assert (found.rows, found.added, found.known, found.refused) == (1, 1, 0, 0)
    assert in_stock(db) == [GOOD]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("a,b\n1,2\n", "none is called 'serial'"),
        ("x" * 100_000, "a line of 65536 characters"),
        ('serial\n"' + "A\n" * 70_000, "field larger than field limit"),
    ],
)
def test_what_is_no_list_is_refused_with_the_reason(db: Database, content: str, why: str) -> None:
    with pytest.raises(UnreadableListError, match=why):
        import_text(db, content)
    assert in_stock(db) == []


BAD = {
    "": "it has 0 characters instead of 16 to 24",
    "E012345678901234567890123": "it has 25 characters instead of 16 to 24",
    "E0123456789ABCD": "it has 15 characters instead of 16 to 24",
    "e0123456789ABCDEF": "QR codes and addresses carry digits and capitals A to Z only",
    "E0123456789/BCDEF": "QR codes and addresses carry digits and capitals A to Z only",
    "E0123456789 BCDEF": "QR codes and addresses carry digits and capitals A to Z only",
    "E0123456789ÄBCDEF": "QR codes and addresses carry digits and capitals A to Z only",
    "E0123456789\\NBCDEF": "QR codes and addresses carry digits and capitals A to Z only",
    "T0123456789ABCDEF": "it looks like a serial of test mode",
}


@pytest.mark.parametrize(("bad", "why"), BAD.items())
def test_a_row_that_no_stamp_can_carry_is_refused_with_its_line(
    db: Database, bad: str, why: str
) -> None:
    content = f"no,serial\n1,{GOOD}\n\n2,{bad}\n"
    with pytest.raises(RefusedRowsError, match="1 of 2 rows") as refusal:
        import_text(db, content)
    assert refusal.value.found.first_refused == [RefusedRow(4, bad, why)]
    assert in_stock(db) == [], "nothing of it"
    found = import_text(db, content, skip_bad=True)
    assert (found.rows, found.added, found.known, found.refused) == (2, 1, 0, 1)
    assert in_stock(db) == [GOOD]


def test_bytes_that_are_no_text_are_refused_rows(db: Database) -> None:
    with pytest.raises(RefusedRowsError) as refusal, db.transaction() as connection:
        importing.import_list(
            connection, io.BytesIO(b"\xff\xfe\x00\n" + GOOD.encode()), reference="r"
        )
    assert (refusal.value.found.rows, refusal.value.found.refused) == (2, 1)


def test_serials_of_test_mode_are_never_imported(db: Database) -> None:
    with pytest.raises(RefusedRowsError):
        import_text(db, generate(Mode.TEST))


def test_only_the_first_refused_rows_are_kept(db: Database) -> None:
    with pytest.raises(RefusedRowsError) as refusal:
        import_text(db, "x\n" * 100)
    assert refusal.value.found.refused == 100
    assert [row.line for row in refusal.value.found.first_refused] == list(range(1, 11))


def test_the_same_list_again_adds_nothing(db: Database) -> None:
    content = "\n".join(numbers(50))
    first = import_text(db, content, reference="delivery 1")
    again = import_text(db, content, reference="delivery 1")
    renamed = import_text(db, content, reference="delivery 2")
    assert [(each.added, each.known) for each in (first, again, renamed)] == [
        (50, 0),
        (0, 50),
        (0, 50),
    ]
    assert first.sha256 == again.sha256
    assert len(in_stock(db)) == 50
    assert_clean(db)


def test_a_reference_stands_for_one_file(db: Database) -> None:
    import_text(db, "\n".join(numbers(3)), reference="delivery 1")
    with pytest.raises(ReferenceReusedError, match="delivery 1"):
        import_text(db, "\n".join(numbers(3)), reference="delivery 1")
    assert len(in_stock(db)) == 3


def test_a_serial_twice_in_a_list_counts_once(db: Database) -> None:
    found = import_text(db, f"{GOOD}\n{GOOD}\n{GOOD}\n")
    assert (found.rows, found.added, found.known) == (3, 1, 2)
    assert in_stock(db) == [GOOD]


def test_what_jobs_had_is_known_whatever_became_of_it(db: Database, account: Account) -> None:
    listed = imported(db, 3)
    keep, give_back = Supply(source="imported", reuse=False), Supply(source="imported")
    accept(db, new_job(account), keep)
    cancel(db, account, accept(db, new_job(account), keep))
    cancel(db, account, accept(db, new_job(account), give_back))
    found = import_text(db, "\n".join(listed))
    assert (found.added, found.known) == (0, 3)
    assert in_stock(db) == listed[2:]
    assert_clean(db)


def test_lists_that_overlap_are_imported_at_once_without_a_double(db: Database) -> None:
    both, first, second = numbers(400), numbers(200), numbers(200)
    found: list[int] = []
    start = threading.Barrier(2)

    def work(listed: list[str]) -> None:
        start.wait()
        found.append(import_text(db, "\n".join(listed)).added)

    # In opposite orders: were they written so, each could wait for the other.
    threads = [
        threading.Thread(target=work, args=(sorted(both + own, reverse=reverse),))
        for own, reverse in ((first, False), (second, True))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(found) == 800
    assert len(in_stock(db)) == 800
    assert_clean(db)


def test_a_serial_that_is_taken_while_its_list_comes_again_is_not_in_stock_twice(
    db: Database, account: Account
) -> None:
    """The import looks while the taking is not committed, and writes when it is."""
    listed = imported(db, 1)
    added: list[int] = []
    with db.engine.connect() as connection:
        jobs.accept(
            connection,
            [new_job(account)],
            publish_after_seconds=9,
            supply=Supply(source="imported"),
        )
        thread = threading.Thread(
            target=lambda: added.append(import_text(db, "\n".join(listed)).added)
        )
        thread.start()
        _until_somebody_waits_for_a_lock(db)
        connection.commit()
        thread.join()
    assert added == [0]
    assert in_stock(db) == []


def _until_somebody_waits_for_a_lock(db: Database) -> None:
    for _ in range(2000):
        with db.transaction() as connection:
            if connection.execute(
                text(
                    "select count(*) from pg_stat_activity where wait_event_type = 'Lock'"
                    " and datname = current_database()"
                )
            ).scalar_one():
                return
    raise AssertionError("nobody waited")


def test_an_import_that_dies_in_the_middle_leaves_nothing(db: Database) -> None:
    class Dies(io.RawIOBase):
        def __init__(self) -> None:
            self.content = io.BytesIO("\n".join(numbers(30_000)).encode())

        def read(self, size: int = -1) -> bytes:
            if self.content.tell() > 300_000:
                raise OSError(5, "Input/output error")
            return self.content.read(size)

    with pytest.raises(OSError, match="Input/output"), db.transaction() as connection:
        importing.import_list(connection, Dies(), reference="r")  # type: ignore[arg-type]
    with db.transaction() as connection:
        left = connection.execute(
            text(
                "select (select count(*) from serial_stock), (select count(*) from serial_imports),"
                " (select count(*) from pg_class where relname = 'serial_list')"
            )
        ).one()
    assert tuple(left) == (0, 0, 0)


def test_a_list_is_not_held_in_memory(db: Database, tmp_path: Path) -> None:
    file = tmp_path / "large.csv"
    file.write_text("\n".join(f"E{number:021d}" for number in range(200_000)))
    tracemalloc.start()
    try:
        with file.open("rb") as content, db.transaction() as connection:
            found = importing.import_list(connection, content, reference="large")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found.added == 200_000
    assert file.stat().st_size > 4_500_000
    assert peak < 2_500_000


def stampede(db: Database, *arguments: str, given: str = "") -> tuple[int, str, str]:
    """Run the command line on the database of these tests."""
    url = db.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    ran = CliRunner().invoke(
        main, ["serials", *arguments], input=given, env={"STAMPEDE_DATABASE_URL": url}
    )
    return ran.exit_code, ran.stdout, ran.stderr


def test_the_command_imports_a_file_and_counts_the_stock(
    db: Database, environment: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "list.csv"
    file.write_text("serial\n" + "\n".join(numbers(3)))
    code, said, _ = stampede(db, "import", str(file), "--reference", "a")
    assert (code, said) == (0, "3 rows: 3 added, 0 known before, 0 cannot be used\n")
    code, said, _ = stampede(db, "import", "-", "--reference", "b", "--json", given=GOOD)
    assert (code, json.loads(said)["added"]) == (0, 1)
    assert stampede(db, "stock")[1] == "4 serials in stock, 0 jobs wait for some\n"
    assert json.loads(stampede(db, "stock", "--json")[1]) == {"in_stock": 4, "waiting_jobs": 0}


def test_the_command_shows_what_it_refuses_and_imports_the_rest_when_told_to(
    db: Database, environment: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "list.csv"
    file.write_text(f"{GOOD}\nwrong\n")
    code, _, complaint = stampede(db, "import", str(file), "--reference", "a")
    assert code == 1
    assert "line 2: 'wrong': it has 5 characters instead of 16 to 24" in complaint
    assert "nothing was imported" in complaint
    code, said, complaint = stampede(db, "import", str(file), "--reference", "a", "--skip-bad")
    assert (code, said) == (0, "2 rows: 1 added, 0 known before, 1 cannot be used\n")
    assert "line 2" in complaint
    file.write_text(f"{GOOD}1\n")
    code, _, complaint = stampede(db, "import", str(file), "--reference", "a")
    assert (code, "stands for another file" in complaint) == (1, True)
    code, _, complaint = stampede(db, "import", str(tmp_path / "none"), "--reference", "c")
    assert (code, "cannot be read" in complaint) == (1, True)
    file.write_text("a,b\n")
    code, _, complaint = stampede(db, "import", str(file), "--reference", "c")
    assert (code, "is no list of serials" in complaint) == (1, True)


@pytest.mark.parametrize("content", ["", "\n\n", "serial\n", "\ufeff"])
def test_a_list_without_rows_is_refused_and_its_reference_stays_free(
    db: Database, content: str
) -> None:
    with pytest.raises(UnreadableListError, match="no rows"):
        import_text(db, content)
    assert import_text(db, f"{GOOD}\n").added == 1

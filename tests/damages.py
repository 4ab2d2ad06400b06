"""What could be wrong with a database, one thing at a time, and the rule of the audit that must say so.

The database refuses most of these itself; so they are done as its superuser, with triggers and foreign
keys off and, where need be, without an index. Each is done to one job, or to the account of one.
"""

from dataclasses import dataclass

from sqlalchemy import Connection, text

from common import audit

_NO_INDEX = "drop index uq_ledger_entries_hold, uq_ledger_entries_settlement"
_HOLDS_ANEW = """
    insert into ledger_entries (account_id, kind, source, target, amount, job_id)
    select account_id, 'hold', 'available', 'held', 1, id from jobs where id = :id"""
_CAPTURES = """
    insert into ledger_entries (account_id, kind, source, target, amount, job_id)
    select account_id, 'capture', 'held', 'captured', 1, id from jobs where id = :id"""
_RELEASES = """
    insert into ledger_entries (account_id, kind, source, target, amount, job_id)
    select account_id, 'release', 'held', 'available', 1, id from jobs where id = :id"""
_ANOTHER_ACCOUNT = """(select id from accounts where id <> account_id limit 1)"""
_ITS_ACCOUNT = "(select account_id from jobs where id = :id)"

_SETBACK = """
    insert into setbacks (job_id, attempt, kind, reason) values (:id, {attempt}, 'ours', 'x')
    returning job_id"""
_VOUCHER_BATCH = """
    insert into voucher_batches (reference, partner_id, mode, stamps, count, by)
    select cast(id as text), partner_id, mode, 2, 3, 'x' from jobs where id = :id"""
_VOUCHER = """
    with account as (insert into accounts (id, kind, partner_id, mode)
        select uuidv7(), 'voucher', partner_id, mode from jobs where id = :id returning id)
    insert into vouchers (account_id, digest, reference)
    select id, sha256(convert_to(cast(:id as text), 'UTF8')), cast(:id as text) from account"""
_OF_BATCH = " where reference = cast(:id as text)"
_ITS_VOUCHER = f"(select account_id from vouchers{_OF_BATCH})"
_OF_VOUCHER = f" where id = {_ITS_VOUCHER} returning id"
_BATCH = """
    with batch as (insert into batches (id, account_id, partner_id, mode, total, look_at)
        select uuidv7(), account_id, partner_id, mode, {total}, now() from jobs where id = :id
        returning id)
    update jobs set batch_id = batch.id from batch where jobs.id = :id returning batch.id"""
_ITS_BATCH = "(select batch_id from jobs where id = :id)"
_BATCH_FINISHED = f"""
    update batches set finished_at = now(), look_at = null where id = {_ITS_BATCH} returning id"""


@dataclass(frozen=True)
class Damage:
    """Statements that break a rule; `:id` is a live job in this state.

    The rule must name that job, or what the last statement returns.
    """

    state: str
    statements: tuple[str, ...]

    def __str__(self) -> str:
        return " ".join(f"{self.state}: {self.statements[-1]}".split())


def _d(state: str, *statements: str) -> Damage:
    return Damage(state, statements)


SERIALS = "every job has one serial for each stamp, numbered from 1"
SIDES = "every side of an account is the sum of its entries"

DAMAGES: dict[str, tuple[Damage, ...]] = {
    SERIALS: (
        _d("stamped", "delete from serials where job_id = :id"),
        _d("queued", "update serials set position = position + 8 where job_id = :id"),
        _d("failed", "update jobs set placements = placements || '[1]' where id = :id"),
        _d(
            "queued",
            "update jobs set waiting_for = 'serials', publish_at = null where id = :id",
        ),
    ),
    "no serial is in stock that a job has": (
        _d(
            "stamped",
            "insert into serial_stock (serial, import_id) select serial, uuidv7() from serials"
            " where job_id = :id and position = 1 returning serial",
        ),
    ),
    "every imported serial is of a known import": (
        _d(
            "stamped",
            "update serials set import_id = uuidv7() where job_id = :id and position = 1"
            " returning serial",
        ),
        _d(
            "stamped",
            "insert into serial_stock (serial, import_id)"
            " values ('S00000000000000000000X', uuidv7()) returning serial",
        ),
    ),
    "all serials that an import added are in stock or with a job": (
        _d(
            "stamped",
            "insert into serial_imports (id, reference, file_sha256, rows, added, refused)"
            " values (uuidv7(), 'lost', 'x', 2, 2, 0) returning id",
        ),
    ),
    "a serial's mode is its job's": (
        _d("stamped", "update serials set mode = 'test' where job_id = :id"),
        _d("queued", "update serials set mode = 'test' where job_id = :id"),
    ),
    "a serial is affixed exactly where its job is stamped": (
        _d(
            "stamped",
            "update serials set state = 'reserved', affixed_at = null where job_id = :id",
        ),
        _d(
            "stamping",
            "update serials set state = 'affixed', affixed_at = now() where job_id = :id",
        ),
    ),
    "a serial is void exactly where its job ended unstamped": (
        _d("cancelled", "update serials set state = 'reserved' where job_id = :id"),
        _d("queued", "update serials set state = 'void' where job_id = :id"),
    ),
    "every job holds once, one for each stamp, in the account that owns it": (
        _d("queued", "delete from ledger_entries where job_id = :id"),
        _d("stamping", "update ledger_entries set amount = amount + 1 where job_id = :id"),
        _d(
            "queued",
            f"update ledger_entries set account_id = {_ANOTHER_ACCOUNT} where job_id = :id",
        ),
        _d("stamped", _NO_INDEX, _HOLDS_ANEW),
    ),
    "a hold is captured exactly where a job is stamped": (
        _d("stamped", "delete from ledger_entries where job_id = :id and kind = 'capture'"),
        _d("queued", _CAPTURES),
        _d("stamped", _NO_INDEX, _CAPTURES),
    ),
    "a hold is released exactly where a job ended unstamped": (
        _d("failed", "delete from ledger_entries where job_id = :id and kind = 'release'"),
        _d("stamping", _RELEASES),
        _d("stamped", _NO_INDEX, _RELEASES),
        _d("cancelled", _NO_INDEX, _RELEASES),
    ),
    "what is captured or released is all that was held, in the same account": (
        _d(
            "stamped",
            "update ledger_entries set amount = amount + 1 where job_id = :id and kind = 'capture'",
        ),
        _d(
            "failed",
            f"update ledger_entries set account_id = {_ANOTHER_ACCOUNT}"
            " where job_id = :id and kind = 'release'",
        ),
        _d("stamped", "delete from ledger_entries where job_id = :id and kind = 'hold'"),
    ),
    "every job was told as accepted once": (
        _d("queued", "delete from events where job_id = :id and type = 'job.accepted'"),
    ),
    "every final job has the one event of its end": (
        _d("stamped", "delete from events where job_id = :id and type = 'job.stamped'"),
        _d(
            "failed",
            "update events set type = 'job.cancelled' where type = 'job.failed' and job_id = :id",
        ),
        _d(
            "stamped",
            "insert into events (id, partner_id, mode, type, job_id, payload)"
            " select uuidv7(), partner_id, mode, 'job.cancelled', id, '{}' from jobs where id = :id",
        ),
        _d(
            "queued",
            "insert into events (id, partner_id, mode, type, job_id, payload)"
            " select uuidv7(), partner_id, mode, 'job.stamped', id, '{}' from jobs where id = :id",
        ),
        _d("failed", "delete from events where job_id = :id"),
    ),
    "no lease is forgotten": (
        _d("stamping", "update jobs set lease_until = now() - interval '1 hour' where id = :id"),
    ),
    "no queued job is out of the relay's sight": (
        _d("queued", "update jobs set publish_at = null where id = :id"),
    ),
    "every purged job was told as purged once, and no other": (
        _d("stamped", "update jobs set purged_at = now() where id = :id"),
        _d(
            "failed",
            "insert into events (id, partner_id, mode, type, job_id, payload)"
            " select uuidv7(), partner_id, mode, 'job.purged', id, '{}' from jobs where id = :id",
        ),
    ),
    "every setback is of an attempt that was made and did not end in a stamp": (
        _d("queued", _SETBACK.format(attempt=99)),
        _d("stamped", "update jobs set attempt = 99 where id = :id", _SETBACK.format(attempt=99)),
    ),
    "every voucher has an account, of its batch's partner and mode, and every such account one": (
        _d("queued", _VOUCHER_BATCH, _VOUCHER, "update accounts set mode = 'test'" + _OF_VOUCHER),
        _d(
            "queued",
            _VOUCHER_BATCH,
            _VOUCHER,
            f"delete from vouchers{_OF_BATCH} returning account_id",
        ),
    ),
    "a batch has as many vouchers as were issued": (
        _d("queued", _VOUCHER_BATCH + " returning reference"),
    ),
    "a voucher was topped up once, with what it is worth": (
        _d("queued", _VOUCHER_BATCH, _VOUCHER + " returning account_id"),
    ),
    "nothing is held on a voucher that was void or had expired": (
        _d(
            "queued",
            _VOUCHER_BATCH,
            _VOUCHER,
            f"update vouchers set voided_at = now() - interval '99 years'{_OF_BATCH}",
            f"update ledger_entries set account_id = {_ITS_VOUCHER}"
            " where job_id = :id and kind = 'hold' returning account_id",
        ),
    ),
    "a batch has as many jobs as it says, all of its account": (
        _d("queued", _BATCH.format(total=2)),
        _d(
            "queued",
            _BATCH.format(total=1),
            f"update batches set account_id = {_ANOTHER_ACCOUNT} where id = {_ITS_BATCH} returning id",
        ),
    ),
    "a batch is finished once all its jobs have ended, and told of exactly then": (
        _d("queued", _BATCH.format(total=1), _BATCH_FINISHED),
        _d("stamped", _BATCH.format(total=1), _BATCH_FINISHED),
    ),
    "no ended batch is forgotten": (
        _d(
            "stamped",
            "update jobs set finished_at = now() - interval '1 hour' where id = :id",
            _BATCH.format(total=1),
        ),
    ),
    "a job's partner and mode are its account's": (
        _d("stamped", "update jobs set mode = 'test' where id = :id"),
        _d(
            "queued",
            "update jobs set partner_id = (select id from partners where id <> partner_id limit 1)"
            " where id = :id",
        ),
    ),
    "a gate stands as its newest change says": (
        _d("queued", "update gates set state = 'closed' where kind = 'bulk' returning kind"),
        _d("queued", "update gates set reason = 'x' where kind = 'applicant' returning kind"),
        _d("queued", "delete from gate_changes where kind = 'partner' returning kind"),
    ),
    "every place in the waiting room is a voucher's": (
        _d(
            "queued",
            "insert into waiting_places (account_id) select account_id from jobs where id = :id"
            " returning number",
        ),
    ),
    SIDES: (
        _d(
            "stamped",
            "update accounts set available = available + 1, topped_up = topped_up + 1"
            f" where id = {_ITS_ACCOUNT} returning id",
        ),
        _d(
            "stamped",
            f"update accounts set held = held + 1, available = available - 1"
            f" where id = {_ITS_ACCOUNT} returning id",
        ),
        _d(
            "stamped",
            "update accounts set captured = captured + 1, available = available - 1"
            f" where id = {_ITS_ACCOUNT} returning id",
        ),
        _d(
            "stamped",
            "insert into ledger_entries (account_id, kind, source, target, amount, reference)"
            " select account_id, 'top_up', 'outside', 'available', 1, 'unbooked' from jobs"
            " where id = :id returning account_id",
        ),
        _d(
            "stamped",
            "alter table accounts drop constraint ck_accounts_adds_up",
            f"update accounts set topped_up = topped_up + 1 where id = {_ITS_ACCOUNT} returning id",
        ),
    ),
}


def do(connection: Connection, damage: Damage, *, nth: int = 0) -> str:
    """Do the damage to the nth live job in its state, and return the id that its rule must name."""
    connection.execute(text("set local session_replication_role = replica"))
    job = connection.execute(
        text(
            "select id from jobs where state = :state and mode = 'live' and waiting_for is null"
            " order by id offset :nth limit 1"
        ),
        {"state": damage.state, "nth": nth},
    ).scalar_one()
    for statement in damage.statements:
        done = connection.execute(text(statement), {"id": job} if ":id" in statement else {})
    assert done.rowcount, statement
    return str(done.scalars().first() if done.returns_rows else job)


def speaks(found: audit.Audit, rule: str, offender: str) -> bool:
    """Say whether the audit names the offender under the rule."""
    return any(v.rule == rule and offender in v.ids for v in found.violations)

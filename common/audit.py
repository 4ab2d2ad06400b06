"""The invariants, as SQL over the whole database in one snapshot.

A rule about jobs is a condition that holds of those which break it; all of them are asked in one pass
over each job beside what belongs to it. Any other rule is a query that returns the ids which break
it. It takes no lock that a writer waits for, so it may run while the service works (docs/audit.md).
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, text


@dataclass(frozen=True, slots=True)
class Violation:
    """A rule that does not hold, for how many, and for whom; `ids` are the first of them."""

    rule: str
    ids: list[str]
    count: int

    def as_json(self) -> dict[str, Any]:
        """Return the violation as JSON values."""
        return {"rule": self.rule, "ids": self.ids, "count": self.count}


@dataclass(frozen=True, slots=True)
class Audit:
    """How many jobs were looked at, what was wrong, and how many seconds each look took."""

    jobs: int
    violations: list[Violation]
    seconds: dict[str, float] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return the audit as JSON values."""
        return {
            "jobs": self.jobs,
            "violations": [violation.as_json() for violation in self.violations],
            "seconds": round(sum(self.seconds.values()), 2),
        }


# A job, how many stamps it has, and what the other tables say of it, counted. Every part comes in the
# order of job ids from an index, so that the whole is merged as it is read and nothing of it is kept.
_JOBS = """
    (select *, jsonb_array_length(placements) as stamps from jobs) j
    left join (
        select job_id, count(*) as count, max(position) as last,
            count(*) filter (where mode = 'live') as live,
            count(*) filter (where state = 'affixed') as affixed,
            count(*) filter (where state = 'void') as void
        from serials where job_id is not null group by job_id) s on s.job_id = j.id
    left join (
        select job_id, count(*) as count, sum(amount) as amount,
            any_value(account_id) as account_id
        from ledger_entries where kind = 'hold' group by job_id) h on h.job_id = j.id
    left join (
        select job_id, count(*) filter (where kind = 'capture') as captures,
            count(*) filter (where kind = 'release') as releases, sum(amount) as amount,
            any_value(account_id) as account_id
        from ledger_entries where kind in ('capture', 'release') group by job_id) t
        on t.job_id = j.id
    left join (
        select job_id, count(*) filter (where type = 'job.accepted') as accepted,
            count(*) filter (where type = 'job.stamped') as stamped,
            count(*) filter (where type = 'job.failed') as failed,
            count(*) filter (where type = 'job.cancelled') as cancelled,
            count(*) filter (where type = 'job.purged') as purged
        from events where job_id is not null group by job_id) v on v.job_id = j.id"""

# Of a job `j`: its serials `s`, its hold `h`, its settlement `t`, its events `v`; null where it has none.
JOB_RULES: dict[str, str] = {
    # Or none at all: while it waits for some, and where it gave imported ones back.
    "every job has one serial for each stamp, numbered from 1": """
        case when s.count is null
            then j.waiting_for is null and not (j.state in ('failed', 'cancelled')
                and j.mode = 'live' and (exists (select from serial_imports) or exists (
                    select from events e where e.job_id = j.id and e.type = 'job.accepted'
                    and e.payload -> 'serials' = '[]')))
            else j.waiting_for is not null or s.last <> s.count or s.count <> j.stamps end""",
    "a serial's mode is its job's": """
        s.live <> case j.mode when 'live' then s.count else 0 end""",
    "a serial is affixed exactly where its job is stamped": """
        s.affixed <> case when j.state = 'stamped' then s.count else 0 end""",
    "a serial is void exactly where its job ended unstamped": """
        s.void <> case when j.state in ('failed', 'cancelled') then s.count else 0 end""",
    "every job holds once, one for each stamp, in the account that owns it": """
        h.count is distinct from 1 or h.amount <> j.stamps or h.account_id <> j.account_id""",
    "a hold is captured exactly where a job is stamped": """
        coalesce(t.captures, 0) <> (j.state = 'stamped')::int""",
    "a hold is released exactly where a job ended unstamped": """
        coalesce(t.releases, 0) <> (j.state in ('failed', 'cancelled'))::int""",
    "what is captured or released is all that was held, in the same account": """
        t.amount is not null
            and (t.amount, t.account_id) is distinct from (h.amount, h.account_id)""",
    "every job was told as accepted once": """
        v.accepted is distinct from 1""",
    "every final job has the one event of its end": """
        coalesce(v.stamped, 0) <> (j.state = 'stamped')::int
            or coalesce(v.failed, 0) <> (j.state = 'failed')::int
            or coalesce(v.cancelled, 0) <> (j.state = 'cancelled')::int""",
    "every purged job was told as purged once, and no other": """
        coalesce(v.purged, 0) <> (j.purged_at is not null)::int""",
    "no lease is forgotten": """
        j.state = 'stamping' and j.lease_until < now() - interval '15 minutes'""",
    "no queued job is out of the relay's sight": """
        j.state = 'queued' and j.publish_at is null and j.waiting_for is null""",
}

OTHER_RULES: dict[str, str] = {
    "no serial is in stock that a job has": """
        select serial from serial_stock join serials using (serial)""",
    "every imported serial is of a known import": """
        select serial from (select serial, import_id from serials where import_id is not null
            union all select serial, import_id from serial_stock) imported
        where not exists (select from serial_imports i where i.id = imported.import_id)""",
    "all serials that an import added are in stock or with a job": """
        select i.id from serial_imports i left join (
            select import_id from serials where import_id is not null
            union all select import_id from serial_stock) about on about.import_id = i.id
        group by i.id having count(about.import_id) <> i.added""",
    "every setback is of an attempt that was made and did not end in a stamp": """
        select distinct s.job_id from setbacks s join jobs j on j.id = s.job_id
        where s.attempt > j.attempt
           or s.attempt = j.attempt and j.state in ('stamping', 'stamped')""",
    "a job's partner and mode are its account's": """
        select j.id from jobs j join accounts a on a.id = j.account_id
        where j.partner_id <> a.partner_id or j.mode <> a.mode""",
    "every side of an account is the sum of its entries": """
        select a.id from accounts a left join (
            select account_id,
                sum(amount) filter (where source = 'outside') as brought,
                sum(amount) filter (where target = 'outside') as taken,
                sum(amount) filter (where target = 'available') as to_available,
                sum(amount) filter (where source = 'available') as from_available,
                sum(amount) filter (where target = 'held') as to_held,
                sum(amount) filter (where source = 'held') as from_held,
                sum(amount) filter (where target = 'captured') as captured
            from ledger_entries group by account_id) e on e.account_id = a.id
        where a.topped_up <> coalesce(e.brought, 0) - coalesce(e.taken, 0)
           or a.available <> coalesce(e.to_available, 0) - coalesce(e.from_available, 0)
           or a.held <> coalesce(e.to_held, 0) - coalesce(e.from_held, 0)
           or a.captured <> coalesce(e.captured, 0)
           or a.topped_up <> a.available + a.held + a.captured""",
    "every voucher has an account, of its batch's partner and mode, and every such account one": """
        select coalesce(v.account_id, a.id)
        from vouchers v join voucher_batches b on b.reference = v.reference
        full join (select * from accounts where kind = 'voucher') a on a.id = v.account_id
        where (a.partner_id, a.mode) is distinct from (b.partner_id, b.mode)""",
    "a batch has as many vouchers as were issued": """
        select b.reference from voucher_batches b left join vouchers v on v.reference = b.reference
        group by b.reference having count(v.account_id) <> b.count""",
    "a voucher was topped up once, with what it is worth": """
        select v.account_id from vouchers v join voucher_batches b on b.reference = v.reference
        left join ledger_entries e on e.account_id = v.account_id and e.kind = 'top_up'
        group by v.account_id, b.stamps
        having count(e.id) <> 1 or sum(e.amount) <> b.stamps""",
    # A transaction that began before may commit after; none may take longer.
    "nothing is held on a voucher that was void or had expired": """
        select distinct v.account_id from vouchers v join ledger_entries e
            on e.account_id = v.account_id and e.kind = 'hold'
        where e.at > least(v.voided_at, v.expires_at) + interval '2 minutes'""",
    "a batch has as many jobs as it says, all of its account": """
        select b.id from batches b left join jobs j on j.batch_id = b.id group by b.id
        having count(j.id) <> b.total or bool_or(j.account_id <> b.account_id)""",
    "a batch is finished once all its jobs have ended, and told of exactly then": """
        select b.id from batches b left join events e
            on e.batch_id = b.id and e.type = 'batch.finished'
        where (b.finished_at is not null) <> (e.id is not null)
           or b.finished_at is not null and exists (
               select from jobs j where j.batch_id = b.id and j.finished_at is null)""",
    "no ended batch is forgotten": """
        select b.id from batches b join jobs j on j.batch_id = b.id where b.finished_at is null
        group by b.id having bool_and(j.finished_at < now() - interval '15 minutes')""",
    "a gate stands as its newest change says": """
        select g.kind from gates g left join lateral (
            select * from gate_changes c where c.kind = g.kind order by c.id desc limit 1) c on true
        where (g.state, g.rate, g.reason, g.reopens_at, g.changed_at, g.changed_by)
            is distinct from (c.state, c.rate, c.reason, c.reopens_at, c.at, c.by)""",
    "every place in the waiting room is a voucher's": """
        select p.number from waiting_places p
        where not exists (select from vouchers v where v.account_id = p.account_id)""",
}

# Each rule as a query by itself, for whoever asks one alone.
RULES: dict[str, str] = {
    rule: f"select j.id from {_JOBS} where {condition}" for rule, condition in JOB_RULES.items()
} | OTHER_RULES

_SNAPSHOT = (
    "set transaction isolation level repeatable read, read only",
    # It takes as long as it takes; but it waits for no migration, and ends when nobody listens any more.
    "set local statement_timeout = 0",
    "set local lock_timeout = '2s'",
    "set local client_connection_check_interval = '2s'",
    "set local work_mem = '64MB'",
    # Compiling costs more than it saves, and a second process would read most of it once more.
    "set local jit = off",
    "set local max_parallel_workers_per_gather = 0",
)
# Hashing would keep every job in memory or on the disk, at twice the cost; indexes have them in order.
_MERGED = ("set local enable_hashjoin = off", "set local enable_hashagg = off")
_HASHED = ("set local enable_hashjoin = on", "set local enable_hashagg = on")


def audit(
    connection: Connection,
    *,
    ids_shown: int = 20,
    tell: Callable[[str, float], None] | None = None,
) -> Audit:
    """Check every rule in one snapshot.

    Args:
        connection: a transaction in which nothing was read yet.
        ids_shown: how many offenders to name per rule.
        tell: is told of each look when it is done: what was looked at, and the seconds.

    Raises:
        sqlalchemy.exc.OperationalError: a migration holds a table, or somebody cancelled the query.
    """
    for setting in _SNAPSHOT:
        connection.execute(text(setting))
    return look(connection, ids_shown=ids_shown, tell=tell)


def look(
    connection: Connection,
    *,
    ids_shown: int = 20,
    tell: Callable[[str, float], None] | None = None,
) -> Audit:
    """Check every rule in the transaction as it is; for one snapshot, see `audit`."""
    seconds: dict[str, float] = {}
    found: dict[str, Violation] = {}

    def timed(what: str, query: str) -> Any:
        started = time.perf_counter()
        rows = connection.execute(text(query), {"shown": ids_shown}).all()
        seconds[what] = time.perf_counter() - started
        if tell is not None:
            tell(what, seconds[what])
        return rows

    for setting in _MERGED:
        connection.execute(text(setting))
    names = list(JOB_RULES)
    for row in timed("jobs, and what belongs to each", _jobs_query()):
        rule = names[row.rule - 1]
        found[rule] = Violation(rule, row.ids, row.count)
    for setting in _HASHED:
        connection.execute(text(setting))
    for rule, query in OTHER_RULES.items():
        for row in timed(rule, _other_query(query)):
            found[rule] = Violation(rule, row.ids, row.count)
    (jobs,) = timed("how many jobs there are", "select count(*) as count from jobs")
    return Audit(jobs.count, [found[rule] for rule in RULES if rule in found], seconds)


def _jobs_query() -> str:
    """Return the rows (number of the rule from 1, count, first ids) of the rules about jobs."""
    conditions = ",\n".join(f"({condition})" for condition in JOB_RULES.values())
    return f"""
        with judged as materialized (
            select id, broken from (
                select j.id, array[{conditions}] as broken from {_JOBS}) looked
            where true = any (broken)),
        named as (
            select rule, id, row_number() over (partition by rule order by id) as place
            from judged, unnest(broken) with ordinality each (speaks, rule) where speaks)
        select rule, count(*) as count,
            array_agg(id::text order by id) filter (where place <= :shown) as ids
        from named group by rule"""


def _other_query(query: str) -> str:
    """Return one row (count, first ids), or none, of a rule that is a query of its own."""
    return f"""
        with offenders as (
            select id::text, row_number() over (order by id) as place from ({query}) broken (id))
        select count(*) as count, array_agg(id order by place) filter (where place <= :shown) as ids
        from offenders having count(*) > 0"""

"""The invariants, as SQL over the whole database in one snapshot.

Each rule is a query that returns the ids which break it; an empty answer everywhere is a clean
audit. It reads in one repeatable-read transaction, so it may run while the service works.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text


@dataclass(frozen=True, slots=True)
class Violation:
    """A rule that does not hold, and for whom."""

    rule: str
    ids: list[str]


@dataclass(frozen=True, slots=True)
class Audit:
    """How many jobs were looked at, and what was wrong."""

    jobs: int
    violations: list[Violation]

    def as_json(self) -> dict[str, Any]:
        """Return the audit as JSON values."""
        return {
            "jobs": self.jobs,
            "violations": [{"rule": v.rule, "ids": v.ids} for v in self.violations],
        }


RULES: dict[str, str] = {
    # Or none at all: while it waits for some, and where it gave imported ones back.
    "every job has one serial for each stamp, numbered from 1": """
        select j.id from jobs j left join serials s on s.job_id = j.id group by j.id
        having case when count(s.serial) = 0
            then j.waiting_for is null and not (j.state in ('failed', 'cancelled')
                and j.mode = 'live' and (exists (select from serial_imports) or exists (
                    select from events e where e.job_id = j.id and e.type = 'job.accepted'
                    and e.payload -> 'serials' = '[]')))
            else j.waiting_for is not null or max(s.position) <> count(s.serial)
                or count(s.serial) <> jsonb_array_length(j.placements) end""",
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
    "a serial's mode is its job's": """
        select s.serial from serials s join jobs j on j.id = s.job_id where s.mode <> j.mode""",
    "a serial is affixed exactly where its job is stamped": """
        select distinct j.id from jobs j join serials s on s.job_id = j.id
        where (j.state = 'stamped') <> (s.state = 'affixed')""",
    "a serial is void exactly where its job ended unstamped": """
        select distinct j.id from jobs j join serials s on s.job_id = j.id
        where (j.state in ('failed', 'cancelled')) <> (s.state = 'void')""",
    "a job's partner and mode are its account's": """
        select j.id from jobs j join accounts a on a.id = j.account_id
        where j.partner_id <> a.partner_id or j.mode <> a.mode""",
    "every job holds once, one for each stamp, in the account that owns it": """
        select j.id from jobs j left join ledger_entries e on e.job_id = j.id and e.kind = 'hold'
        where e.id is null or e.account_id <> j.account_id
           or e.amount <> jsonb_array_length(j.placements)""",
    "a hold is captured exactly where a job is stamped": """
        select j.id from jobs j left join ledger_entries e on e.job_id = j.id and e.kind = 'capture'
        where (j.state = 'stamped') <> (e.id is not null)""",
    "a hold is released exactly where a job ended unstamped": """
        select j.id from jobs j left join ledger_entries e on e.job_id = j.id and e.kind = 'release'
        where (j.state in ('failed', 'cancelled')) <> (e.id is not null)""",
    "what is captured or released is all that was held, in the same account": """
        select s.job_id from ledger_entries s
        left join ledger_entries h on h.job_id = s.job_id and h.kind = 'hold'
        where s.kind in ('capture', 'release')
          and (s.account_id, s.amount) is distinct from (h.account_id, h.amount)""",
    "every side of an account is the sum of its entries": """
        select a.id from accounts a left join (
            select e.account_id,
                sum(side.amount) filter (where side.name = 'outside') as outside,
                sum(side.amount) filter (where side.name = 'available') as available,
                sum(side.amount) filter (where side.name = 'held') as held,
                sum(side.amount) filter (where side.name = 'captured') as captured
            from ledger_entries e,
                lateral (values (e.target, e.amount), (e.source, -e.amount)) side (name, amount)
            group by e.account_id) s on s.account_id = a.id
        where a.topped_up <> coalesce(-s.outside, 0) or a.available <> coalesce(s.available, 0)
           or a.held <> coalesce(s.held, 0) or a.captured <> coalesce(s.captured, 0)
           or a.topped_up <> a.available + a.held + a.captured""",
    "every job was told as accepted once": """
        select j.id from jobs j left join events e on e.job_id = j.id and e.type = 'job.accepted'
        where e.id is null""",
    "every final job has the one event of its end": """
        select j.id from jobs j left join events e
            on e.job_id = j.id and e.type in ('job.stamped', 'job.failed', 'job.cancelled')
        group by j.id, j.state
        having count(e.id) <> (case when j.state in ('stamped', 'failed', 'cancelled')
                                    then 1 else 0 end)
            or bool_or(e.type <> 'job.' || j.state)""",
    "every purged job was told as purged once, and no other": """
        select j.id from jobs j left join events e on e.job_id = j.id and e.type = 'job.purged'
        where (j.purged_at is null) <> (e.id is null)""",
    "every setback is of an attempt that was made and did not end in a stamp": """
        select distinct s.job_id from setbacks s join jobs j on j.id = s.job_id
        where s.attempt > j.attempt
           or s.attempt = j.attempt and j.state in ('stamping', 'stamped')""",
    "no lease is forgotten": """
        select id from jobs where state = 'stamping' and lease_until < now() - interval '15 minutes'
        """,
    "no queued job is out of the relay's sight": """
        select id from jobs where state = 'queued' and publish_at is null
            and waiting_for is null""",
}


def audit(connection: Connection, *, ids_shown: int = 20) -> Audit:
    """Check every rule in one snapshot.

    Args:
        connection: a transaction in which nothing was read yet.
        ids_shown: how many offenders to name per rule.
    """
    connection.execute(text("set transaction isolation level repeatable read, read only"))
    connection.execute(text("set local statement_timeout = 0"))
    violations = []
    for rule, query in RULES.items():
        ids = connection.execute(
            text(f"select * from ({query}) offenders limit :shown"), {"shown": ids_shown}
        ).scalars()
        offenders = [str(offender) for offender in ids]
        if offenders:
            violations.append(Violation(rule, offenders))
    jobs = connection.execute(text("select count(*) from jobs")).scalar_one()
    return Audit(jobs, violations)

"""A database as years of service leave it, written by SQL: jobs in every state, and all that is theirs.

It passes the audit clean. For the audit's own tests, which damage it, and for its bench.
"""

from sqlalchemy import Connection, text

# Written through a superuser's session that fires no triggers: foreign keys would be checked row by row.
_STEPS = (
    "set local session_replication_role = replica",
    "set local synchronous_commit = off",
    # Sixty partners; the first are as large as all others together.
    """insert into partners (id, name)
       select uuidv7(), 'bulk ' || n from generate_series(1, 60) n""",
    """insert into accounts (id, kind, partner_id, mode)
       select uuidv7(), 'partner', id, mode from partners, unnest(array['test', 'live']) mode
       where name like 'bulk %'""",
    """insert into webhook_endpoints (id, partner_id, mode, url, secret, description)
       select uuidv7(), id, 'live', 'https://portal.example/' || name, 'whsec_x', ''
       from partners where name like 'bulk %' and right(name, 1) in ('1', '2', '3')""",
    """create temporary table made on commit drop as
       with account as (select row_number() over (partition by mode order by id) as place, *
                        from accounts where partner_id in (select id from partners
                                                           where name like 'bulk %')),
       drawn as (select n, 1 + floor(60 * random() ^ 2) as place, random() as c, random() as d,
                     case when random() < 0.1 then 'test' else 'live' end as mode
                 from generate_series(1, :jobs) n)
       select n,
           now() - interval '1 day' + interval '1 day' * n / (:jobs + 1) as accepted_at,
           uuidv7(interval '1 day' * n / (:jobs + 1) - interval '1 day') as id,
           account.id as account_id, account.partner_id, account.mode,
           case when c < 0.93 then 'stamped' when c < 0.97 then 'failed'
                when c < 0.985 then 'cancelled' when c < 0.995 then 'queued'
                else 'stamping' end as state,
           c >= 0.985 and c < 0.987 and account.mode = 'live' as waiting,
           case when d < 0.95 then 1 when d < 0.98 then 2 else 5 end as stamps,
           'stamp.partner.' || n % 8 as lane
       from drawn join account using (place, mode)""",
    """insert into jobs (id, account_id, partner_id, mode, state, lane, ticket,
           attempt, lease_until, publish_at, waiting_for, publications, placements,
           external_reference, metadata, document_name, document_bytes, document_sha256, result_key,
           result_bytes, result_sha256, specimen, signature_level, problem_code, problem_facts,
           receipt, accepted_at, started_at, finished_at)
       select id, account_id, partner_id, mode, state, lane, n,
           case when state in ('queued', 'cancelled') then 0 else 1 end,
           case when state = 'stamping' then now() + interval '1 minute' end,
           case when state = 'queued' and not waiting then now() end,
           case when waiting then 'serials' end, 1,
           (select jsonb_agg(jsonb_build_object('page', 'last', 'corner', 'bottom-right',
               'margin', 36.0 * k, 'width', 80.0, 'height', 80.0))
            from generate_series(1, stamps) k),
           'application ' || n, '{"office": "Bandung"}', 'letter.pdf', 355000,
           sha256(n::text::bytea),
           case when state = 'stamped'
                then right(id::text, 2) || '/' || id || '/stamped-1.pdf' end,
           case when state = 'stamped' then 369000 end,
           case when state = 'stamped' then sha256(n::text::bytea) end,
           case when state = 'stamped' then true end,
           case when state = 'stamped' then 'B-B' end,
           case when state = 'failed' then 'document_certified' end,
           case when state = 'failed' then '{"field": "x"}'::jsonb end,
           repeat(md5(n::text), 18), accepted_at,
           case when state not in ('queued', 'cancelled')
                then accepted_at + interval '3 seconds' end,
           case when state in ('stamped', 'failed', 'cancelled')
                then accepted_at + interval '4 seconds' end
       from made order by n""",
    """insert into serials (serial, mode, job_id, position, state, affixed_at)
       select case mode when 'test' then 'T' else 'S' end
               || upper(substr(translate(gen_random_uuid()::text, '-', ''), 1, 21)),
           mode, id, k,
           case state when 'stamped' then 'affixed' when 'failed' then 'void'
                when 'cancelled' then 'void' else 'reserved' end,
           case when state = 'stamped' then accepted_at + interval '4 seconds' end
       from made, generate_series(1, stamps) k where not waiting order by n""",
    """insert into ledger_entries (account_id, kind, source, target, amount, reference, by, at)
       select id, 'top_up', 'outside', 'available', 10 * :jobs, 'first', 'bulk',
           now() - interval '2 days' from accounts
       where partner_id in (select id from partners where name like 'bulk %')""",
    """insert into ledger_entries (account_id, kind, source, target, amount, reference, reason, by)
       select id, 'adjust', 'available', 'outside', 3, 'second', 'counted twice', 'bulk'
       from accounts where partner_id in (select id from partners where name like 'bulk %')""",
    # Holds and settlements as they came, a few jobs apart.
    """insert into ledger_entries (account_id, kind, source, target, amount, job_id, at)
       select account_id, kind, source, target, stamps, id, at from (
           select account_id, 'hold' as kind, 'available' as source, 'held' as target, stamps, id,
               accepted_at as at, n as place from made
           union all
           select account_id, case state when 'stamped' then 'capture' else 'release' end, 'held',
               case state when 'stamped' then 'captured' else 'available' end, stamps, id,
               accepted_at + interval '4 seconds', n + 40
           from made where state in ('stamped', 'failed', 'cancelled')) entries
       order by place""",
    """update accounts set topped_up = s.topped_up, available = s.available, held = s.held,
           captured = s.captured
       from (select account_id,
                 sum(case when source = 'outside' then amount when target = 'outside'
                     then -amount else 0 end) as topped_up,
                 sum(case when target = 'available' then amount when source = 'available'
                     then -amount else 0 end) as available,
                 sum(case when target = 'held' then amount when source = 'held'
                     then -amount else 0 end) as held,
                 sum(case when target = 'captured' then amount else 0 end) as captured
             from ledger_entries group by account_id) s
       where s.account_id = accounts.id""",
    """insert into events (id, partner_id, mode, type, job_id, payload, created_at)
       select uuidv7(at - now()), partner_id, mode, type, id,
           jsonb_build_object('state', state, 'mode', mode, 'serial', 'S' || md5(n::text),
               'serials', jsonb_build_array('S' || md5(n::text)), 'external_reference', null), at
       from (
           select partner_id, mode, 'job.accepted' as type, id, 'queued' as state, n,
               accepted_at as at, n as place from made
           union all
           select partner_id, mode, 'job.' || state, id, state, n,
               accepted_at + interval '4 seconds', n + 40
           from made where state in ('stamped', 'failed', 'cancelled')) events
       order by place""",
    """insert into deliveries (id, event_id, endpoint_id, state, attempts, last_status,
           last_attempt_at)
       select uuidv7(), e.id, w.id, 'delivered', 1, 200, e.created_at
       from events e join webhook_endpoints w on w.partner_id = e.partner_id and w.mode = e.mode
       where e.type <> 'job.accepted' and w.secret = 'whsec_x'""",
)


def fill(connection: Connection, *, jobs: int) -> None:
    """Write `jobs` jobs of sixty partners, with serials, entries, events and deliveries."""
    for step in _STEPS:
        connection.execute(text(step), {"jobs": jobs} if ":jobs" in step else {})

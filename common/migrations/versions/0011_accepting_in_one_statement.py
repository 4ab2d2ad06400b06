"""Accepting in one statement: two functions, no table changes.

A front end tells the database all of an acceptance at once. What used to be a round trip for each table
is one for all of them, and the account is locked for no round trip at all.
"""

from alembic import op

revision = "0011"
down_revision = "0009"


def upgrade() -> None:
    """Apply this step."""
    op.execute(
        """
        create function hold_stamps(account uuid, jobs uuid[], amounts bigint[]) returns boolean
        language plpgsql as $$
        declare
            needed bigint := (select sum(amount) from unnest(amounts) as amount);
        begin
            with moved as (
                update accounts set available = available - needed, held = held + needed
                where id = account and available >= needed returning id
            ) insert into ledger_entries (account_id, kind, source, target, amount, job_id)
                select moved.id, 'hold', 'available', 'held', amount, job_id
                from moved, unnest(jobs, amounts) as wanted (job_id, amount);
            return found;
        end $$
        """
    )
    op.execute(
        """
        create function accept_jobs(
            asked json, answer bytea, out verdict text, out facts jsonb, out body bytea
        ) language plpgsql as $$
        declare
            account uuid := asked ->> 'account_id';
            owner uuid := asked ->> 'partner_id';
            its_mode text := asked ->> 'mode';
            stamps bigint := asked ->> 'stamps';
            once json := asked -> 'once';
            headers jsonb;
            ids uuid[];
            amounts bigint[];
            left_over bigint;
        begin
            if json_typeof(once) = 'object' then
                if not pg_try_advisory_xact_lock((once ->> 'lock')::bigint) then
                    verdict := 'key_in_use';
                    return;
                end if;
                select 'replay', jsonb_build_object(
                        'fingerprint', encode(kept.fingerprint, 'hex'),
                        'status', kept.status, 'headers', kept.headers
                    ), kept.body
                    into verdict, facts, body
                    from idempotency_keys kept
                    where owner_id = (once ->> 'owner_id')::uuid and key = once ->> 'key';
                if found then
                    return;
                end if;
                headers := once -> 'headers';
            end if;

            if (asked ->> 'voucher')::boolean then
                -- Nobody makes it void before the commit.
                select case when voided_at is not null then 'voucher_void'
                        when expires_at <= now() then 'voucher_expired' end,
                        jsonb_build_object('expires_at', expires_at)
                    into strict verdict, facts from vouchers where account_id = account for share;
                if verdict is not null then
                    return;
                end if;
                -- Only its holder waits for this account, and is told what is left.
                select available into strict left_over from accounts
                    where id = account for no key update;
                headers := headers || jsonb_build_object('Stamps-Left', (left_over - stamps)::text);
            else
                select available into strict left_over from accounts where id = account;
            end if;
            facts := jsonb_build_object('available', left_over);
            if left_over < stamps then
                verdict := 'quota_too_small';
                return;
            end if;

            delete from serial_stock
                where id = any(array(select json_array_elements_text(asked -> 'from_stock')::bigint));
            with wanted as materialized (
                select * from json_to_recordset(asked -> 'jobs') as wanted (
                    id uuid, batch_id uuid, lane text, ticket bigint, placements jsonb,
                    external_reference text, metadata jsonb, document_name text,
                    document_bytes bigint, document_sha256 text, receipt text,
                    accepted_at timestamptz, waits boolean, stamps bigint, event_id uuid,
                    payload jsonb
                )
            ), accepted as (
                insert into jobs (
                    id, account_id, partner_id, mode, batch_id, state, lane, ticket, waiting_for,
                    publish_at, placements, external_reference, metadata, document_name,
                    document_bytes, document_sha256, receipt, accepted_at
                ) select id, account, owner, its_mode, batch_id, 'queued', lane,
                    case when not waits then ticket end, case when waits then 'serials' end,
                    case when not waits then
                        now() + make_interval(secs => (asked ->> 'publish_after')::int) end,
                    placements, external_reference, metadata, document_name, document_bytes,
                    decode(document_sha256, 'hex'), receipt, accepted_at
                from wanted
            ), reserved as (
                insert into serials (serial, mode, job_id, position, state, import_id, returns)
                select serial, its_mode, job_id, position, 'reserved', import_id, returns
                from json_to_recordset(asked -> 'serials') as chosen (
                    serial text, job_id uuid, position smallint, import_id uuid, returns boolean
                )
            ), told as (
                insert into events (id, partner_id, mode, type, job_id, payload)
                select event_id, owner, its_mode, asked ->> 'event', id, payload from wanted
            ), kept as (
                insert into idempotency_keys (owner_id, key, fingerprint, status, headers, body)
                select (once ->> 'owner_id')::uuid, once ->> 'key', decode(once ->> 'fingerprint', 'hex'),
                    (once ->> 'status')::smallint, headers, answer
                where json_typeof(once) = 'object'
            ) select array_agg(wanted.id), array_agg(wanted.stamps) into ids, amounts from wanted;
            -- Last, because it locks the account until the commit.
            if not hold_stamps(account, ids, amounts) then
                -- Another hold came in between; what was written goes with this.
                raise exception using errcode = 'ST402', message = (
                    select available from accounts where id = account
                );
            end if;
            verdict := 'accepted';
        end $$
        """
    )

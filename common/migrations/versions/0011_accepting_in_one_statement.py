"""Accepting in one statement: two functions, no table changes.

A front end tells the database all of an acceptance at once. What used to be a round trip for each table
is one for all of them, and the account is locked for no round trip at all.
"""

from alembic import op

revision = "0011"
down_revision = "0010"


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
            told record;
            once record;
            headers jsonb;
            ids uuid[];
            amounts bigint[];
            left_over bigint;
        begin
            -- Read once: each look into a json text is a walk through all of it.
            select * into told from json_to_record(asked) as told (
                account_id uuid, partner_id uuid, mode text, event text, stamps bigint,
                publish_after int, voucher boolean, once json, jobs json, serials json,
                from_stock json
            );
            select * into once from json_to_record(told.once) as once (
                owner_id uuid, key text, lock bigint, fingerprint text, status smallint,
                headers jsonb
            );
            if once.key is not null then
                if not pg_try_advisory_xact_lock(once.lock) then
                    verdict := 'key_in_use';
                    return;
                end if;
                select 'replay', jsonb_build_object(
                        'fingerprint', encode(kept.fingerprint, 'hex'),
                        'status', kept.status, 'headers', kept.headers
                    ), kept.body
                    into verdict, facts, body
                    from idempotency_keys kept
                    where kept.owner_id = once.owner_id and kept.key = once.key;
                if found then
                    return;
                end if;
                headers := once.headers;
            end if;

            if told.voucher then
                -- Nobody makes it void before the commit.
                select case when voided_at is not null then 'voucher_void'
                        when expires_at <= now() then 'voucher_expired' end,
                        jsonb_build_object('expires_at', expires_at)
                    into strict verdict, facts from vouchers where account_id = told.account_id for share;
                if verdict is not null then
                    return;
                end if;
                -- Only its holder waits for this account, and is told what is left.
                select available into strict left_over from accounts
                    where id = told.account_id for no key update;
                headers := headers || jsonb_build_object('Stamps-Left', (left_over - told.stamps)::text);
            else
                select available into strict left_over from accounts where id = told.account_id;
            end if;
            facts := jsonb_build_object('available', left_over);
            if left_over < told.stamps then
                verdict := 'quota_too_small';
                return;
            end if;

            if json_array_length(told.from_stock) > 0 then
                delete from serial_stock where id = any(
                    array(select json_array_elements_text(told.from_stock)::bigint));
            end if;
            with wanted as materialized (
                select * from json_to_recordset(told.jobs) as wanted (
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
                ) select id, told.account_id, told.partner_id, told.mode, batch_id, 'queued', lane,
                    case when not waits then ticket end, case when waits then 'serials' end,
                    case when not waits then
                        now() + make_interval(secs => told.publish_after) end,
                    placements, external_reference, metadata, document_name, document_bytes,
                    decode(document_sha256, 'hex'), receipt, accepted_at
                from wanted
            ), reserved as (
                insert into serials (serial, mode, job_id, position, state, import_id, returns)
                select serial, told.mode, job_id, position, 'reserved', import_id, returns
                from json_to_recordset(told.serials) as chosen (
                    serial text, job_id uuid, position smallint, import_id uuid, returns boolean
                )
            ), recorded as (
                insert into events (id, partner_id, mode, type, job_id, payload)
                select event_id, told.partner_id, told.mode, told.event, id, payload from wanted
            ), kept as (
                insert into idempotency_keys (owner_id, key, fingerprint, status, headers, body)
                select once.owner_id, once.key, decode(once.fingerprint, 'hex'), once.status,
                    headers, answer
                where once.key is not null
            ) select array_agg(wanted.id), array_agg(wanted.stamps) into ids, amounts from wanted;
            -- Last, because it locks the account until the commit.
            if not hold_stamps(told.account_id, ids, amounts) then
                -- Another hold came in between; what was written goes with this.
                raise exception using errcode = 'ST402', message = (
                    select available from accounts where id = told.account_id
                );
            end if;
            verdict := 'accepted';
        end $$
        """
    )

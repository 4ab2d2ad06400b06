"""The ground floor: the domain, and the words that web and workers share.

    jobs/            the job: its states, and the ways from one to the next; reading jobs
    batches.py       jobs that came together           cursors.py              pages of what is ordered by id
    placements.py    where its stamps are wanted       levels.py, upgrades.py  what its signature brings along
    accounts.py, ledger.py, statements.py              who owns jobs and stamps, and double entry of these
    quota_notices.py                                   who is told that stamps run low
    serials/, codes.py                                 serial numbers, and their codes
    partners.py      partners and API keys             idempotency.py          the same request twice
    vouchers/        stamps behind a code              rates.py                how often somebody may try
    receipts.py, jwks.py, links.py                     proof of arrival, public keys, status links
    verdicts.py      what a file's signatures mean     problems.py             every error a client can meet
    events.py, outbox.py, webhook_endpoints.py, webhook_targets.py             what happened, and who is told
    lanes.py, turns.py, pace.py                        queues, their turns, and the truth about waiting
    replies.py, breaker.py                             asking while a client waits; leaving the silent alone
    database.py, schema/, migrations/                  PostgreSQL              audit.py        every invariant
    documents.py     object storage                    settings.py             every knob
    telemetry.py     logs and metrics                  identifiers.py          ids that sort by time
    leadership.py    which of several processes may do what only one should

Imports nothing of `web`, `workers` or `deploy`.
"""

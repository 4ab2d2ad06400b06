"""What every end without a stamp settles, and what events tell of a job."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row

from common import aftermath, events, ledger, serials
from common.events import EventType, Happened
from common.jobs.life import Changed, State
from common.partners import Mode
from common.problems import Code

# The start of a statement that fails jobs; the caller says which.
FAIL = (
    "update jobs set state = 'failed', lease_until = null, publish_at = null, finished_at = now(),"
    " problem_code = :code, problem_facts = cast(:facts as jsonb)"
)
RETURNING = " returning id, account_id, partner_id, mode, external_reference"


def settle_unstamped(
    connection: Connection, row: Row[Any], state: State, code: Code | None
) -> Changed:
    """Give back what a job without a stamp held, retire its serials and tell its owner.

    Serials that went back into the stock are told no more: they may soon be another job's.
    """
    aftermath.jobs_changed(connection, [row.id])
    mode = Mode(row.mode)
    kept = serials.retire(connection, job_id=row.id)
    facts = facts_of(state, mode, kept, row.external_reference)
    deliveries = events.record(
        connection,
        Happened(
            EventType.CANCELLED if code is None else EventType.FAILED,
            row.id,
            row.partner_id,
            mode,
            facts if code is None else facts | {"problem": code},
        ),
    )
    # Last, because it locks the account until the commit.
    ledger.release(connection, account_id=row.account_id, job_id=row.id)
    return Changed(deliveries)


def facts_of(
    state: State, mode: Mode, serials_: Sequence[str], external_reference: str | None
) -> dict[str, Any]:
    """Return what events tell of a job: JSON values, no personal data."""
    return {
        "state": state,
        "mode": mode,
        # The first one also by itself, as before a job could have several; null while it has none.
        "serial": serials_[0] if serials_ else None,
        "serials": serials_,
        "external_reference": external_reference,
    }

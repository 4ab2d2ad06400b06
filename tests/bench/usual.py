"""A job as most are, for benches that take jobs past the front end."""

from datetime import UTC, datetime
from uuid import UUID

from common.identifiers import new_id
from common.jobs import NewJob
from common.partners import Mode
from common.placements import Placement


def usual_job(account_id: UUID, partner_id: UUID) -> NewJob:
    """Return a new live job with one stamp, and a receipt as long as they are."""
    return NewJob(
        id=new_id(),
        account_id=account_id,
        partner_id=partner_id,
        mode=Mode.LIVE,
        lane="bench",
        ticket=1,
        placements=[Placement()],
        external_reference=None,
        metadata={},
        document_name="letter.pdf",
        document_bytes=355_000,
        document_sha256=bytes(32),
        accepted_at=datetime.now(UTC),
        receipt="r" * 570,
    )

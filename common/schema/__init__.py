"""The tables; `common/migrations` builds them, and a test holds the two together.

Money is counted in stamps (whole numbers). Times are `timestamptz`, ids are UUIDv7, so that an id
sorts by its time.
"""

from common.schema import (
    admission,
    batches,
    jobs,
    money,
    parties,
    serials,
    upkeep,
    vouchers,
    webhooks,
)
from common.schema.base import METADATA

__all__ = [
    "METADATA",
    "admission",
    "batches",
    "jobs",
    "money",
    "parties",
    "serials",
    "upkeep",
    "vouchers",
    "webhooks",
]

"""Vouchers, and the batches in which they are made."""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Integer,
    LargeBinary,
    Table,
    Text,
)

from common.schema.base import METADATA, time_column

voucher_batches = Table(
    "voucher_batches",
    METADATA,
    # The issuer's own name for it, such as an order's number: it is issued once.
    Column("reference", Text, primary_key=True),
    # Who sells them.
    Column("partner_id", ForeignKey("partners.id"), nullable=False),
    Column("mode", Text, nullable=False),
    # What each is worth.
    Column("stamps", BigInteger, nullable=False),
    Column("count", Integer, nullable=False),
    Column("by", Text, nullable=False),
    time_column("created_at", now=True),
    CheckConstraint("mode in ('test', 'live')", name="mode"),
    CheckConstraint("stamps > 0", name="stamps_positive"),
    CheckConstraint("count > 0", name="count_positive"),
)

vouchers = Table(
    "vouchers",
    METADATA,
    # What a voucher is worth and owns is its account's.
    Column("account_id", ForeignKey("accounts.id"), primary_key=True),
    # SHA-256 of the code's 16 characters; its 75 random bits need no slow hash.
    Column("digest", LargeBinary, nullable=False, unique=True),
    Column("reference", ForeignKey("voucher_batches.reference"), nullable=False, index=True),
    time_column("created_at", now=True),
    time_column("expires_at"),
    time_column("voided_at"),
    CheckConstraint("length(digest) = 32", name="digest"),
)

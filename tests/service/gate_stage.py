"""A gate of a test's own: front ends with a part of the broker that nobody else uses, and a doorman."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import redis
from flask.testing import FlaskClient
from sqlalchemy import text

from common import gates, pace
from common.admission import OPEN, Kind, Setting
from common.database import Database
from common.identifiers import new_id
from common.lanes import APPLICANT_LANE
from common.partners import Mode
from common.room import board
from common.settings import WebSettings
from common.vouchers import code, issuing
from common.vouchers.code import VoucherCode
from common.vouchers.issuing import NewBatch
from tests.stack import Account
from web.app import create_app
from workers.doorman import Doorman

PDF = {"Content-Type": "application/pdf"}
HORIZON = 60


@dataclass(frozen=True)
class Stage:
    """A gate whose lanes are as long as a test says."""

    settings: WebSettings
    database: Database
    account: Account
    letter: bytes

    def front_end(self) -> FlaskClient:
        """Return a front end that has seen nothing yet."""
        return create_app(self.settings).test_client()

    def doorman(self) -> Doorman:
        return Doorman(
            settings=self.settings,
            database=self.database,
            pace=pace.connect(self.settings),
            mirror=board.connect(self.settings),
        )

    @property
    def valkey(self) -> redis.Redis:
        return redis.Redis.from_url(self.settings.broker_url)

    def lane(self, seconds_left: float, *, lane: str = APPLICANT_LANE, each: float = 0.5) -> None:
        """Make a lane so long that a newcomer waits so many seconds."""
        micros = round(each * 1_000_000)
        for name, value in (
            ("accepted", max(0, round(seconds_left / each) - 1)),
            ("served", 0),
            ("interval_us", micros),
            ("service_us", micros),
        ):
            self.valkey.hset(f"pace:{lane}", name, str(value))

    def voucher(self, *, stamps: int = 2) -> dict[str, str]:
        """Return the headers of a new voucher."""
        made: VoucherCode = code.generate()
        batch = NewBatch(
            reference=f"batch {new_id()}",
            partner_id=self.account.partner_id,
            mode=Mode.LIVE,
            stamps=stamps,
            expires_at=None,
            by="tests",
        )
        with self.database.transaction() as connection:
            issuing.issue(connection, batch, [made])
        return {"Authorization": f"Bearer {made}"}

    def submit(self, client: FlaskClient, who: Mapping[str, str], **more: str) -> Any:
        return client.post("/v1/jobs", data=self.letter, headers={**who, **PDF, **more})

    def set(self, kind: Kind, setting: Setting) -> None:
        with self.database.transaction() as connection:
            gates.change(
                connection,
                kind,
                setting,
                by="tests",
                slot_seconds=self.settings.intake_slot_seconds,
            )

    def sql(self, statement: str) -> Any:
        with self.database.transaction() as connection:
            done = connection.execute(text(statement))
            return done.all() if done.returns_rows else done.rowcount


def _clear(database: Database) -> None:
    with database.transaction() as connection:
        connection.execute(text("truncate waiting_places, waiting_turns restart identity"))
        for kind in Kind:
            gates.change(connection, kind, OPEN, by="tests", slot_seconds=600)


@pytest.fixture
def stage(
    web_settings: WebSettings, db: Database, account: Account, letter: bytes
) -> Iterator[Stage]:
    broker = web_settings.broker_url.removesuffix("/0") + "/8"
    horizon = {
        "intake_horizon_seconds": HORIZON,
        "intake_horizon_partner_seconds": HORIZON,
        "intake_horizon_bulk_seconds": HORIZON,
    }
    made = Stage(
        web_settings.model_copy(update={"broker_url": broker, **horizon}), db, account, letter
    )
    _clear(db)
    made.valkey.flushdb()
    yield made
    _clear(db)
    made.valkey.flushdb()

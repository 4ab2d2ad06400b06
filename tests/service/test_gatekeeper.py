"""A front end's gatekeeper while PostgreSQL is away: what was seen last holds, and nothing seen is open."""

from datetime import UTC, datetime
from pathlib import Path

from common import database, gates, pace, rates
from common.admission import Admit, Kind, Later, Setting, State, Why
from common.database import EDGE, Database
from common.gatekeeping import Gatekeeper
from common.lanes import BULK_LANE
from common.room import board
from common.settings import WebSettings
from deploy.servers import Postgres, free_port
from tests.service.gate_stage import Stage, stage

__all__ = ["stage"]


def keeper(settings: WebSettings, opened: Database, now: list[float]) -> Gatekeeper:
    return Gatekeeper(
        settings=settings,
        database=opened,
        pace=pace.connect(settings),
        rates=rates.connect(settings),
        mirror=board.connect(settings),
        clock=lambda: now[0],
        now=lambda: datetime.now(UTC),
    )


def test_the_gates_stand_as_they_were_last_seen(stage: Stage, tmp_path: Path) -> None:
    server = Postgres(tmp_path / "postgres")
    server.start()
    database.migrate(server.url)
    opened, now = Database(server.url, patience=EDGE), [0.0]
    try:
        with opened.transaction() as connection:
            closed = Setting(State.CLOSED, reason="x")
            gates.change(connection, Kind.BULK, closed, by="tests", slot_seconds=600)
        seen, blind = (keeper(stage.settings, opened, now) for _ in range(2))
        assert isinstance(seen.decide(Kind.BULK, (BULK_LANE,)), Later)
        server.kill()
        for _ in range(3):
            now[0] += 2
            assert isinstance(seen.decide(Kind.BULK, (BULK_LANE,)), Later)
            assert seen.setting(Kind.BULK) == closed
            # This one never saw a gate.
            assert blind.decide(Kind.BULK, (BULK_LANE,)) == Admit()
        assert blind.board() is None
        server.start()
        opened.close()
        now[0] += 2
        # The database's own breaker may rest for a second after it was away.
        opened = Database(server.url, patience=EDGE)
        again = keeper(stage.settings, opened, now)
        assert isinstance(again.decide(Kind.BULK, (BULK_LANE,)), Later)
    finally:
        opened.close()
        server.stop()


def test_a_change_is_seen_after_a_second_and_not_read_before(stage: Stage) -> None:
    now = [0.0]
    mine = keeper(stage.settings, stage.database, now)
    assert mine.decide(Kind.BULK, (BULK_LANE,)) == Admit()
    stage.set(Kind.BULK, Setting(State.CLOSED))
    now[0] = 0.9
    assert mine.decide(Kind.BULK, (BULK_LANE,)) == Admit()
    now[0] = 1.0
    assert mine.decide(Kind.BULK, (BULK_LANE,)) == Later(Why.CLOSED, None)


def test_a_lane_that_nobody_can_measure_is_not_full(stage: Stage) -> None:
    away = stage.settings.model_copy(update={"broker_url": f"redis://127.0.0.1:{free_port()}/0"})
    assert keeper(away, stage.database, [0.0]).decide(Kind.BULK, (BULK_LANE,)) == Admit()
    stage.lane(100.0, lane=BULK_LANE)
    full = keeper(stage.settings, stage.database, [0.0]).decide(Kind.BULK, (BULK_LANE,))
    assert isinstance(full, Later)
    assert full.seconds == 46

"""Is it alive, is it ready, how is it doing: /livez, /readyz, /metrics."""

import os
from collections.abc import Iterator

from flask import Blueprint, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from common.partners import Mode
from common.serials import stock
from web.answers import json_answer
from web.parts import parts

blueprint = Blueprint("health", __name__)
# What is asked for every few seconds may not take longer the more jobs wait.
_COUNTED_TO = 1000
_BACKLOG = "select " + ", ".join(
    f"(select count(*) from (select from {what} limit :most) counted) as {name}"
    for name, what in {
        "queued": "jobs where state = 'queued'",
        "stamping": "jobs where state = 'stamping'",
        "waiting_for_serials": "jobs where waiting_for = 'serials'",
        "parked": "jobs where state = 'parked'",
        "deliveries": "deliveries where state = 'pending'",
    }.items()
)
_NO_STORE = {"Cache-Control": "no-store"}


@blueprint.get("/livez")
def livez() -> Response:
    """Say that the process answers; asks nobody else."""
    return json_answer({"status": "ok"}, headers=_NO_STORE)


@blueprint.get("/readyz")
def readyz() -> Response:
    """Say whether documents can be accepted: the database and room in the object store are needed.

    The broker is reported, but not needed: what is accepted without it is published later.
    """
    try:
        database = parts().database.answers()
    except SQLAlchemyError:
        database = False
    checks = {
        "database": database,
        "documents": parts().documents.answers(room=parts().settings.max_document_bytes),
        "broker": parts().pace.answers(),
    }
    ready = checks["database"] and checks["documents"]
    return json_answer(
        {"status": "ok" if ready else "unavailable", "checks": checks},
        status=200 if ready else 503,
        headers=_NO_STORE,
    )


@blueprint.get("/metrics")
def metrics() -> Response:
    """Return counters of all processes of this machine, and the queue as it stands now."""
    registry = CollectorRegistry()
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    registry.register(Queue())
    return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


class Queue(Collector):
    """The queue as it stands now, read when somebody asks; kept by no process."""

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield what waits in each lane, how fast it goes, and what the database has open."""
        waiting = GaugeMetricFamily(
            "stampede_lane_waiting", "Jobs waiting in a lane", labels=["lane"]
        )
        per_second = GaugeMetricFamily(
            "stampede_lane_jobs_per_second",
            "Jobs that leave a lane per second as long as some wait, as measured",
            labels=["lane"],
        )
        oldest = GaugeMetricFamily(
            "stampede_lane_oldest_seconds", "Age of the oldest job that waits", labels=["lane"]
        )
        for lane, pace in (parts().pace.lanes() or {}).items():
            waiting.add_metric([lane], pace.waiting)
            if pace.per_second is not None:
                per_second.add_metric([lane], pace.per_second)
            if pace.oldest_seconds is not None:
                oldest.add_metric([lane], pace.oldest_seconds)
        measured = (waiting, per_second, oldest)
        backlog = GaugeMetricFamily(
            "stampede_backlog",
            f"Unfinished work in the database; {_COUNTED_TO} means so many or more",
            labels=["what"],
        )
        try:
            with parts().database.reading() as connection:
                counted = connection.execute(text(_BACKLOG), {"most": _COUNTED_TO}).one()
                level = (
                    stock.level(connection)
                    if parts().settings.serial_source == "imported"
                    else None
                )
        except SQLAlchemyError:
            # What the processes count themselves is asked for most when something is away.
            yield from measured
            return
        for what, count in counted._mapping.items():
            backlog.add_metric([what], count)
        yield from (*measured, backlog)
        if level is not None:
            in_stock = GaugeMetricFamily(
                "stampede_serial_stock", "Imported serials that no job has yet", labels=["mode"]
            )
            in_stock.add_metric([Mode.LIVE], level.in_stock)
            yield in_stock

"""Is it alive, ready, how is it doing, how many workers it needs: /livez, /readyz, /metrics, /scaling."""

import os
from collections.abc import Iterator

from flask import Blueprint, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from common import lanes
from common.demand import POOLS
from common.partners import Mode
from common.problems import Code, ProblemError
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


@blueprint.get("/scaling/<pool>")
def scaling(pool: str) -> Response:
    """Say how many workers a pool needs, for what scales it (KEDA's metrics-api).

    While Valkey is away that is not known, and 503: whoever asks then has a number of its own.
    """
    if pool not in POOLS:
        raise ProblemError(Code.NOT_FOUND)
    desired = parts().demand.workers(POOLS[pool])
    if desired is None:
        raise ProblemError(Code.SERVICE_UNAVAILABLE)
    return json_answer({"pool": pool, "desired_workers": desired}, headers=_NO_STORE)


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
        measured = (waiting, per_second, oldest, *_workers_needed())
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


def _workers_needed() -> Iterator[GaugeMetricFamily]:
    """Yield what the broker holds and how many workers it takes; nothing while it is away."""
    depth = GaugeMetricFamily(
        "stampede_queue_depth", "Messages of a lane that no worker has taken", labels=["lane"]
    )
    desired = GaugeMetricFamily(
        "stampede_desired_workers", "Workers that a pool needs now", labels=["pool"]
    )
    depths = parts().demand.depths(lanes.ALL_LANES) or ()
    for lane, messages in zip(lanes.ALL_LANES, depths, strict=False):
        depth.add_metric([lane], messages)
    for name, pool in POOLS.items():
        if (workers := parts().demand.workers(pool)) is not None:
            desired.add_metric([name], workers)
    yield from (depth, desired)

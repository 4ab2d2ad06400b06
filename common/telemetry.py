"""Logs and metrics: structured lines that carry the job's id, and counters that Prometheus reads."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from prometheus_client import Counter, Gauge, Histogram
from structlog.typing import Processor

from common.settings import Settings

ACCEPTED = Counter("stampede_jobs_accepted", "Jobs accepted", ["mode", "lane"])
REFUSED = Counter("stampede_requests_refused", "Requests answered with a problem", ["code"])
FINISHED = Counter("stampede_jobs_finished", "Jobs that reached a final state", ["state", "code"])
STAMPING = Histogram(
    "stampede_stamping_seconds",
    "Seconds from claim to finish of one job",
    buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30),
)
DELIVERIES = Counter("stampede_webhook_attempts", "Webhook attempts", ["outcome"])
TIMESTAMPS = Counter(
    "stampede_timestamps", "Timestamps asked for, by authority", ["authority", "outcome"]
)
LEVELS = Counter("stampede_signature_levels", "Documents sealed, by signature level", ["level"])
REVOCATION_AGE = Gauge(
    "stampede_revocation_age_seconds",
    "Age of the revocation data in use when it was last looked at",
    ["certificate"],
    multiprocess_mode="mostrecent",
)
REVOCATION_LEFT = Gauge(
    "stampede_revocation_left_seconds",
    "Seconds that the revocation data in use was still valid when it was last looked at",
    ["certificate"],
    multiprocess_mode="mostrecent",
)
REVOCATION_FAILURES = Counter(
    "stampede_revocation_failures", "Times that no revocation data could be had", ["certificate"]
)
QUESTIONS = Counter(
    "stampede_questions",
    "Files looked at while a client waited, by how it ended",
    ["task", "outcome"],
)
LIMITED = Counter("stampede_rate_limited", "Requests refused by a rate limit", ["limit"])
RATES_UNKNOWN = Counter(
    "stampede_rates_unknown", "Times that a rate limit could not be asked for, and allowed all"
)
POOL_PROCESSES = Gauge(
    "stampede_pool_processes",
    "Processes of a worker that scales itself",
    ["worker"],
    multiprocess_mode="mostrecent",
)
SETBACKS = Counter("stampede_setbacks", "Attempts that did not end in a stamp", ["kind"])
ROOM_WAITING = Gauge(
    "stampede_waiting_room_places",
    "Places in the waiting room whose turn has not come",
    multiprocess_mode="mostrecent",
)
UPKEEP = Counter("stampede_upkeep_found", "Things that upkeep found and mended", ["what"])
UPKEEP_RAN = Gauge(
    "stampede_upkeep_last_run_timestamp_seconds",
    "When a round of upkeep was last done to its end",
    ["round"],
    multiprocess_mode="mostrecent",
)
KEY_EXPIRES = Gauge(
    "stampede_signing_key_expires_seconds",
    "Seconds until a stamping key may sign no more, as of the last job; below zero: it ended",
    ["key"],
    multiprocess_mode="mostrecent",
)


def configure_logs(settings: Settings) -> None:
    """Send every log line of this process, ours and the libraries', to standard error as JSON."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    renderer = (
        structlog.processors.JSONRenderer()
        if settings.log_format == "json"
        else structlog.dev.ConsoleRenderer()
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level)
    # httpx writes every address it calls and Celery two lines a task; ours say the same with the ids.
    for name in ("httpx", "celery.worker.strategy", "celery.app.trace"):
        logging.getLogger(name).setLevel(logging.WARNING)
    if structlog.is_configured():
        # Loggers that were used keep the processors they began with; one set serves every caller.
        return
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def logger(name: str) -> structlog.stdlib.BoundLogger:
    """Return a logger whose lines carry what `about` put into the context."""
    return structlog.stdlib.get_logger(name)


@contextmanager
def about(**facts: object) -> Iterator[None]:
    """Put facts such as `job_id` into every log line of the block."""
    with structlog.contextvars.bound_contextvars(**facts):
        yield

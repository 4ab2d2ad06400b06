"""What the front end takes: accepts and polls a second, and what it does with more than it can take.

Starts a copy of everything (`stampede up`) in a temporary folder and a bare Flask app on the same web
server with the same options. Finds how many documents a second are accepted when a few connections send
one after the other, while the workers stamp. Then offers 0.5, 1, 2 and 5 times as many, at random times
and whatever is answered, while status polls and /livez are asked for; latency counts from the time at
which a request was to be sent. Last it waits until everything accepted is stamped. Who offers runs on
the same processors: its share of them is reported, and a rate that it could not offer is not measured.

Example: python -m tests.bench.intake --json
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from deploy.roles import SERVING
from deploy.sample import sample_letter, sample_of
from deploy.servers import ROOT, child, free_port
from tests.bench import arguments, offering, whole
from tests.bench.offering import Offer, milliseconds
from tests.bench.processes import cpu_seconds
from tests.bench.whole import Whole

POLLS_PER_S = 20
LIVEZ_PER_S = 5
# Jobs whose status is asked for.
POLLED = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """How much is measured."""

    document: Path
    seconds: float
    loads: Sequence[float]
    connections: int
    expects: bool
    obeys: bool
    patience: float


def measure(copy: Whole, choices: Choices) -> dict[str, Any]:
    """Return all figures of the copy."""
    with _hello() as port:
        hello = _most(_get(port, ["/"]))
        taking = _most(_post(port, "/", choices))
    submit = _submit(copy, choices)
    jobs = _some_jobs(copy, choices.document.read_bytes())
    in_turn = offering.make(submit)
    accepts = len(in_turn.with_status(202)) / in_turn.seconds
    polls = _most(_polls(copy, jobs))
    overload = [_offered(copy, choices, jobs, load, accepts) for load in choices.loads]
    stamped, waited = _drain(copy, choices.patience)
    everything = [in_turn.counts()] + [step["answers"] for step in overload]
    accepted = sum(counts.get("202", 0) for counts in everything) + len(jobs)
    return {
        "accepts_per_s": round(accepts, 1),
        "polls_per_s": round(polls, 1),
        "hello_per_s": round(hello, 1),
        "hello_with_document_per_s": round(taking, 1),
        "accepts_share_of_hello": round(accepts / hello, 3),
        "accepts_share_of_hello_with_document": round(accepts / taking, 3),
        "polls_share_of_hello": round(polls / hello, 3),
        "accept_ms": milliseconds(in_turn.with_status(202)),
        "overload": overload,
        "accepted": accepted,
        "stamped": stamped,
        "drained_seconds": round(waited, 1),
    }


def _offered(
    copy: Whole, choices: Choices, jobs: Sequence[str], load: float, accepts: float
) -> dict[str, Any]:
    """Offer so many times the capacity; return what became of it."""
    rate = load * accepts
    stamped, used = copy.stamped(), {n: cpu_seconds(pid) for n, pid in copy.pids.items()}
    began = time.perf_counter()
    submitting = offering.start(_submit(copy, choices, rate=rate, seed=round(load * 10)))
    beside = [
        offering.start(_polls(copy, jobs, rate=POLLS_PER_S, seconds=choices.seconds)),
        offering.start(_get(copy.port, ["/livez"], rate=LIVEZ_PER_S, seconds=choices.seconds)),
    ]
    came = offering.finish(submitting)
    polls, livez = map(offering.finish, beside)
    seconds = time.perf_counter() - began
    cpus = {name: (cpu_seconds(pid) - used[name]) / seconds for name, pid in copy.pids.items()}
    accepted, refused = came.with_status(202), came.with_status(429, 503)
    latency = milliseconds(accepted)
    # Until the last was offered: what was still answered afterwards belongs to these seconds.
    span = max(choices.seconds, max((a.at + a.seconds for a in accepted), default=0.0))
    return {
        "load": load,
        "offered": round(len(came.answers) / choices.seconds, 1),
        "goodput": round(len(accepted) / span, 1),
        "stamped_per_s": round((copy.stamped() - stamped) / seconds, 1),
        "answers": came.counts(),
        "accept_p50_ms": latency["p50"],
        "accept_p90_ms": latency["p90"],
        "accept_p99_ms": latency["p99"],
        "refused_ms": milliseconds(refused),
        "retry_after": _spread(refused),
        "polls": {"answers": polls.counts()} | milliseconds(polls.with_status(200, 304)),
        "livez_ms": milliseconds(livez.with_status(200)),
        "web_cpu_ms_per_accept": _per(cpus["web"] * seconds * 1000, len(accepted)),
        "offering_cpus": round(came.cpu_seconds / came.seconds, 2),
        "cpus": {name: round(share, 2) for name, share in cpus.items()},
    }


def _per(spent: float, count: int) -> float | None:
    return round(spent / count, 2) if count else None


def _spread(refused: Sequence[offering.Answered]) -> dict[str, Any] | None:
    """Return how the times lie that the refused were told: their range, and how many there are."""
    told = sorted(a.retry_after for a in refused if a.retry_after is not None)
    if not told:
        return None
    middle = offering.percentile(told, 0.5)
    return {"without": len(refused) - len(told), "least": told[0], "p50": middle, "most": told[-1]}


def _drain(copy: Whole, patience: float) -> tuple[int, float]:
    """Wait until no more is stamped; return how many were in all, and the seconds it took."""
    began, stamped, changed = time.monotonic(), copy.stamped(), time.monotonic()
    while time.monotonic() < began + patience and time.monotonic() < changed + 5:
        time.sleep(0.5)
        now = copy.stamped()
        if now > stamped:
            stamped, changed = now, time.monotonic()
    return stamped, changed - began


def _most(offer: Offer) -> float:
    """Return how many of these requests a second are answered when each follows the last."""
    outcome = offering.make(offer)
    if len(answered := outcome.with_status(200, 202, 304)) < len(outcome.answers):
        raise SystemExit(f"not all answered: {outcome.counts()}")
    return len(answered) / outcome.seconds


def _get(port: int, paths: Sequence[str], *, headers: str = "", **asked: Any) -> Offer:
    return Offer(
        port=port,
        heads=[f"GET {path} HTTP/1.1\r\nHost: bench\r\n{headers}" for path in paths],
        **asked,
    )


def _post(port: int, path: str, choices: Choices, *, headers: str = "", **asked: Any) -> Offer:
    head = f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/pdf\r\n{headers}"
    return Offer(
        port=port,
        heads=[head],
        body_file=str(choices.document),
        seconds=choices.seconds,
        connections=choices.connections,
        **asked,
    )


def _submit(copy: Whole, choices: Choices, **asked: Any) -> Offer:
    return _post(
        copy.port,
        "/v1/jobs",
        choices,
        headers=f"Authorization: Bearer {copy.demo.live_key}\r\n",
        expects=choices.expects,
        obeys=choices.obeys,
        **asked,
    )


def _polls(copy: Whole, jobs: Sequence[str], **asked: Any) -> Offer:
    headers = f"Authorization: Bearer {copy.demo.live_key}\r\n"
    return _get(copy.port, [f"/v1/jobs/{job}" for job in jobs], headers=headers, **asked)


def _some_jobs(copy: Whole, document: bytes) -> list[str]:
    headers = {"Authorization": f"Bearer {copy.demo.live_key}", "Content-Type": "application/pdf"}
    with httpx.Client(headers=headers, timeout=30, trust_env=False) as client:
        answers = [client.post(f"{copy.url}/v1/jobs", content=document) for _ in range(POLLED)]
    return [str(answer.raise_for_status().json()["id"]) for answer in answers]


@contextmanager
def _hello() -> Iterator[int]:
    """Serve the bare app as the front end is served; yields its port."""
    port = free_port()
    process = subprocess.Popen(
        child(
            [
                *(sys.executable, "-m", "granian", "--interface", "wsgi"),
                *("--port", str(port), *SERVING, "tests.bench.hello:app"),
            ]
        ),
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                httpx.get(f"http://127.0.0.1:{port}/", trust_env=False)
                break
            except httpx.TransportError:
                if time.monotonic() > deadline:
                    raise SystemExit("the bare app does not answer") from None
                time.sleep(0.1)
        yield port
    finally:
        process.terminate()
        process.wait(20)


def main() -> None:
    """Print the figures, and with --json one JSON object as the last line."""
    parser = arguments.parser("intake", __doc__)
    parser.add_argument("--bytes", type=int, default=355_000, help="size of one (default 355000)")
    parser.add_argument("--seconds", type=float, default=6, help="of each load (default 6)")
    parser.add_argument("--connections", type=int, default=8, help="in turn (default 8)")
    parser.add_argument(
        "--loads", default="0.5,1,2,5", help="times the capacity (default 0.5,1,2,5)"
    )
    parser.add_argument("--expect", action="store_true", help="ask before sending the body")
    parser.add_argument("--obey", action="store_true", help="come back after Retry-After, once")
    parser.add_argument(
        "--patience", type=float, default=60, help="seconds for the rest to be stamped (default 60)"
    )
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        document = Path(folder) / "letter.pdf"
        document.write_bytes(sample_of(chosen.bytes) if chosen.bytes > 10_000 else sample_letter())
        choices = Choices(
            document=document,
            seconds=chosen.seconds,
            loads=[float(load) for load in chosen.loads.split(",")],
            connections=chosen.connections,
            expects=chosen.expect,
            obeys=chosen.obey,
            patience=chosen.patience,
        )
        with whole.running(Path(folder), quota=1_000_000) as copy:
            figures = measure(copy, choices)
    print(
        f"{figures['accepts_per_s']} accepts/s ({figures['accepts_share_of_hello']:.1%} of hello, "
        f"{figures['accepts_share_of_hello_with_document']:.1%} of a hello that reads the document), "
        f"{figures['polls_per_s']} polls/s ({figures['polls_share_of_hello']:.1%}), "
        f"{figures['hello_per_s']} hellos/s"
    )
    for step in figures["overload"]:
        print(
            f"{step['load']} x: offered {step['offered']}/s, accepted {step['goodput']}/s, stamped "
            f"{step['stamped_per_s']}/s, accepts p50 {step['accept_p50_ms']} p99 "
            f"{step['accept_p99_ms']} ms, web {step['web_cpu_ms_per_accept']} CPU ms each, "
            f"answers {step['answers']}, refusals p99 {step['refused_ms']['p99']} ms, "
            f"Retry-After {step['retry_after']}, polls p99 {step['polls']['p99']} ms, "
            f"/livez p99 {step['livez_ms']['p99']} ms"
        )
    print(f"{figures['stamped']} of {figures['accepted']} accepted are stamped")
    if chosen.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()

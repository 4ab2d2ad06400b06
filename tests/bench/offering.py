"""Offers requests to a server, in a process of its own: at a set rate whatever it answers, or in turn.

Open: a request goes out at its time, drawn beforehand, whether or not those before it were answered, as
requests of a crowd do; its latency counts from that time, so nothing that the server delays is left out.
In turn: so many connections each send the next request after the last answer, which finds how much a
server can do. Plain sockets, because a client library would take more of the processors than the server.
"""

import asyncio
import json
import random
import resource
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from deploy.servers import ROOT, child

# What a client does for that nobody answers.
PATIENCE_SECONDS = 20
_BROKEN = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What is offered to whom.

    Attributes:
        heads: request lines and headers of the requests, in turn; without Content-Length.
        body_file: sent with each of them; None: nothing.
        rate: requests a second, at random times; None: each connection in turn.
        seconds: how long.
        connections: at once, in turn; open, no more than this are kept for further requests.
        expects: asks before it sends the body (`Expect: 100-continue`).
        obeys: comes back once, after the time that `Retry-After` says, if the run is still on.
        seed: of the times.
    """

    port: int
    heads: Sequence[str]
    body_file: str | None = None
    rate: float | None = None
    seconds: float = 5.0
    connections: int = 8
    expects: bool = False
    obeys: bool = False
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Answered:
    """One answer: seconds from the start to the intended time, and from there to its end."""

    at: float
    status: int
    seconds: float
    retry_after: int | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """All answers, how long it took, and the CPU seconds of whoever offered."""

    answers: Sequence[Answered]
    seconds: float
    cpu_seconds: float

    def with_status(self, *statuses: int) -> list[Answered]:
        """Return the answers of these statuses."""
        return [answer for answer in self.answers if answer.status in statuses]

    def counts(self) -> dict[str, int]:
        """Return how many answers of each status came; `broken` are those that got none."""
        named = ("broken" if a.status == _BROKEN else str(a.status) for a in self.answers)
        return dict(sorted(Counter(named).items()))


def percentile(values: Sequence[float], share: float) -> float | None:
    """Return the value below which this share of the values lies; None of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None


def milliseconds(answers: Sequence[Answered]) -> dict[str, float | None]:
    """Return p50, p90 and p99 of the answers' latencies."""
    seconds = [answer.seconds for answer in answers]
    found = {f"p{share}": percentile(seconds, share / 100) for share in (50, 90, 99)}
    return {name: None if s is None else round(s * 1000, 1) for name, s in found.items()}


def start(offer: Offer) -> subprocess.Popen[str]:
    """Start offering, in a process of its own; `finish` returns what came of it."""
    return subprocess.Popen(
        child([sys.executable, "-m", "tests.bench.offering", json.dumps(asdict(offer))]),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> Outcome:
    """Wait until everything offered is answered."""
    output, _ = process.communicate()
    if process.returncode != 0:
        raise SystemExit("what offered requests ended early")
    told = json.loads(output)
    answers = [Answered(*answer) for answer in told["answers"]]
    return Outcome(answers, told["seconds"], told["cpu_seconds"])


def make(offer: Offer) -> Outcome:
    """Offer, and return what came of it."""
    return finish(start(offer))


class _Client:
    """The connections of one process, and what was answered over them."""

    def __init__(self, offer: Offer) -> None:
        self._offer = offer
        body = b"" if offer.body_file is None else Path(offer.body_file).read_bytes()
        expect = "Expect: 100-continue\r\n" if offer.expects else ""
        self._body = body
        self._heads = [
            f"{head}{expect}Content-Length: {len(body)}\r\n\r\n".encode() for head in offer.heads
        ]
        self._idle: list[socket.socket] = []
        self._loop = asyncio.get_running_loop()
        self._sent = 0
        self.answers: list[Answered] = []

    async def in_turn(self, began: float) -> None:
        async def one() -> None:
            while (now := time.perf_counter()) < began + self._offer.seconds:
                await self._request(began, now)

        await asyncio.gather(*(one() for _ in range(self._offer.connections)))

    async def at_times(self, began: float, times: Iterator[float]) -> None:
        tasks = set()
        for at in times:
            while (early := began + at - time.perf_counter()) > 0:
                await asyncio.sleep(early)
            task = asyncio.create_task(self._request(began, began + at))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        while tasks:
            await asyncio.wait(tasks)

    async def _request(self, began: float, intended: float) -> None:
        head = self._heads[self._sent % len(self._heads)]
        self._sent += 1
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                status, headers = await self._exchange(head)
        except (OSError, TimeoutError):
            status, headers = _BROKEN, {}
        after = headers.get(b"retry-after")
        wait = None if after is None or status < 400 else int(after)
        took = time.perf_counter() - intended
        self.answers.append(Answered(intended - began, status, took, wait))
        again = time.perf_counter() + (wait or 0)
        if self._offer.obeys and wait is not None and again < began + self._offer.seconds:
            await asyncio.sleep(wait)
            await self._request(began, again)

    async def _exchange(self, head: bytes) -> tuple[int, dict[bytes, bytes]]:
        """Send one request over an idle connection or a new one; returns its status and headers."""
        line = self._idle.pop() if self._idle else await self._connect()
        try:
            answer = await self._send(line, head)
            if answer is None:
                # A kept connection that the server had closed meanwhile.
                line.close()
                line = await self._connect()
                answer = await self._send(line, head)
        except BaseException:
            line.close()
            raise
        status, headers, whole = answer or (_BROKEN, {}, False)
        if (
            whole
            and headers.get(b"connection") != b"close"
            and (len(self._idle) < self._offer.connections)
        ):
            self._idle.append(line)
        else:
            line.close()
        return status, headers

    async def _connect(self) -> socket.socket:
        line = socket.socket()
        line.setblocking(False)
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            await self._loop.sock_connect(line, ("127.0.0.1", self._offer.port))
        except BaseException:
            line.close()
            raise
        return line

    async def _send(
        self, line: socket.socket, head: bytes
    ) -> tuple[int, dict[bytes, bytes], bool] | None:
        """Return status, headers, and whether the request went out whole; None for no answer."""
        whole = True
        try:
            if self._offer.expects:
                await self._loop.sock_sendall(line, head)
                answer = await self._receive(line)
                if answer is None or answer[0] != 100:
                    return None if answer is None else (*answer, False)
                await self._loop.sock_sendall(line, self._body)
            else:
                await self._loop.sock_sendall(line, head + self._body)
        except (BrokenPipeError, ConnectionResetError):
            # As clients do: a server may answer and close before it has read everything.
            whole = False
        try:
            answer = await self._receive(line)
        except ConnectionResetError:
            answer = None
        return None if answer is None else (*answer, whole)

    async def _receive(self, line: socket.socket) -> tuple[int, dict[bytes, bytes]] | None:
        """Return the next answer's status and headers, once its body is there; None: closed."""
        read = b""
        while (end := read.find(b"\r\n\r\n")) < 0:
            more = await self._loop.sock_recv(line, 65536)
            if not more:
                return None
            read += more
        first, *lines = read[:end].split(b"\r\n")
        pairs = (one.partition(b":") for one in lines)
        headers = {name.lower(): value.strip().lower() for name, _, value in pairs}
        missing = int(headers.get(b"content-length", b"0")) - (len(read) - end - 4)
        while missing > 0:
            more = await self._loop.sock_recv(line, 65536)
            if not more:
                return None
            missing -= len(more)
        return int(first.split()[1]), headers


def _times(offer: Offer, rate: float) -> Iterator[float]:
    """Yield the seconds at which requests of a crowd come: a Poisson process."""
    draw = random.Random(offer.seed)
    at = draw.expovariate(rate)
    while at < offer.seconds:
        yield at
        at += draw.expovariate(rate)


async def _offer(offer: Offer) -> dict[str, Any]:
    client = _Client(offer)
    began = time.perf_counter()
    if offer.rate is None:
        await client.in_turn(began)
    else:
        await client.at_times(began, _times(offer, offer.rate))
    seconds = time.perf_counter() - began
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "answers": [(a.at, a.status, a.seconds, a.retry_after) for a in client.answers],
        "seconds": seconds,
        "cpu_seconds": used.ru_utime + used.ru_stime,
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_offer(Offer(**json.loads(sys.argv[1]))))))

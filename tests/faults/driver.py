"""The clients: letters submitted by several threads, each with its key until it is answered.

Exactly as a good client does: whatever is no clear answer (a lost connection, 409 `in use`, 429, 5xx)
is asked again with the same key. Every 202 is remembered; the judge holds the service to it.
"""

import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import Any

import httpx
import orjson

from deploy.sample import sample_letter
from tests.faults.steps import DEADLY

CORNERS = ("bottom-right", "bottom-left", "top-right")
# Longer than any fault and what comes after it; a letter that nobody takes by then is an error.
GIVE_UP_SECONDS = 180
ANSWER_SECONDS = 10.0
AGAIN = frozenset({409, 429, 500, 502, 503, 504})


class Kind(StrEnum):
    """What a letter is there for."""

    PLAIN = "plain"
    TEST = "test"
    BAD = "bad"
    DEADLY = "deadly"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Letter:
    """One document and how it is to be submitted; `key` names it everywhere."""

    key: str
    kind: Kind = Kind.PLAIN
    stamps: int = 1

    @property
    def document(self) -> bytes:
        """Return the letter, different from every other."""
        word = DEADLY if self.kind is Kind.DEADLY else b""
        return sample_letter() + b"%%%s %s\n" % (self.key.encode(), word)

    @property
    def fields(self) -> dict[str, str]:
        """Return the fields that go with it."""
        fields = {"external_reference": self.key}
        if self.kind is Kind.BAD:
            return fields | {"page": "99"}
        if self.stamps > 1:
            stamps = [{"page": "last", "position": each} for each in CORNERS[: self.stamps]]
            return fields | {"stamps": orjson.dumps(stamps).decode()}
        return fields


@dataclass(frozen=True, slots=True)
class Accepted:
    """A promise: what a 202 said."""

    letter: Letter
    job_id: str
    serials: tuple[str, ...]
    receipt: str


def plain_letters(name: str, count: int) -> list[Letter]:
    """Return letters of one scenario that are all to be stamped."""
    return [Letter(f"{name}-{number}") for number in range(count)]


def mixed_letters(name: str, count: int, random: Random) -> Iterator[Letter]:
    """Return letters of every kind, most of them plain."""
    kinds, weights = list(Kind), (80, 10, 5, 0.5, 4.5)
    for number in range(count):
        kind = random.choices(kinds, weights)[0]
        stamps = random.choice((1, 1, 1, 1, 1, 2, 3))
        yield Letter(f"{name}-{number}", kind, 1 if kind is Kind.BAD else stamps)


class Driver:
    """Submits letters; what it was promised stays over several rounds."""

    def __init__(self, address: str, *, live: dict[str, str], test: dict[str, str]) -> None:
        """Take where to submit, and the headers of both modes."""
        self._address = address
        self._headers = {True: live, False: test}
        self._lock = threading.Lock()
        self.accepted: dict[str, Accepted] = {}
        self.wrong: list[str] = []
        # How often each status was answered; 0 stands for no answer at all.
        self.answers: Counter[int] = Counter()
        self.last_accepted_at = 0.0
        self._threads: list[threading.Thread] = []

    def start(self, letters: Iterable[Letter], *, threads: int = 4, pause: float = 0) -> None:
        """Begin to submit; `pause` is how many seconds a thread rests after each letter."""
        waiting = iter(letters)

        def work() -> None:
            with httpx.Client(timeout=ANSWER_SECONDS, trust_env=False) as client:
                while True:
                    with self._lock:
                        letter = next(waiting, None)
                    if letter is None:
                        return
                    self._submit(client, letter)
                    time.sleep(pause)

        self._threads = [threading.Thread(target=work, daemon=True) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    @property
    def busy(self) -> bool:
        """Say whether letters are still being submitted."""
        return any(thread.is_alive() for thread in self._threads)

    def headers(self, letter: Letter) -> dict[str, str]:
        """Return the headers that a letter is submitted with."""
        mode = self._headers[letter.kind is not Kind.TEST]
        return mode | {"Content-Type": "application/pdf", "Idempotency-Key": letter.key}

    def send(self, client: httpx.Client, letter: Letter) -> httpx.Response:
        """Send a letter once."""
        return client.post(
            f"{self._address}/v1/jobs",
            content=letter.document,
            params=letter.fields,
            headers=self.headers(letter),
        )

    def _submit(self, client: httpx.Client, letter: Letter) -> None:
        answer = self._until_answered(lambda: self.send(client, letter))
        if answer is None or answer.status_code != 202:
            said = "nobody took it" if answer is None else answer.text
            with self._lock:
                self.wrong.append(f"{letter.key}: {said}")
            return
        job: dict[str, Any] = answer.json()
        serials = tuple(stamp["serial"] for stamp in job["stamps"])
        with self._lock:
            self.accepted[letter.key] = Accepted(letter, job["id"], serials, job["receipt"])
            self.last_accepted_at = time.monotonic()
        if letter.kind is Kind.CANCELLED:
            cancel = f"{self._address}/v1/jobs/{job['id']}/cancel"
            headers = self._headers[True]
            self._until_answered(
                lambda: client.post(cancel, headers=headers), again={500, 502, 503}
            )

    def _until_answered(
        self, ask: Any, *, again: frozenset[int] | set[int] = AGAIN
    ) -> httpx.Response | None:
        deadline = time.monotonic() + GIVE_UP_SECONDS
        while time.monotonic() < deadline:
            try:
                answer: httpx.Response = ask()
            except httpx.TransportError:
                with self._lock:
                    self.answers[0] += 1
                time.sleep(0.2)
                continue
            with self._lock:
                self.answers[answer.status_code] += 1
                if answer.status_code == 503 and "Retry-After" not in answer.headers:
                    self.wrong.append(f"503 without Retry-After: {answer.text}")
            if answer.status_code not in again:
                return answer
            time.sleep(min(1.0, float(answer.headers.get("Retry-After", 0.5))))
        return None

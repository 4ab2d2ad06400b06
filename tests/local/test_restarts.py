"""A copy stays up: whatever of it is killed comes back, and no job is lost or stamped twice."""

import json
import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import httpx
import pytest

from deploy.firststart import read_demo
from deploy.processes import descendants
from tests.local.conftest import Running, Start, gone, stampede
from tests.stack import eventually

PARTS = ("web", "stamp", "courier", "check", "upkeep", "beat", "flower", "PostgreSQL", "Valkey")


def pids(running: Running) -> dict[str, int]:
    """Return the parts' processes, as the copy last said."""
    said = running.said()
    first = re.findall(r"^ {4}(\S+) +pid (\d+)", said, re.MULTILINE)
    later = re.findall(r"^(\S+) .*; started again as pid (\d+)", said, re.MULTILINE)
    return {name: int(pid) for name, pid in (*first, *later)}


def kill(running: Running, name: str) -> None:
    """Kill a part, and wait until the copy says that it runs again."""
    before = pids(running)[name]
    os.kill(before, signal.SIGKILL)
    eventually(lambda: pids(running)[name] != before, seconds=60)


@contextmanager
def submitting(running: Running, letter: bytes) -> Iterator[list[str]]:
    """Submit letters one after the other, as a portal does: what gets no answer is sent again."""
    keys = read_demo(running.data)
    assert keys is not None
    accepted: list[str] = []
    done = threading.Event()

    def work() -> None:
        with httpx.Client(base_url=running.url, timeout=30, trust_env=False) as client:
            for number in range(10_000):
                headers = {
                    "Authorization": f"Bearer {keys.live_key}",
                    "Content-Type": "application/pdf",
                    "Idempotency-Key": f"letter-{number}",
                }
                while not done.is_set():
                    try:
                        answer = client.post("/v1/jobs", content=letter, headers=headers)
                    except httpx.TransportError:
                        time.sleep(0.1)
                        continue
                    if answer.status_code in (200, 202):
                        accepted.append(answer.json()["id"])
                        break
                    assert answer.status_code >= 500, answer.text
                    time.sleep(0.1)
                if done.wait(0.1):
                    return

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield accepted
    finally:
        done.set()
        thread.join()


def more_than(accepted: list[str], number: int) -> bool:
    return len(accepted) > number


def stamped(client: httpx.Client, job: str) -> bool:
    return bool(client.get(f"/v1/jobs/{job}").json()["state"] == "stamped")


@pytest.mark.timeout(420)
def test_each_part_is_killed_in_turn_and_every_job_is_stamped(
    start: Start, letter: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What a killed worker held is taken up again after these.
    monkeypatch.setenv("STAMPEDE_LEASE_SECONDS", "10")
    monkeypatch.setenv("STAMPEDE_REPUBLISH_SECONDS", "5")
    running = start().wait_ready()
    first = pids(running)
    assert set(first) == set(PARTS)
    with submitting(running, letter) as accepted:
        for name in PARTS:
            eventually(lambda: accepted, seconds=60)
            kill(running, name)
            eventually(partial(more_than, accepted, len(accepted) + 4), seconds=60)
    assert running.process.poll() is None
    assert all(pids(running)[name] != first[name] for name in PARTS)
    assert running.said().count("was killed by SIGKILL; started again as pid") == len(PARTS)

    keys = read_demo(running.data)
    assert keys is not None
    headers = {"Authorization": f"Bearer {keys.live_key}"}
    with httpx.Client(base_url=running.url, headers=headers, timeout=30, trust_env=False) as client:
        for job in accepted:
            eventually(partial(stamped, client, job), seconds=90)
        assert client.get("/v1/quota").json()["captured"] == len(set(accepted))
    audited = stampede(running.data, "audit", "--json")
    assert json.loads(audited.stdout)["violations"] == []
    assert running.end() == 0
    assert gone(running.data)


def test_what_was_killed_leaves_nothing_behind_and_what_is_frozen_is_left_alone(
    start: Start,
) -> None:
    """The pool of a Celery worker, the server of granian: neither works on without its parent."""
    running = start().wait_ready()
    before = pids(running)
    os.kill(before["flower"], signal.SIGSTOP)
    for name in ("web", "stamp", "check"):
        children = descendants(before[name])
        assert children
        kill(running, name)
        assert not [pid for pid in children if Path(f"/proc/{pid}/exe").exists()]
    eventually(lambda: answers(running), seconds=30)
    untouched = set(PARTS) - {"web", "stamp", "check"}
    assert {name: pids(running)[name] for name in untouched} == {n: before[n] for n in untouched}
    os.kill(before["flower"], signal.SIGCONT)
    assert running.end() == 0


def answers(running: Running) -> bool:
    try:
        return httpx.get(f"{running.url}/readyz", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def test_what_does_not_stay_up_ends_the_copy_with_one_sentence(start: Start) -> None:
    running = start().wait_ready()
    for _ in range(4):
        kill(running, "beat")
    os.kill(pids(running)["beat"], signal.SIGKILL)
    assert running.process.wait(90) == 1
    assert "beat was killed by SIGKILL, 5 times within 60 s; its log is" in running.said()
    assert "Traceback" not in running.said()
    assert gone(running.data)

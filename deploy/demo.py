"""The demo: submits the sample letter to the running copy, watches it, saves and verifies the result."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx

from common.codes import PublishedKeys
from deploy import qr
from deploy.firststart import Demo
from workers.checking import check

WAIT_SECONDS = 120
FINAL = ("stamped", "failed", "cancelled")


class DemoError(RuntimeError):
    """The demo did not come through; the text is one sentence for people."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the demo went; `seconds` is from the submission to the end of the job."""

    job: str
    state: str
    seconds: float
    document: str
    signature: dict[str, Any]
    qr: str

    def as_json(self) -> dict[str, Any]:
        """Return the outcome as JSON values."""
        return asdict(self)


def run_demo(
    *,
    url: str,
    keys: Demo,
    letter: bytes,
    output: Path | None,
    trust_roots_pem: bytes,
    code_keys: PublishedKeys,
    say: Callable[[str], None],
) -> Outcome:
    """Take one letter all the way.

    Args:
        url: the running copy's address.
        keys: the demo partner's; the test key is used.
        letter: the document.
        output: where to save the stamped file; `stamped-<job>.pdf` here when not given.
        trust_roots_pem: the root to check the signature against.
        code_keys: the keys to check the QR code against.
        say: tells about progress.

    Raises:
        DemoError: nothing answers there, the job failed, or the result does not verify.
    """
    headers = {"Authorization": f"Bearer {keys.test_key}"}
    with httpx.Client(headers=headers, timeout=10, trust_env=False) as client:
        try:
            answer = client.post(f"{url}/v1/jobs", files={"document": ("letter.pdf", letter)})
        except httpx.TransportError as error:
            raise DemoError(f"nothing answers at {url}; start it with 'make up'") from error
        started = time.monotonic()
        if answer.status_code != 202:
            raise DemoError(f"the letter was refused: {answer.text}")
        job = answer.json()
        say(f"accepted   {job['id']}, position {job['position']}, serial {job['serial']}")
        say(f"           watch it: {job['links']['status_page']}")
        done = _follow(client, job, say)
        seconds = time.monotonic() - started
        if done["state"] != "stamped":
            raise DemoError(f"the job ended as {done['state']}: {done['problem']}")
        stamped = client.get(done["links"]["document"]).content
    place = output or Path(f"stamped-{job['id']}.pdf")
    place.write_bytes(stamped)
    say(f"saved      {place} ({len(stamped)} bytes)")
    (signature,) = check(stamped, trust_roots_pem=trust_roots_pem).signatures
    facts = {"intact": signature.intact, "trusted": signature.trusted, "level": signature.level}
    say(
        f"signature  intact: {signature.intact}, trusted: {signature.trusted},"
        f" level: {signature.level}, over the whole file: {signature.whole_file}"
    )
    code = _code_of(place, code_keys)
    say(f"QR code    {code.text}")
    say(f"           genuine: {code.genuine}, of this document: {code.matches_document}")
    if not (signature.intact and signature.trusted and signature.whole_file):
        raise DemoError("the stamped file does not verify")
    if not code.good:
        raise DemoError("the QR code does not verify")
    if signature.serial != job["serial"] or job["serial"] != code.serial:
        raise DemoError("the stamped file carries another serial than the job's")
    return Outcome(job["id"], done["state"], round(seconds, 3), str(place), facts, code.text)


def _code_of(stamped: Path, keys: PublishedKeys) -> qr.CheckedCode:
    try:
        return qr.check(str(stamped), keys).codes[0]
    except qr.UnreadableError as error:
        raise DemoError(f"the stamped file: {error}") from error


def _follow(
    client: httpx.Client, job: dict[str, Any], say: Callable[[str], None]
) -> dict[str, Any]:
    """Ask until the job has ended, telling each state once."""
    deadline = time.monotonic() + WAIT_SECONDS
    told = "queued"
    while time.monotonic() < deadline:
        answer = client.get(job["links"]["self"])
        seen: dict[str, Any] = answer.json()
        if seen["state"] != told:
            told = seen["state"]
            say(f"{told:<10} after {seen['attempts']} attempt(s)")
        if told in FINAL:
            return seen
        time.sleep(float(answer.headers["Retry-After"]))
    raise DemoError(f"the job is still {told} after {WAIT_SECONDS} s; are the workers running?")

"""The main job through real processes: submitted over HTTP, stamped by a worker, fetched, verified."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pypdfium2
import pytest
import zxingcpp

from common import codes
from tests.stack import Account, eventually
from workers.checking import check

FINAL = {"stamped", "failed", "cancelled"}


def submit(server: str, headers: dict[str, str], document: bytes, **fields: Any) -> dict[str, Any]:
    response = httpx.post(
        f"{server}/v1/jobs",
        params=fields,
        content=document,
        headers=headers | {"Content-Type": "application/pdf"},
    )
    assert response.status_code == 202, response.text
    job: dict[str, Any] = response.json()
    return job


def ended(job: dict[str, Any], headers: dict[str, str]) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        seen: dict[str, Any] = httpx.get(job["links"]["self"], headers=headers).json()
        return seen if seen["state"] in FINAL else None

    return eventually(look)


@pytest.fixture(scope="module", autouse=True)
def _running(server: str, workers: Path) -> None:
    """Every test of this file needs the front end and the workers."""


def test_a_letter_comes_back_stamped_signed_and_scannable(
    server: str, account: Account, letter: bytes, root_certificate: bytes
) -> None:
    job = submit(server, account.live, letter, page=1, corner="bottom-right")
    done = ended(job, account.live)
    assert done["state"] == "stamped"
    assert done["attempts"] == 1
    assert done["serial"] == job["serial"]

    fetched = httpx.get(done["links"]["document"], headers=account.live)
    stamped = fetched.content
    assert fetched.headers["Content-Type"] == "application/pdf"
    assert fetched.headers["Content-Disposition"].startswith("attachment")
    assert stamped.startswith(letter)
    assert hashlib.sha256(stamped).hexdigest() == done["stamped"]["sha256"]

    (signature,) = check(stamped, trust_roots_pem=root_certificate).signatures
    assert signature.intact
    assert signature.trusted
    assert signature.whole_file
    assert signature.level == "B-B"
    assert signature.serial == job["serial"]

    pdf = pypdfium2.PdfDocument(stamped)
    pdf.init_forms()
    (code,) = zxingcpp.read_barcodes(pdf[0].render(scale=150 / 72).to_pil())
    assert code.text.startswith(f"{server}/v/{job['serial']}/".upper())
    token = codes.read(code.text)
    assert token.document_sha256_start == hashlib.sha256(letter).digest()[: codes.HASH_BYTES]
    published = codes.PublishedKeys(httpx.get(f"{server}/.well-known/jwks.json").content)
    assert published.signed(token)
    assert "Kode ini asli" in httpx.get(code.text).text

    facts = httpx.get(f"{server}/v1/serials/{job['serial']}").json()
    assert facts["state"] == "affixed"
    assert facts["document_sha256"] == done["stamped"]["sha256"]
    quota = httpx.get(f"{server}/v1/quota", headers=account.live).json()
    assert (quota["available"], quota["held"], quota["captured"]) == (99, 0, 1)


def test_the_stamped_file_comes_in_parts_on_request(
    server: str, account: Account, letter: bytes
) -> None:
    url = ended(submit(server, account.test, letter), account.test)["links"]["document"]
    whole = httpx.get(url, headers=account.test)
    part = httpx.get(url, headers=account.test | {"Range": "bytes=100-199"})
    assert part.status_code == 206
    assert part.content == whole.content[100:200]
    assert part.headers["Content-Range"] == f"bytes 100-199/{len(whole.content)}"
    beyond = httpx.get(url, headers=account.test | {"Range": "bytes=99999999-"})
    assert beyond.status_code == 416
    same = httpx.get(url, headers=account.test | {"If-None-Match": whole.headers["ETag"]})
    assert same.status_code == 304


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"page": 99}, "page_out_of_range"),
        ({"page": 1, "x": 5000, "y": 10}, "box_off_page"),
        ({"page": 1, "x": 550, "y": 10, "width": 100}, "box_off_page"),
    ],
)
def test_a_placement_that_the_document_has_no_room_for_fails_and_costs_nothing(
    server: str, account: Account, letter: bytes, fields: dict[str, Any], code: str
) -> None:
    done = ended(submit(server, account.live, letter, **fields), account.live)
    assert done["state"] == "failed"
    assert done["problem"]["code"] == code
    assert done["problem"]["title"]
    quota = httpx.get(f"{server}/v1/quota", headers=account.live).json()
    assert (quota["available"], quota["held"], quota["captured"]) == (100, 0, 0)
    refused = httpx.get(f"{done['links']['self']}/document", headers=account.live)
    assert refused.status_code == 409


def without_pages(letter: bytes) -> bytes:
    """Return the letter with an empty page tree of the same length."""
    tree = b"<</Type/Pages/Kids[3 0 R]/Count 1>>"
    assert tree in letter
    return letter.replace(tree, b"<</Type/Pages/Kids[]/Count 0     >>")


def misplaced(letter: bytes) -> bytes:
    """Return the letter with a cross-reference that points beside every object, and one gone."""
    moved = letter.replace(b"%PDF-1.7\n", b"%PDF-1.7\n%moved by a few bytes\n")
    return moved.replace(b"4 0 obj", b"4 0 odj")


@pytest.mark.parametrize(
    ("spoil", "code"),
    [(without_pages, "document_no_pages"), (misplaced, "document_unreadable")],
)
def test_what_only_the_worker_can_know_ends_as_failed(
    server: str,
    account: Account,
    letter: bytes,
    spoil: Callable[[bytes], bytes],
    code: str,
) -> None:
    done = ended(submit(server, account.live, spoil(letter)), account.live)
    assert done["state"] == "failed"
    assert done["problem"]["code"] == code
    assert httpx.get(f"{server}/v1/quota", headers=account.live).json()["available"] == 100


def test_one_job_is_followed_through_the_logs_by_its_id(
    server: str, account: Account, letter: bytes, workers: Path
) -> None:
    job = submit(server, account.test, letter)
    ended(job, account.test)

    def lines() -> list[dict[str, Any]] | None:
        found = [
            json.loads(line)
            for line in (workers / "stamp.log").read_text().splitlines()
            if job["id"] in line and line.startswith("{")
        ]
        return found if any(line["event"] == "stamped" for line in found) else None

    said = [line["event"] for line in eventually(lines) if line.get("job_id") == job["id"]]
    assert "stamped" in said


def test_many_jobs_at_once_are_each_stamped_once(
    server: str, account: Account, letter: bytes
) -> None:
    jobs = [submit(server, account.live, letter) for _ in range(30)]
    done = [ended(job, account.live) for job in jobs]
    assert {job["state"] for job in done} == {"stamped"}
    assert len({job["serial"] for job in done}) == 30
    quota = httpx.get(f"{server}/v1/quota", headers=account.live).json()
    assert (quota["available"], quota["held"], quota["captured"]) == (70, 0, 30)

"""Checking a file over the API and on the pages, through a real worker with limits."""

import hashlib
import re
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pypdf
import pytest
from flask import Flask
from flask.testing import FlaskClient
from jsonschema_rs import validator_for
from werkzeug.test import TestResponse

from common import jobs, serials
from common.database import Database
from common.jobs import Result
from common.partners import Mode
from common.problems import PROBLEMS, Code
from common.settings import WebSettings
from deploy.sample import sample_of
from tests.issuer import Issuer
from tests.service.test_job_states import accept, claim, new_job, shown
from tests.service.test_stamping import ended, submit
from tests.stack import Account, eventually
from web.app import create_app

pytestmark = pytest.mark.usefixtures("checkers")
PDF = {"Content-Type": "application/pdf"}
Stamp = Callable[..., tuple[str, bytes]]


@pytest.fixture(scope="module")
def issuer(environment: dict[str, str]) -> Issuer:
    """An issuer that is no specimen, and that the check worker trusts."""
    made = Issuer.named("Penerbit Meterai")
    with Path(environment["STAMPEDE_TRUST_ROOTS_FILE"]).open("ab") as roots:
        roots.write(made.certificate)
    return made


@pytest.fixture
def stamp(db: Database, account: Account, issuer: Issuer, letter: bytes) -> Stamp:
    """Return a serial and the file that was stamped with it, as the database has it."""

    def stamp(mode: Mode = Mode.LIVE, *, recorded: bool = True) -> tuple[str, bytes]:
        job_id = accept(db, new_job(account, mode))
        serial = shown(db, job_id).serials[0]
        signed = issuer.sign(letter, f"[{serial}] Pembubuhan meterai")
        taken = claim(db, job_id)
        assert taken is not None
        if recorded:
            _finish(db, job_id, taken, hashlib.sha256(signed).digest())
        return serial, signed

    return stamp


def _finish(db: Database, job_id: UUID, taken: jobs.Claim, sha256: bytes) -> None:
    result = Result(key=f"tests/{job_id}.pdf", length=1, sha256=sha256)
    with db.transaction() as connection:
        assert jobs.finish(connection, taken, result)


def post(client: FlaskClient, account: Account, document: bytes) -> TestResponse:
    return client.post("/v1/verifications", data=document, headers=account.test | PDF)


def send(client: FlaskClient, path: str, document: bytes, **query: str) -> TestResponse:
    return client.post(
        path,
        data={"document": (BytesIO(document), "<i>surat.pdf")},
        query_string=query,
        headers={"Accept": "text/html"},
    )


def big(page: TestResponse) -> tuple[str, str]:
    """Return the colour of the answer and its headline."""
    found = re.search(r'class="state (\w+)".*?class="big">(.*?)</p>', page.text, re.DOTALL)
    assert found is not None
    return found[1], found[2]


def inbox(settings: WebSettings) -> list[Path]:
    return list((settings.data_dir / "objects" / "inbox").glob("*"))


@pytest.mark.usefixtures("workers")
def test_what_the_stack_stamped_is_known_and_called_a_specimen(
    server: str, account: Account, letter: bytes, app: Flask
) -> None:
    job = submit(server, account.live, letter)
    stamped = httpx.get(ended(job, account.live)["links"]["document"], headers=account.live).content
    answer = httpx.post(
        f"{server}/v1/verifications", files={"document": ("a.pdf", stamped)}, headers=account.test
    )
    assert answer.status_code == 200, answer.text
    found = answer.json()
    # A live serial, but the built-in certificate: worth nothing, and never green.
    assert (found["verdict"], found["colour"]) == ("specimen", "amber")
    assert (found["good"], found["known"]) == (True, True)
    assert found["document"] == {
        "bytes": len(stamped),
        "sha256": hashlib.sha256(stamped).hexdigest(),
    }
    (signature,) = found["signatures"]
    assert {name: signature[name] for name in ("intact", "trusted", "whole_file")} == {
        "intact": True,
        "trusted": True,
        "whole_file": True,
    }
    assert (signature["level"], signature["serial"]) == ("B-B", job["serial"])
    (serial,) = signature["serials"]
    assert (serial["serial"], serial["state"], serial["mode"]) == (job["serial"], "affixed", "live")
    assert serial["is_this_file"]
    assert signature["changes"] == "Nothing was changed after it."
    description = app.test_client().get("/openapi.json").json
    validator_for(
        {
            "$ref": "#/components/schemas/Verification",
            "components": description["components"],
        }
    ).validate(found)
    page = httpx.post(f"{server}/verify", files={"document": ("a.pdf", stamped)})
    assert "SPECIMEN: hanya contoh" in page.text
    assert "state warned" in page.text
    # The page of its serial says no less.
    assert '<div class="state warned">' in httpx.get(f"{server}/v/{job['serial']}").text


def test_a_genuine_stamp_is_the_green_one(
    client: FlaskClient, account: Account, stamp: Stamp
) -> None:
    serial, signed = stamp()
    found = post(client, account, signed).json
    assert (found["verdict"], found["colour"]) == ("stamped", "green")
    page = send(client, f"/v/{serial}", signed)
    assert page.status_code == 200
    assert big(page) == ("stamped", "Asli: meterainya sah dan dokumennya tidak berubah")
    assert "Genuine: the stamp is valid" in page.text, "in English below"
    assert "&lt;i&gt;surat.pdf" in page.text
    assert "Berkas ini tidak kami simpan." in page.text
    assert page.headers["Cache-Control"] == "no-store"
    english = send(client, f"/v/{serial}", signed, lang="en")
    assert big(english)[1] == "Genuine: the stamp is valid and the document is unchanged"
    assert "We do not keep this file." in english.text


def test_a_test_stamp_is_a_specimen(client: FlaskClient, stamp: Stamp) -> None:
    serial, signed = stamp(Mode.TEST)
    colour, said = big(send(client, f"/v/{serial}", signed))
    assert colour == "warned"
    assert said.startswith("SPECIMEN")


def test_the_file_of_another_serial_is_not_the_one(client: FlaskClient, stamp: Stamp) -> None:
    _, signed = stamp()
    other, _ = stamp()
    colour, said = big(send(client, f"/v/{other}", signed))
    assert (colour, said) == ("failed", "Bukan dokumen ini: berkasnya memuat nomor seri lain")


def test_a_page_that_was_changed_is_red(
    client: FlaskClient, account: Account, stamp: Stamp
) -> None:
    serial, signed = stamp()
    writer = pypdf.PdfWriter(BytesIO(signed), incremental=True)
    writer.pages[0].rotate(90)
    out = BytesIO()
    writer.write(out)
    found = post(client, account, out.getvalue()).json
    assert (found["verdict"], found["good"], found["known"]) == ("changed", False, False)
    assert found["signatures"][0]["changed_after"] == "other"
    assert big(send(client, f"/v/{serial}", out.getvalue()))[0] == "failed"


def test_a_forger_who_writes_our_serial_into_a_signature_is_found_out(
    client: FlaskClient, account: Account, stamp: Stamp, letter: bytes
) -> None:
    serial, _ = stamp()
    forged = Issuer.named("Penerbit Meterai").sign(letter, f"[{serial}] Pembubuhan meterai")
    found = post(client, account, forged).json
    assert (found["verdict"], found["colour"], found["known"]) == ("foreign", "red", False)
    assert found["signatures"][0]["serials"][0]["is_this_file"] is False


def test_a_serial_that_was_never_issued_or_never_affixed_is_not_taken_for_granted(
    client: FlaskClient, account: Account, stamp: Stamp, issuer: Issuer, letter: bytes
) -> None:
    invented = issuer.sign(letter, f"[{serials.generate(Mode.LIVE)}] x")
    assert post(client, account, invented).json["verdict"] == "serial_unknown"
    _, reserved = stamp(recorded=False)
    assert post(client, account, reserved).json["verdict"] == "serial_not_affixed"


def test_a_file_that_was_signed_again_is_genuine_but_not_the_one_we_handed_out(
    client: FlaskClient, account: Account, stamp: Stamp, issuer: Issuer
) -> None:
    _, signed = stamp()
    found = post(client, account, issuer.sign(signed, "seen", field="Second")).json
    assert (found["verdict"], found["colour"], found["good"]) == ("extended", "amber", True)


def test_an_unsigned_file_is_an_answer_and_not_an_error(
    client: FlaskClient, account: Account, letter: bytes, web_settings: WebSettings
) -> None:
    answer = post(client, account, letter)
    assert answer.status_code == 200
    assert (answer.json["verdict"], answer.json["signatures"]) == ("unsigned", [])
    assert answer.headers["Cache-Control"] == "no-store"
    assert big(send(client, "/verify", letter))[0] == "failed"
    eventually(lambda: inbox(web_settings) == [])


def encrypted(letter: bytes) -> bytes:
    writer = pypdf.PdfWriter(clone_from=BytesIO(letter))
    writer.encrypt("secret", algorithm="AES-256")
    out = BytesIO()
    writer.write(out)
    return out.getvalue()


@pytest.mark.parametrize(
    "spoil, code, advice",
    [
        (lambda letter: b"", Code.DOCUMENT_EMPTY, "Dokumen kosong"),
        (
            lambda letter: b"\x89PNG" + bytes(2000),
            Code.DOCUMENT_NOT_PDF,
            "minta berkas PDF aslinya",
        ),
        (
            lambda letter: letter + bytes(2 * 1024 * 1024),
            Code.DOCUMENT_TOO_LARGE,
            "Jangan perkecil",
        ),
        (encrypted, Code.DOCUMENT_ENCRYPTED, "Periksa di pembaca PDF"),
        (lambda letter: letter[:500], Code.DOCUMENT_UNREADABLE, "jangan mengekspor"),
    ],
    ids=["empty", "a picture", "too large", "encrypted", "cut short"],
)
def test_what_cannot_be_checked_says_why_to_programs_and_to_people(
    client: FlaskClient,
    account: Account,
    letter: bytes,
    web_settings: WebSettings,
    spoil: Callable[[bytes], bytes],
    code: Code,
    advice: str,
) -> None:
    document = spoil(letter)
    answer = post(client, account, document)
    assert (answer.status_code, answer.json["code"]) == (PROBLEMS[code].status, code)
    page = send(client, "/verify", document)
    assert page.status_code == PROBLEMS[code].status
    assert big(page) == ("failed", "Berkas ini tidak dapat diperiksa")
    assert advice in page.text, "what keeps the signature, not what makes a file easy to stamp"
    assert '<input id="document"' in page.text, "to try another one"
    assert inbox(web_settings) == []


def bomb(length: int) -> bytes:
    """A file of a few kilobytes whose cross-reference stream unpacks to this many bytes."""
    chunk = 16 * 1024 * 1024
    packer = zlib.compressobj(wbits=-15)
    block = packer.compress(bytes(chunk)) + packer.flush(zlib.Z_FULL_FLUSH)
    checksum = (length % 65521 << 16 | 1).to_bytes(4, "big")
    once = b"\x78\x9c" + block * (length // chunk) + b"\x03\x00" + checksum
    twice = zlib.compress(once)
    head = (
        b"1 0 obj\n<</Type/XRef/Size 9/W[1 2 1]/Root 2 0 R/Filter[/FlateDecode/FlateDecode]"
        b"/Length %d>>\nstream\n" % len(twice)
    )
    tail = b"\nendstream\nendobj\nstartxref\n9\n%%EOF\n"
    return b"%PDF-1.7\n" + head + twice + tail


def test_a_decompression_bomb_costs_its_sender_an_answer_and_us_nothing(
    client: FlaskClient, account: Account, letter: bytes
) -> None:
    answer = post(client, account, bomb(2 * 1024**3))
    assert (answer.status_code, answer.json["code"]) == (422, "document_unprocessable")
    assert post(client, account, letter).json["verdict"] == "unsigned", "the next one is served"


@pytest.mark.parametrize(
    "sent, code",
    [
        ({"data": {}, "content_type": "multipart/form-data"}, Code.DOCUMENT_MISSING),
        ({"data": b"%PDF-", "content_type": "text/plain"}, Code.CONTENT_TYPE_UNSUPPORTED),
        (
            {"data": b"%PDF-", "content_type": "application/pdf", "query_string": {"page": "1"}},
            Code.FIELD_UNKNOWN,
        ),
    ],
)
def test_requests_that_are_not_for_this_address(
    client: FlaskClient, account: Account, sent: dict[str, Any], code: Code
) -> None:
    answer = client.post("/v1/verifications", headers=account.test, **sent)
    assert (answer.status_code, answer.json["code"]) == (PROBLEMS[code].status, code)


def test_what_stamping_made_longer_than_the_limit_can_still_be_checked(
    client: FlaskClient, account: Account, web_settings: WebSettings
) -> None:
    longer = sample_of(web_settings.max_document_bytes + 20_000)
    assert client.post("/v1/jobs", data=longer, headers=account.test | PDF).status_code == 413
    assert post(client, account, longer).json["signatures"] == []
    assert send(client, "/verify", longer).status_code == 200


def test_the_api_wants_a_key_and_the_pages_do_not(client: FlaskClient, letter: bytes) -> None:
    answer = client.post("/v1/verifications", data=letter, headers=PDF)
    assert answer.json["code"] == "key_missing"
    assert send(client, "/verify", letter).status_code == 200


def test_when_no_worker_answers_people_are_told_that_it_is_not_their_file(
    web_settings: WebSettings, letter: bytes
) -> None:
    # On a broker database that no worker looks at.
    broker = web_settings.broker_url.rpartition("/")[0] + "/9"
    idle = create_app(
        web_settings.model_copy(update={"broker_url": broker, "answer_seconds": 0.2})
    ).test_client()
    page = send(idle, "/verify", letter)
    assert page.status_code == 503
    assert page.headers["Retry-After"]
    assert "Ini bukan kesalahan berkas Anda." in page.text
    assert inbox(web_settings) == []


def test_the_pages_offer_the_form_and_keep_the_language(client: FlaskClient, stamp: Stamp) -> None:
    serial, _ = stamp()
    for path, action in (("/verify", "/verify"), (f"/V/{serial}", f"/v/{serial}")):
        page = client.get(path, query_string={"lang": "en"}).text
        assert f'action="{action}?lang=en" method="post" enctype="multipart/form-data"' in page
        assert "is not kept" in page

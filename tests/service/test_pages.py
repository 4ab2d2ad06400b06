"""The pages as the server sends them: what they say, to whom, and what keeps them private."""

from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import pytest
from flask.testing import FlaskClient
from sqlalchemy import text

from common import jobs, serials
from common.database import Database
from common.documents import Documents
from common.jobs import Result
from common.links import StatusLinks
from common.pace import Pace
from common.partners import Mode
from common.problems import PROBLEMS, Code
from common.settings import WebSettings
from tests.service.test_job_states import accept, claim, give_back, new_job
from tests.stack import Account
from web.pages import CONTENT_SECURITY_POLICY
from web.pages.assets import address

HTML = {"Accept": "text/html"}


@pytest.fixture
def links(web_settings: WebSettings) -> StatusLinks:
    return StatusLinks(web_settings)


def path(links: StatusLinks, job_id: UUID) -> str:
    return urlsplit(links.url(job_id)).path


def stamp(
    db: Database, store: Documents, job_id: UUID, content: bytes, *, specimen: bool = False
) -> None:
    taken = claim(db, job_id)
    assert taken is not None
    key = f"tests/{job_id}.pdf"
    store.put(key, content)
    with db.transaction() as connection:
        assert jobs.finish(
            connection,
            taken,
            Result(key=key, length=len(content), sha256=b"r" * 32, specimen=specimen),
        )


def fail(db: Database, job_id: UUID, code: Code, **facts: Any) -> None:
    taken = claim(db, job_id)
    assert taken is not None
    with db.transaction() as connection:
        assert jobs.fail(connection, taken, code, facts)


def test_a_waiting_job_shows_what_was_sent_and_when_to_look_again(
    client: FlaskClient, db: Database, account: Account, links: StatusLinks
) -> None:
    job = replace(
        new_job(account), document_name="<b>letter</b>.pdf", external_reference="<i>7</i>"
    )
    accept(db, job)
    page = client.get(path(links, job.id), headers=HTML)
    assert page.status_code == 200
    assert "Menunggu giliran" in page.text
    assert "&lt;b&gt;letter&lt;/b&gt;.pdf" in page.text
    assert "&lt;i&gt;7&lt;/i&gt;" in page.text
    assert "<b>letter" not in page.text
    assert str(job.id) in page.text
    assert f'content="{page.headers["Retry-After"]}"></noscript>' in page.text
    assert "UJI COBA" not in page.text


def test_nothing_of_a_job_stays_in_a_cache_or_a_search_engine(
    client: FlaskClient, db: Database, store: Documents, account: Account, links: StatusLinks
) -> None:
    job_id = accept(db, new_job(account))
    stamp(db, store, job_id, b"%PDF-")
    page = path(links, job_id)
    for address_ in (page, f"{page}/live", f"{page}/document", f"{page}/receipt"):
        headers = client.get(address_).headers
        assert headers["Cache-Control"] == "private, no-store"
        assert headers["X-Robots-Tag"] == "noindex"
        assert headers["X-Content-Type-Options"] == "nosniff"


def test_the_moving_part_is_answered_by_304_until_something_moves(
    client: FlaskClient, db: Database, account: Account, links: StatusLinks
) -> None:
    job_id = accept(db, new_job(account))
    live = f"{path(links, job_id)}/live"
    first = client.get(live)
    again = client.get(live, headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    assert again.headers["Retry-After"]
    claim(db, job_id)
    moved = client.get(live, headers={"If-None-Match": first.headers["ETag"]})
    assert moved.status_code == 200
    assert "Sedang dibubuhi meterai" in moved.text


def test_the_stamped_file_comes_as_an_attachment_and_in_parts(
    client: FlaskClient, db: Database, store: Documents, account: Account, links: StatusLinks
) -> None:
    job_id = accept(db, new_job(account))
    page = path(links, job_id)
    early = client.get(f"{page}/document", headers=HTML)
    assert early.status_code == 409
    assert f'href="{page}"' in early.text, "the way back to the status"
    stamp(db, store, job_id, b"%PDF-0123456789")
    whole = client.get(f"{page}/document")
    assert whole.data == b"%PDF-0123456789"
    assert whole.mimetype == "application/pdf"
    assert whole.headers["Content-Disposition"].startswith("attachment")
    part = client.get(f"{page}/document", headers={"Range": "bytes=5-8"})
    assert (part.status_code, part.data) == (206, b"0123")


def test_the_receipt_is_an_attachment(
    client: FlaskClient, db: Database, account: Account, links: StatusLinks
) -> None:
    job_id = accept(db, new_job(account))
    receipt = client.get(f"{path(links, job_id)}/receipt")
    assert receipt.text == "a receipt"
    assert receipt.headers["Content-Disposition"] == f'attachment; filename="receipt-{job_id}.jws"'


def test_a_failed_job_says_why_what_to_do_and_that_the_quota_is_back(
    client: FlaskClient, db: Database, account: Account, links: StatusLinks
) -> None:
    job_id = accept(db, new_job(account))
    fail(db, job_id, Code.PAGE_OUT_OF_RANGE, page=9, pages=3)
    page = client.get(path(links, job_id)).text
    assert PROBLEMS[Code.PAGE_OUT_OF_RANGE].indonesian in page
    assert "Diminta halaman 9; dokumen ini memiliki 3 halaman." in page
    assert "pilih halaman atau letak lain" in page
    assert "Biaya yang disisihkan untuk dokumen ini sudah dikembalikan." in page
    assert "refresh" not in page.partition("</head>")[0], "nothing left to wait for"
    english = client.get(path(links, job_id) + "?lang=en").text
    assert "Page 9 was asked for; this document has 3." in english
    assert "What was set aside to pay for this document was given back." in english


def test_what_a_document_says_of_itself_is_shown_as_text(
    client: FlaskClient, db: Database, account: Account, links: StatusLinks
) -> None:
    job_id = accept(db, new_job(account))
    fail(db, job_id, Code.DOCUMENT_LOCKED, field="<script>alert(1)</script>")
    page = client.get(path(links, job_id)).text
    assert "&lt;script&gt;alert(1)" in page
    assert "<script>alert" not in page


def test_a_test_job_is_called_a_specimen_in_every_state(
    client: FlaskClient, db: Database, store: Documents, account: Account, links: StatusLinks
) -> None:
    queued, stamped, failed = (accept(db, new_job(account, Mode.TEST)) for _ in range(3))
    stamp(db, store, stamped, b"%PDF-")
    fail(db, failed, Code.DOCUMENT_NO_PAGES)
    for job_id in (queued, stamped, failed):
        page = client.get(path(links, job_id)).text
        assert "UJI COBA · SPECIMEN" in page
        assert "tidak berlaku sebagai bea meterai" in page
        assert "Kuota" not in page


def test_a_job_that_comes_back_promises_no_place(
    client: FlaskClient, db: Database, account: Account, links: StatusLinks, lane_pace: Pace
) -> None:
    lane_pace.recount("tests", queued=0, highest_ticket=5)
    job_id = accept(db, new_job(account))
    taken = claim(db, job_id)
    assert taken is not None
    give_back(db, taken, wait=600)
    page = client.get(path(links, job_id)).text
    assert "Menunggu dicoba lagi" in page
    assert "Urutan</dt>" not in page
    assert "belum diketahui" in page
    job = client.get(f"/v1/jobs/{job_id}", headers=account.live).json
    assert (job["state"], job["position"], job["seconds_left"]) == ("queued", None, None)


def test_a_link_that_we_never_made_is_a_page_not_found(client: FlaskClient) -> None:
    for link in ("/j/unknown", "/j/unknown/live", "/j/unknown/document", "/j/unknown/receipt"):
        answer = client.get(link, headers=HTML)
        assert answer.status_code == 404
        assert "Periksa apakah tautan disalin lengkap." in answer.text
        assert answer.headers["Cache-Control"] == "private, no-store"


def serial_of(db: Database, job_id: UUID, client: FlaskClient, links: StatusLinks) -> str:
    page = client.get(path(links, job_id)).text
    return page.partition('href="/v/')[2].partition('"')[0]


def test_a_serial_says_whether_it_stands_on_a_document(
    client: FlaskClient, db: Database, store: Documents, account: Account, links: StatusLinks
) -> None:
    reserved, affixed, void = (accept(db, new_job(account)) for _ in range(3))
    stamp(db, store, affixed, b"%PDF-")
    fail(db, void, Code.DOCUMENT_NO_PAGES)
    for job_id, said in (
        (reserved, "Dicadangkan, belum dibubuhkan"),
        (affixed, "Sudah dibubuhkan pada satu dokumen"),
        (void, "Dibatalkan: nomor seri ini tidak berlaku"),
    ):
        serial = serial_of(db, job_id, client, links)
        # The QR code's address is in capitals.
        page = client.get(f"/V/{serial}")
        assert page.status_code == 200
        assert said in page.text
        assert "letter.pdf" not in page.text, "nothing that names the owner's document"
        assert page.text == client.get(f"/v/{serial.lower()}").text
    facts = client.get(f"/v/{serial_of(db, affixed, client, links)}").text
    assert (b"r" * 32).hex() in facts
    assert "Buka panel tanda tangan." in facts


def test_a_test_serial_is_called_worthless_in_every_state(
    client: FlaskClient, db: Database, store: Documents, account: Account, links: StatusLinks
) -> None:
    reserved, affixed = (accept(db, new_job(account, Mode.TEST)) for _ in range(2))
    stamp(db, store, affixed, b"%PDF-")
    for job_id in (reserved, affixed):
        page = client.get(f"/v/{serial_of(db, job_id, client, links)}").text
        assert "UJI COBA · SPECIMEN" in page
        assert "tidak bernilai" in page


@pytest.mark.parametrize("recorded", [True, False])
def test_a_live_stamp_that_says_specimen_is_nowhere_green(
    client: FlaskClient,
    db: Database,
    store: Documents,
    account: Account,
    links: StatusLinks,
    recorded: bool,
) -> None:
    job_id = accept(db, new_job(account))
    stamp(db, store, job_id, b"%PDF-", specimen=True)
    if not recorded:
        # Stamped before this was recorded: then there was the built-in design only.
        with db.transaction() as connection:
            connection.execute(
                text("update jobs set specimen = null where id = :id"), {"id": job_id}
            )
    status = client.get(path(links, job_id)).text
    assert "<strong>SPECIMEN</strong>" in status
    serial = serial_of(db, job_id, client, links)
    page = client.get(f"/v/{serial}").text
    assert '<div class="state warned">' in page
    assert "state stamped" not in page
    assert "Dibubuhkan sebagai contoh, tanpa nilai" in page
    facts = client.get(f"/v1/serials/{serial}").json
    assert facts is not None
    assert (facts["mode"], facts["specimen"]) == ("live", True)


def test_a_serial_that_was_never_given_out_is_told_from_a_mistyped_one(
    client: FlaskClient,
) -> None:
    unknown = client.get(f"/v/{serials.generate(Mode.LIVE)}", headers=HTML)
    assert (unknown.status_code, "tidak pernah diterbitkan" in unknown.text) == (404, True)
    mistyped = client.get(f"/v/{serials.generate(Mode.LIVE)[:-1]}U", headers=HTML)
    assert (mistyped.status_code, "Periksa kembali salinannya" in mistyped.text) == (404, True)
    assert "bukan nomor seri kami" not in mistyped.text
    odd = client.get("/v/<b>", headers=HTML)
    assert (odd.status_code, "bukan nomor seri kami" in odd.text) == (404, True)
    assert "<b>" not in odd.text.lower()


def test_the_form_finds_a_pasted_address_and_keeps_the_language(client: FlaskClient) -> None:
    answer = client.get("/verify", query_string={"serial": "https://x/V/sabc-01?a=b", "lang": "en"})
    assert (answer.status_code, answer.headers["Location"]) == (303, "/v/SABC01?lang=en")


@pytest.mark.parametrize("page", ["/", "/docs", "/problems", "/verify", "/v/X", "/j/x", "/x"])
@pytest.mark.parametrize("query", ["", "endpoint=x&_scheme=http&_external=1&token=y&serial="])
def test_every_page_keeps_its_headers_and_its_temper(
    client: FlaskClient, page: str, query: str
) -> None:
    answer = client.get(f"{page}?{query}", headers=HTML)
    assert answer.status_code in {200, 404}
    assert answer.headers["Content-Security-Policy"] == CONTENT_SECURITY_POLICY
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert " style=" not in answer.text
    assert "<style" not in answer.text
    assert "<script>" not in answer.text
    assert '<html lang="id">' in answer.text
    assert 'href="?lang=en"' in answer.text


def test_every_problem_has_its_place_in_the_catalogue(client: FlaskClient) -> None:
    page = client.get("/problems").text
    for code, problem in PROBLEMS.items():
        assert f'id="{code}"' in page
        assert str(problem.status) in page


def test_the_description_is_readable_without_a_machine(client: FlaskClient) -> None:
    page = client.get("/docs").text
    description = client.get("/openapi.json").json or {}
    for methods in description["paths"].values():
        for operation in methods.values():
            assert f'id="{operation["operationId"]}"' in page
    assert "curl" in page
    assert "<script" not in page


def test_a_wrong_method_is_answered_in_plain_words(client: FlaskClient) -> None:
    answer = client.post("/problems", headers=HTML)
    assert answer.status_code == 405
    assert "GET" in answer.headers["Allow"]
    assert "bukan dengan mengirim formulir" in answer.text


def test_style_and_script_are_kept_for_good_in_their_version_only(client: FlaskClient) -> None:
    with client.application.test_request_context():
        present = address("stampede.css")
    assert "immutable" in client.get(present).headers["Cache-Control"]
    assert "no-cache" in client.get("/static/stampede.css?v=old").headers["Cache-Control"]
    assert client.get("/static/../__init__.py").status_code == 404

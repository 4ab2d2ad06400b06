"""What a person sees: the pages in Chromium, on a phone and on a desk, with and without scripts."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, Route, ViewportSize, expect, sync_playwright

from common import jobs
from common.database import Database
from common.links import StatusLinks
from common.settings import WebSettings
from tests.service.test_job_states import accept, new_job
from tests.stack import Account
from workers.checking import check

pytestmark = pytest.mark.system

PHONE: ViewportSize = {"width": 360, "height": 740}
NARROW: ViewportSize = {"width": 320, "height": 568}
DESK: ViewportSize = {"width": 1280, "height": 800}
# Chromium would otherwise look for its own servers, which tests have no business with.
QUIET = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(
            executable_path=os.environ.get("CHROMIUM", "/usr/bin/chromium"), args=list(QUIET)
        )
        yield opened
        opened.close()


def submit(server: str, account: Account, letter: bytes, **fields: Any) -> dict[str, Any]:
    answer = httpx.post(
        f"{server}/v1/jobs",
        params={"document_name": "surat lamaran.pdf"} | fields,
        content=letter,
        headers=account.live | {"Content-Type": "application/pdf"},
    )
    assert answer.status_code == 202, answer.text
    job: dict[str, Any] = answer.json()
    return job


def no_sideways_scrolling(page: Page) -> bool:
    return bool(
        page.evaluate(
            "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
        )
    )


def test_a_waiting_applicant_sees_the_job_finish_without_touching_the_page(
    browser: Browser,
    server: str,
    account: Account,
    letter: bytes,
    root_certificate: bytes,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    job = submit(server, account, letter)
    page = browser.new_page(viewport=PHONE)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
    page.goto(job["links"]["status_page"])
    # The workers start only now, so that the job is seen waiting.
    request.getfixturevalue("workers")
    expect(page.locator(".state.stamped")).to_be_visible(timeout=30_000)
    said = "Selesai: dokumen bermeterai siap diunduh"
    expect(page.locator(".big")).to_have_text(said)
    # Told to a screen reader, and seen on the tab of somebody who looks elsewhere.
    expect(page.locator("#said")).to_have_text(said)
    expect(page).to_have_title(f"{said} · surat lamaran.pdf")
    assert no_sideways_scrolling(page)
    with page.expect_download() as download:
        page.get_by_role("link", name="Unduh dokumen bermeterai").click()
    assert download.value.suggested_filename == "surat lamaran-stamped.pdf"
    download.value.save_as(tmp_path / "stamped.pdf")
    stamped = (tmp_path / "stamped.pdf").read_bytes()
    # In a thread of its own: pyHanko and Playwright each want the event loop.
    with ThreadPoolExecutor() as thread:
        checked = thread.submit(check, stamped, trust_roots_pem=root_certificate).result()
    assert checked.good
    with page.expect_download() as proof:
        page.get_by_role("link", name="Unduh bukti penerimaan").click()
    proof.value.save_as(tmp_path / "receipt.jws")
    assert (tmp_path / "receipt.jws").read_text() == job["receipt"]
    assert errors == []
    page.close()


@pytest.mark.usefixtures("workers")
def test_without_scripts_the_page_reloads_itself_until_the_end(
    browser: Browser, server: str, account: Account, letter: bytes
) -> None:
    job = submit(server, account, letter)
    context = browser.new_context(java_script_enabled=False, viewport=NARROW)
    page = context.new_page()
    page.goto(job["links"]["status_page"])
    expect(page.locator(".state.stamped")).to_be_visible(timeout=30_000)
    assert page.locator("meta[http-equiv=refresh]").count() == 0, "nothing left to wait for"
    assert no_sideways_scrolling(page)
    with page.expect_download() as download:
        page.get_by_role("link", name="Unduh dokumen bermeterai").click()
    assert Path(download.value.path()).read_bytes().startswith(b"%PDF-")
    context.close()


@pytest.mark.usefixtures("workers")
def test_a_failed_job_says_why_in_the_language_asked_for(
    browser: Browser, server: str, account: Account, letter: bytes
) -> None:
    job = submit(server, account, letter, page=9)
    page = browser.new_page(viewport=DESK)
    page.goto(job["links"]["status_page"])
    expect(page.locator(".state.failed")).to_be_visible(timeout=30_000)
    expect(page.get_by_text("Dokumen tidak memiliki halaman dengan nomor ini.")).to_be_visible()
    expect(
        page.get_by_text("Biaya yang disisihkan untuk dokumen ini sudah dikembalikan.")
    ).to_be_visible()
    page.get_by_role("link", name="English").click()
    expect(page.get_by_text("The document has no page of this number.")).to_be_visible()
    assert page.locator("html").get_attribute("lang") == "en"
    page.close()


def test_a_waiting_page_says_its_place_and_survives_a_lost_connection(
    browser: Browser, server: str, account: Account, db: Database, web_settings: WebSettings
) -> None:
    # In a lane that no worker serves, so that it waits as long as the test looks.
    job_id = accept(db, new_job(account))
    page = browser.new_page(viewport=PHONE)
    page.route("**/live*", lambda route: route.abort())
    page.goto(StatusLinks(web_settings).url(job_id))
    expect(page.get_by_text("Menunggu giliran")).to_be_visible()
    expect(page.get_by_text("Anda boleh menutup halaman ini.")).to_be_visible()
    expect(page.locator(".facts dd").first).to_have_text("1")
    expect(page.locator("#offline")).to_be_visible(timeout=15_000)
    page.unroute("**/live*")
    expect(page.locator("#offline")).to_be_hidden(timeout=30_000)
    with db.transaction() as connection:
        jobs.cancel(connection, account_id=account.id(), job_id=job_id)
    expect(page.locator(".state.cancelled")).to_be_visible(timeout=30_000)
    page.close()


def test_the_script_asks_when_the_server_says_and_seldom_in_the_background(
    browser: Browser, server: str, account: Account, db: Database, web_settings: WebSettings
) -> None:
    job_id = accept(db, new_job(account))
    page = browser.new_page(viewport=PHONE)
    status, retry_after = 304, "10"
    asked: list[str] = []

    def answer(route: Route) -> None:
        asked.append(route.request.url)
        route.fulfill(status=status, headers={"Retry-After": retry_after})

    def seconds_until_it_asks() -> int:
        """Let time pass in the page, second by second, until it asks the server."""
        before = len(asked)
        for second in range(1, 100):
            page.clock.run_for(1000)
            if len(asked) > before:
                return second
        raise AssertionError("it did not ask at all")

    page.clock.install()
    page.route("**/live*", answer)
    page.goto(StatusLinks(web_settings).url(job_id))
    seconds_until_it_asks()
    assert 9 <= seconds_until_it_asks() <= 14
    page.evaluate("Object.defineProperty(document, 'hidden', {value: true, configurable: true})")
    seconds_until_it_asks()
    assert 39 <= seconds_until_it_asks() <= 44, "four times less often"
    page.evaluate("delete document.hidden")
    status, retry_after = 503, "50"
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    seconds_until_it_asks()
    assert 49 <= seconds_until_it_asks() <= 54, "a service that asks for rest gets it"
    expect(page.locator("#offline")).to_be_visible()
    page.close()


@pytest.mark.parametrize("viewport", [NARROW, DESK], ids=["narrow", "desk"])
def test_every_page_fits_the_screen_and_keeps_the_policy(
    browser: Browser, server: str, viewport: ViewportSize
) -> None:
    page = browser.new_page(viewport=viewport)
    broken: list[str] = []
    page.on("console", lambda said: broken.append(said.text) if "Policy" in said.text else None)
    for path in ("/", "/docs", "/problems", "/verify", "/v/T", "/nothing", "/j/unknown?lang=en"):
        page.goto(f"{server}{path}")
        assert page.locator("h1").count() == 1, path
        assert no_sideways_scrolling(page), path
    assert broken == []
    page.close()


def test_a_serial_is_looked_up_by_typing_it(
    browser: Browser, server: str, account: Account, letter: bytes
) -> None:
    serial = submit(server, account, letter)["serial"]
    page = browser.new_page(viewport=PHONE)
    page.goto(f"{server}/")
    page.get_by_label("Nomor seri").fill(f" {serial.lower()} ")
    page.get_by_role("button", name="Periksa").click()
    expect(page.get_by_role("heading", name="Nomor seri")).to_be_visible()
    expect(page.locator("code.serial")).to_have_text(serial)
    page.close()


@pytest.mark.usefixtures("workers")
def test_the_status_page_is_light(server: str, account: Account, letter: bytes) -> None:
    url = submit(server, account, letter)["links"]["status_page"]
    weight = sum(
        len(httpx.get(address).content)
        for address in (
            url,
            *(f"{server}/static/{n}" for n in ("stampede.css", "status.js", "logo.svg")),
        )
    )
    assert weight < 30_000

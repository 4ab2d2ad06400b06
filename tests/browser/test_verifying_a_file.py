"""A file is checked on the pages: in Chromium, on a phone and on a desk, without scripts."""

from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, ViewportSize, expect

from tests.browser.test_pages import DESK, NARROW, PHONE, browser, no_sideways_scrolling
from tests.service.test_stamping import ended, submit
from tests.stack import Account

__all__ = ["browser"]
pytestmark = pytest.mark.system


@pytest.fixture
def stamped(
    server: str, workers: Path, account: Account, letter: bytes, tmp_path: Path
) -> tuple[str, Path]:
    """A serial, and the file that came back with it."""
    job = ended(submit(server, account.live, letter), account.live)
    file = tmp_path / "surat lamaran.pdf"
    file.write_bytes(httpx.get(job["links"]["document"], headers=account.live).content)
    return job["serial"], file


@pytest.mark.parametrize("viewport", [NARROW, PHONE, DESK], ids=["narrow", "phone", "desk"])
def test_a_file_is_chosen_sent_and_judged_without_scripts(
    browser: Browser, server: str, stamped: tuple[str, Path], viewport: ViewportSize
) -> None:
    serial, file = stamped
    context = browser.new_context(java_script_enabled=False, viewport=viewport)
    page = context.new_page()
    broken: list[str] = []
    page.on("console", lambda said: broken.append(said.text) if "Policy" in said.text else None)
    page.goto(f"{server}/V/{serial}")
    page.get_by_label("Berkas PDF").set_input_files(file)
    page.get_by_role("button", name="Periksa berkas").click()
    expect(page.locator(".state.warned .big")).to_contain_text("SPECIMEN")
    expect(page.get_by_text("surat lamaran.pdf")).to_be_visible()
    expect(page.get_by_text("Utuh: isi yang ditandatangani")).to_be_visible()
    expect(page.get_by_text("persis yang kami serahkan untuknya")).to_be_visible()
    expect(page.get_by_text("Berkas ini tidak kami simpan.")).to_be_visible()
    assert no_sideways_scrolling(page)
    assert broken == []
    context.close()


def test_a_file_that_was_tampered_with_is_red_and_in_english_too(
    browser: Browser, server: str, stamped: tuple[str, Path]
) -> None:
    _, file = stamped
    spoiled = bytearray(file.read_bytes())
    at = spoiled.index(b"stream") + 30
    spoiled[at] ^= 1
    file.write_bytes(spoiled)
    page = browser.new_page(viewport=PHONE)
    page.goto(f"{server}/verify?lang=en")
    page.get_by_label("PDF file").set_input_files(file)
    page.get_by_role("button", name="Check the file").click()
    expect(page.locator(".state.failed .big")).to_contain_text("Not valid")
    expect(page.get_by_text("Not intact: the content is no longer")).to_be_visible()
    assert page.locator("html").get_attribute("lang") == "en"
    assert no_sideways_scrolling(page)
    page.close()


def test_a_file_that_is_no_pdf_gets_the_form_again(
    browser: Browser, server: str, checkers: Path, tmp_path: Path
) -> None:
    picture = tmp_path / "foto.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    page = browser.new_page(viewport=PHONE)
    page.goto(f"{server}/verify")
    page.get_by_label("Berkas PDF").set_input_files(picture)
    page.get_by_role("button", name="Periksa berkas").click()
    expect(page.locator(".state.failed")).to_contain_text("Dokumen ini bukan PDF.")
    expect(page.get_by_label("Berkas PDF")).to_be_visible()
    assert no_sideways_scrolling(page)
    page.close()

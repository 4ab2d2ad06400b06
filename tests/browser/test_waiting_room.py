"""The waiting room as a person sees it: a turn that comes by itself, with and without scripts."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, ViewportSize, expect

from deploy.servers import free_port
from tests.browser.test_pages import DESK, NARROW, browser, no_sideways_scrolling
from tests.service.gate_stage import HORIZON, Stage, stage
from tests.stack import serving

__all__ = ["browser", "stage"]

pytestmark = pytest.mark.system
PHONE: ViewportSize = {"width": 390, "height": 844}


@pytest.fixture
def front(stage: Stage, environment: dict[str, str], tmp_path: Path) -> Iterator[tuple[Stage, str]]:
    """A front end on granian with the stage's part of the broker."""
    port = free_port()
    own = environment | {
        "STAMPEDE_BROKER_URL": stage.settings.broker_url,
        "STAMPEDE_PUBLIC_URL": f"http://127.0.0.1:{port}",
        "STAMPEDE_INTAKE_HORIZON_SECONDS": str(HORIZON),
    }
    with serving(own, port, tmp_path / "web.log") as (address, _):
        yield stage, address


def take(address: str, voucher: dict[str, str]) -> dict[str, Any]:
    place: dict[str, Any] = httpx.post(f"{address}/v1/waiting-room", headers=voucher).json()
    return place


@pytest.mark.parametrize("scripts", [True, False])
def test_a_turn_comes_without_anybody_touching_the_page(
    browser: Browser, front: tuple[Stage, str], scripts: bool
) -> None:
    stage, address = front
    stage.lane(62.0)
    place = take(address, stage.voucher())
    context = browser.new_context(
        java_script_enabled=scripts, viewport=PHONE if scripts else NARROW
    )
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
    page.goto(place["links"]["page"])
    expect(page.locator(".big")).to_have_text("Menunggu giliran masuk")
    assert no_sideways_scrolling(page)
    stage.lane(30.0)
    stage.doorman().advance()
    said = "Giliran Anda: kirim dokumen sekarang"
    expect(page.locator(".state.stamped .big")).to_have_text(said, timeout=30_000)
    if scripts:
        expect(page.locator("#said")).to_have_text(said)
    expect(page).to_have_title(f"{said} · Stampede")
    assert no_sideways_scrolling(page)
    assert errors == []
    context.close()


def test_the_home_page_has_room_for_a_closed_gate(
    browser: Browser, front: tuple[Stage, str]
) -> None:
    stage, address = front
    stage.lane(3000.0)
    take(address, stage.voucher())
    stage.sql("update gates set state = 'closed', reason = repeat('kata', 100)")
    for size in (NARROW, DESK):
        page = browser.new_page(viewport=size)
        page.goto(address)
        assert no_sideways_scrolling(page)
        page.close()

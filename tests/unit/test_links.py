"""Status links."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.links import StatusLinks
from common.settings import Settings

JOB = UUID("01a20da0-51b4-7111-907f-a8c5e5392a49")
LINKS = StatusLinks(Settings(link_key="k" * 32, public_url="https://stamp.example"))  # type: ignore[arg-type]


def test_a_link_opens_to_its_job() -> None:
    token = LINKS.token(JOB)
    assert LINKS.url(JOB) == f"https://stamp.example/j/{token}"
    assert LINKS.open(token) == JOB


def test_another_key_makes_and_opens_other_links() -> None:
    other = StatusLinks(Settings(link_key="x" * 32))  # type: ignore[arg-type]
    assert other.open(LINKS.token(JOB)) is None


@given(st.text(max_size=60))
def test_a_guess_opens_nothing(guess: str) -> None:
    assert LINKS.open(guess) is None


@pytest.mark.parametrize("position", range(0, 42, 3))
def test_a_changed_character_opens_nothing(position: int) -> None:
    token = LINKS.token(JOB)
    changed = "A" if token[position] != "A" else "B"
    assert LINKS.open(token[:position] + changed + token[position + 1 :]) is None

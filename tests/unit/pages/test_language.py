"""How times, waits, numbers and sizes are said."""

from datetime import UTC, datetime

import pytest

from tests.unit.pages.conftest import Speaking
from web.pages import language

LAST_MINUTE = datetime(2024, 9, 6, 16, 59, 7, tzinfo=UTC)


@pytest.mark.parametrize(
    "seconds, indonesian, english",
    [
        (None, "belum diketahui", "not known yet"),
        (1, "beberapa detik", "a few seconds"),
        (9, "beberapa detik", "a few seconds"),
        (10, "sekitar 10 detik", "about 10 seconds"),
        (41, "sekitar 50 detik", "about 50 seconds"),
        (51, "sekitar 1 menit", "about 1 minute"),
        (60, "sekitar 1 menit", "about 1 minute"),
        (61, "sekitar 2 menit", "about 2 minutes"),
        (89 * 60, "sekitar 89 menit", "about 89 minutes"),
        (90 * 60, "sekitar 2 jam", "about 2 hours"),
        (7 * 3600, "sekitar 7 jam", "about 7 hours"),
    ],
)
def test_a_wait_is_rounded_up_as_a_person_would(
    speaking: Speaking, seconds: int | None, indonesian: str, english: str
) -> None:
    with speaking("id"):
        assert language.wait(seconds) == indonesian
    with speaking("en"):
        assert language.wait(seconds) == english


def test_a_time_is_jakartas_and_says_so(speaking: Speaking) -> None:
    with speaking("id"):
        assert language.clock(LAST_MINUTE) == "6 September 2024, 23.59.07 WIB"
    with speaking("en"):
        assert language.clock(LAST_MINUTE) == "6 September 2024, 23:59:07 WIB"


def test_numbers_and_sizes_are_written_as_the_language_does(speaking: Speaking) -> None:
    with speaking("id"):
        assert language.number(12345) == "12.345"
        assert language.size(0) == "1 KB"
        assert language.size(355_000) == "355 KB"
        assert language.size(999_499) == "999 KB"
        assert language.size(999_500) == "1,0 MB"
        assert language.size(10 * 1024 * 1024) == "10,5 MB"
    with speaking("en"):
        assert language.number(12345) == "12,345"
        assert language.size(10 * 1024 * 1024) == "10.5 MB"


def test_a_page_is_indonesian_unless_english_is_asked_for(speaking: Speaking) -> None:
    for asked, chosen in (("en", "en"), ("id", "id"), ("", "id"), ("xx", "id")):
        with speaking(asked):
            assert language.selected() == chosen


def test_links_keep_the_language(speaking: Speaking) -> None:
    with speaking("en"):
        assert language.to("home.index") == "/?lang=en"
    with speaking("id"):
        assert language.to("home.index") == "/"

"""A serial as people type it."""

import pytest

from web.pages.verification import typed_serial


@pytest.mark.parametrize(
    "typed, meant",
    [
        ("", ""),
        ("   ", ""),
        ("SABC0123", "SABC0123"),
        (" sabc 0123 ", "SABC0123"),
        ("SABC-0123", "SABC0123"),
        ("SABCOi2l", "SABC0121"),
        ("HTTPS://STAMP.EXAMPLE/V/SABC0123", "SABC0123"),
        ("https://stamp.example/v/SABC0123?lang=en", "SABC0123"),
        ("https://stamp.example/v/SABC0123/", "SABC0123"),
        ("S" * 500, "S" * 64),
    ],
)
def test_what_was_typed_or_pasted_becomes_the_serial(typed: str, meant: str) -> None:
    assert typed_serial(typed) == meant

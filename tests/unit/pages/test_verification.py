"""A serial as people type it."""

import pytest

from web.pages.verification import pasted_code, readings, typed_serial


@pytest.mark.parametrize(
    "typed, meant",
    [
        ("", ""),
        ("   ", ""),
        ("SABC0123", "SABC0123"),
        (" sabc 0123 ", "SABC0123"),
        ("SABC-0123", "SABC0123"),
        ("SABCOi2l", "SABCOI2L"),
        ("HTTPS://STAMP.EXAMPLE/V/SABC0123", "SABC0123"),
        ("https://stamp.example/v/SABC0123?lang=en", "SABC0123"),
        ("https://stamp.example/v/SABC0123/", "SABC0123"),
        ("S" * 500, "S" * 64),
    ],
)
def test_what_was_typed_or_pasted_becomes_the_serial(typed: str, meant: str) -> None:
    assert typed_serial(typed) == meant


SERIAL = "TVKK97SNY82ZHG2H2DWCRY"


@pytest.mark.parametrize(
    "typed, meant",
    [
        (f"HTTPS://STAMP.EXAMPLE/V/{SERIAL}/1ABC", (SERIAL, "1ABC")),
        (f" https://stamp.example/v/{SERIAL.lower()}/1abc/?lang=en ", (SERIAL, "1abc")),
        (f"{SERIAL}/1ABC", (SERIAL, "1ABC")),
        (f"HTTPS://STAMP.EXAMPLE/V/{SERIAL}", None),
        (SERIAL, None),
        ("SABC/1ABC", None),
        ("", None),
    ],
)
def test_a_pasted_code_is_told_from_a_serial(typed: str, meant: tuple[str, str] | None) -> None:
    assert pasted_code(typed) == meant


def test_letters_that_are_misread_are_looked_up_as_they_stand_first() -> None:
    assert readings("SABCOI2L") == ["SABCOI2L", "SABC0121"]
    assert readings("SABC0121") == ["SABC0121"]

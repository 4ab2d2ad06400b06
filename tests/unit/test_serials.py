"""Serial numbers: their shape, their check character, and what settings may ask of them."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from common import codes, serials
from common.partners import Mode
from common.serials import Format
from common.serials.format import FEWEST_RANDOM, may_be_imported
from common.settings import Settings
from workers.checking import _SERIAL_IN_REASON

FORMATS = st.builds(
    lambda prefix, more: Format(len(prefix) + FEWEST_RANDOM + 1 + more, prefix),
    st.text(serials.ALPHABET, min_size=1, max_size=4).filter(lambda p: not p.startswith("T")),
    st.integers(0, 3),
)


@pytest.mark.parametrize(("mode", "letter"), [(Mode.TEST, "T"), (Mode.LIVE, "S")])
def test_a_serial_has_22_characters_and_names_its_mode(mode: Mode, letter: str) -> None:
    serial = serials.generate(mode)
    assert len(serial) == 22
    assert serial[0] == letter
    assert serials.is_well_formed(serial)


def test_serials_do_not_repeat() -> None:
    assert len({serials.generate(Mode.LIVE) for _ in range(10_000)}) == 10_000


@given(st.integers(0, 21), st.sampled_from(serials.ALPHABET))
def test_one_wrong_character_is_noticed(position: int, wrong: str) -> None:
    serial = serials.generate(Mode.TEST)
    mistyped = serial[:position] + wrong + serial[position + 1 :]
    assert serials.is_well_formed(mistyped) == (mistyped == serial)


@given(st.text(max_size=30))
def test_no_text_makes_the_check_fall_over(text: str) -> None:
    for question in (serials.is_well_formed, serials.may_be_ours, serials.is_test, may_be_imported):
        assert question(text) in (True, False)


@given(FORMATS, st.sampled_from(Mode))
def test_whatever_the_format_codes_and_reasons_carry_it_and_test_serials_are_known(
    format: Format, mode: Mode
) -> None:
    serial = serials.generate(mode, format)
    assert len(serial) == format.length
    assert serials.is_well_formed(serial)
    assert serials.may_be_ours(serial)
    assert serials.is_test(serial) is (mode is Mode.TEST)
    assert may_be_imported(serial) is (mode is Mode.LIVE)
    assert _SERIAL_IN_REASON.findall(f"[{serial}] reason") == [serial]
    token = "1" + "0" * (codes.TOKEN_LENGTH - 1)
    assert codes.read(f"HTTPS://STAMP.EXAMPLE/V/{serial}/{token}").serial == serial


def test_a_serial_of_an_earlier_format_stays_well_formed() -> None:
    for earlier in (Format(18, "A"), Format(24, "QRS"), Format()):
        assert serials.is_well_formed(serials.generate(Mode.LIVE, earlier))


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"serial_length": 25}, "room for 24 characters"),
        ({"serial_length": 17}, "takes 18"),
        ({"serial_length": 20, "serial_prefix": "ABCD"}, "takes 21"),
        ({"serial_prefix": ""}, "one or more of the characters"),
        ({"serial_prefix": "O"}, "one or more of the characters"),
        ({"serial_prefix": "s"}, "one or more of the characters"),
        ({"serial_prefix": "TA"}, "test mode begin with T"),
        ({"serial_source": "elsewhere"}, "generated"),
        ({"serials_of_failed_jobs": "burn"}, "void"),
        ({"serial_stock_low": -1}, "greater than or equal to 0"),
    ],
)
def test_settings_that_would_make_bad_serials_are_refused_with_the_reason(
    values: dict[str, Any], why: str
) -> None:
    with pytest.raises(ValidationError, match=why):
        Settings(link_key="k", **values)


def test_the_usual_settings_are_the_usual_format() -> None:
    settings = Settings(link_key="k")  # type: ignore[arg-type]
    assert settings.serial_format == Format(22, "S")

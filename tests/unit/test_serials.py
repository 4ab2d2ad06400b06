"""Serial numbers: their shape and check character."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import serials
from common.partners import Mode


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
    assert serials.is_well_formed(text) in (True, False)

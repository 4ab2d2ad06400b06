"""A voucher's code: typed with forgiveness, and a typo is noticed before anything is looked up."""

import re
from itertools import product
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from stdnum import luhn

from common.partners import Mode
from common.serials import ALPHABET
from common.vouchers import code
from common.vouchers.code import LENGTH, MistypedError, VoucherCode

DOCS = Path(__file__).parents[2] / "docs" / "vouchers.md"
bodies = st.text(ALPHABET, min_size=LENGTH, max_size=LENGTH)


def is_code(text: str) -> bool:
    try:
        code.read(text)
    except MistypedError:
        return False
    return True


def valid(body: str) -> str:
    """Return a body with its Luhn mod 32 check character."""
    return body + str(luhn.calc_check_digit(body, alphabet=ALPHABET))


@pytest.fixture(scope="module")
def made() -> list[VoucherCode]:
    return [code.generate() for _ in range(500)]


def test_a_code_is_sixteen_characters_in_four_groups(made: list[VoucherCode]) -> None:
    for one in made:
        groups = str(one).split("-")
        assert [len(group) for group in groups] == [4, 4, 4, 4]
        assert set("".join(groups)) <= set(ALPHABET)
        assert code.read(str(one)) == one


def test_the_check_that_forms_are_told_to_make_says_the_same(made: list[VoucherCode]) -> None:
    told = re.search(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert told is not None
    example = '"7k3m 9qxa 2rtb c4w6"'
    assert example in told[1]

    def right(typed: str) -> bool:
        names: dict[str, bool] = {}
        exec(told[1].replace(example, repr(typed)), names)
        return names["right"]

    assert right("7k3m 9qxa 2rtb c4w6")
    for one in made[:20]:
        assert right(str(one).lower())
        swapped = one.characters[1] + one.characters[0] + one.characters[2:]
        for typed in (str(one)[:-1], str(one)[:-1] + "U", swapped):
            assert right(typed) == is_code(typed)


def test_no_two_are_alike_and_every_character_turns_up_at_every_place(
    made: list[VoucherCode],
) -> None:
    assert len({one.digest for one in made}) == len(made)
    many = made + [code.generate() for _ in range(500)]
    for place in range(LENGTH):
        # Of 32 characters, 1,000 draws leave one out once in 10^11 runs.
        assert {one.characters[place] for one in many} == set(ALPHABET)


@given(st.data())
def test_typing_forgives_case_spaces_dashes_and_letters_read_as_digits(data: st.DataObject) -> None:
    body = data.draw(bodies.filter(lambda text: "0Z" not in text and "Z0" not in text))
    one = valid(body[:-1])
    # Else the check character makes the one pair of neighbours that no code has.
    assume(is_code(one))
    alike = {"0": "0Oo", "1": "1IiLl"}
    typed = "".join(
        data.draw(st.sampled_from(["", " ", "-", " - ", "\t"]))
        + data.draw(st.sampled_from(alike.get(character, character + character.lower())))
        for character in one
    )
    assert code.read(typed + " ") == VoucherCode(one)


def test_every_single_wrong_character_is_noticed(made: list[VoucherCode]) -> None:
    for one in made[:50]:
        for place, other in product(range(LENGTH), ALPHABET + "U"):
            typo = one.characters[:place] + other + one.characters[place + 1 :]
            assert is_code(typo) == (typo == one.characters)


def test_every_swap_of_neighbours_is_noticed(made: list[VoucherCode]) -> None:
    for one in made:
        for place in range(LENGTH - 1):
            a, b = one.characters[place], one.characters[place + 1]
            swapped = one.characters[:place] + b + a + one.characters[place + 2 :]
            assert is_code(swapped) == (a == b)


@given(bodies, st.integers(0, LENGTH - 2))
def test_of_what_is_taken_for_a_code_no_swap_of_neighbours_is(text: str, place: int) -> None:
    """Also for codes that were not made here: the check itself has no hole."""
    one = valid(text[:-1])
    a, b = one[place], one[place + 1]
    swapped = one[:place] + b + a + one[place + 2 :]
    assert a == b or not (is_code(one) and is_code(swapped))


def test_a_character_too_many_or_too_few_is_noticed(made: list[VoucherCode]) -> None:
    for one in made:
        assert not is_code(one.characters[:-1])
        assert not is_code(one.characters + "0")
    for nothing in ("", "-", "7K3M-9QXA-2RTB-C4W\u0130", "sk_live_0123456789"):
        assert not is_code(nothing)


def test_a_code_does_not_show_itself_in_logs(made: list[VoucherCode]) -> None:
    for one in made:
        assert one.characters[4:] not in repr(one)
        assert str(one)[5:] not in repr(one)


@given(st.text(max_size=30))
def test_whatever_is_typed_is_a_code_or_mistyped(typed: str) -> None:
    assert is_code(typed) in (True, False)
    if is_code(typed):
        assert code.is_meant_as_code(typed)


def test_a_key_is_never_taken_for_a_code_nor_a_mistyped_code_for_a_key() -> None:
    assert not any(code.is_meant_as_code(f"sk_{mode}_0123456789AB") for mode in Mode)
    assert not code.is_meant_as_code("sk_live_wrong")
    assert code.is_meant_as_code("7K3M-9QXA-2RTB-C4W")
    assert code.is_meant_as_code("7k3m 9qxa 2rtb c4wdu")
    assert not code.is_meant_as_code("")
    assert not code.is_meant_as_code("é" * 16)

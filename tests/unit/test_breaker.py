"""A breaker that many threads ask."""

import pytest

from common.breaker import Breaker, Pauses


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(
        clock, Pauses(failures_allowed=1, first=1, longest=1, bearable=0.2, longest_try=8)
    )


def break_off(clock: Clock, after: float) -> None:
    clock.now += after
    raise ConnectionError


def fail(breaker: Breaker, clock: Clock, *, after: float) -> None:
    with pytest.raises(ConnectionError), breaker.watch(ConnectionError):
        break_off(clock, after)


def test_after_a_silence_one_tries_and_the_others_are_refused(
    breaker: Breaker, clock: Clock
) -> None:
    assert breaker.take_turn()
    fail(breaker, clock, after=4.5)
    assert breaker.is_resting
    assert not breaker.take_turn()
    clock.now += 1
    assert [breaker.take_turn() for _ in range(3)] == [True, False, False]
    assert not breaker.is_resting
    clock.now += 4.5
    assert not breaker.take_turn(), "the one who tries still waits"
    breaker.succeeded()
    assert [breaker.take_turn() for _ in range(3)] == [True, True, True]


def test_a_try_that_fails_begins_the_next_pause(breaker: Breaker, clock: Clock) -> None:
    breaker.failed()
    clock.now += 1
    assert breaker.take_turn()
    fail(breaker, clock, after=4.5)
    assert not breaker.take_turn()
    clock.now += 1
    assert breaker.take_turn()


def test_whoever_tries_and_never_says_how_it_went_is_followed_by_another(
    breaker: Breaker, clock: Clock
) -> None:
    breaker.failed()
    clock.now += 1
    assert breaker.take_turn()
    clock.now += 8
    assert breaker.take_turn()


def test_a_refusal_that_comes_at_once_is_no_silence(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, clock, after=0.01)
    assert breaker.is_closed
    breaker.failed()
    clock.now += 1
    assert breaker.take_turn()
    fail(breaker, clock, after=0.01)
    assert breaker.is_closed, "it refuses, so it is there: nobody waits for it"

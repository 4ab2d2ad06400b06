"""How long a process goes on with one message."""

import os

from workers.messages import MOST_JOBS, TURN_SECONDS, Leaving, Turn


class Clock:
    """Time that goes by when told."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_turn_lasts_half_a_second() -> None:
    clock = Clock()
    turn = Turn(Leaving(), clock)
    clock.now += TURN_SECONDS - 0.01
    assert turn.lasts(1)
    clock.now += 0.01
    assert not turn.lasts(1)


def test_a_turn_has_an_end_however_quick_the_jobs_are() -> None:
    turn = Turn(Leaving(), Clock())
    assert turn.lasts(MOST_JOBS - 1)
    assert not turn.lasts(MOST_JOBS)


def test_a_process_learns_from_its_parent_that_the_worker_leaves() -> None:
    leaving = Leaving()
    turn = Turn(leaving, Clock())
    assert turn.lasts(1)
    child = os.fork()
    if child == 0:
        leaving.begin()
        os._exit(0)
    os.waitpid(child, 0)
    assert not turn.lasts(1)

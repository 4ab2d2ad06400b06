"""A value is asked for anew once in a while, by one thread; the others go on with the last."""

import threading

from common.kept import Kept


def test_it_is_asked_for_again_when_its_time_is_up_and_not_before() -> None:
    now, asked = [0.0], []

    def ask(last: int | None) -> int:
        asked.append(last)
        return len(asked)

    kept = Kept(ask, seconds=1.0, clock=lambda: now[0])
    seen = []
    for moment in (0.0, 0.9, 1.0, 1.5, 2.0):
        now[0] = moment
        seen.append(kept.get())
    assert seen == [1, 1, 2, 2, 3]
    assert asked == [None, 1, 2], "it is given what it said last"
    kept.forget()
    assert kept.get() == 4


def test_while_one_asks_the_others_go_on_with_the_last() -> None:
    now, go_on, asking = [0.0], threading.Event(), threading.Event()

    def ask(last: int | None) -> int:
        if last is None:
            return 1
        asking.set()
        assert go_on.wait(10)
        return last + 1

    kept = Kept(ask, seconds=1.0, clock=lambda: now[0])
    assert kept.get() == 1
    now[0] = 5.0
    answers: list[int] = []
    slow = threading.Thread(target=lambda: answers.append(kept.get()))
    slow.start()
    assert asking.wait(10)
    assert kept.get() == 1
    go_on.set()
    slow.join(10)
    assert answers == [2]
    assert kept.get() == 2


def test_the_first_answer_is_waited_for_by_all() -> None:
    asked = []
    start = threading.Barrier(5)

    def ask(_last: int | None) -> int:
        asked.append(1)
        return 7

    kept = Kept(ask, seconds=60.0)
    answers: list[int] = []

    def get() -> None:
        start.wait(10)
        answers.append(kept.get())

    threads = [threading.Thread(target=get) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert answers == [7] * 5
    assert len(asked) == 1

"""How long a worker waits after a passing fault."""

from workers.stamping import retry_seconds


def test_the_wait_doubles_up_to_ten_minutes() -> None:
    assert [retry_seconds(attempt) for attempt in (1, 2, 3)] == [5, 10, 20]
    assert retry_seconds(8) == 600
    assert retry_seconds(10_000) == 600

"""Rate limits over a real Valkey: time passes where a test turns a bucket's number back."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from common.identifiers import new_id
from common.rates import Bucket, Limit, Rates, network_of
from common.settings import WebSettings
from common.wire import Wire
from deploy.servers import embedded_valkey, free_port

KEY = b"a key for the buckets of these tests"


@pytest.fixture
def valkey(web_settings: WebSettings) -> Any:
    return redis.Redis.from_url(web_settings.broker_url, decode_responses=True)


@pytest.fixture
def rates(web_settings: WebSettings) -> Rates:
    return Rates(Wire(web_settings.broker_url), KEY)


@pytest.fixture
def limit() -> Limit:
    """Ten in an hour, of a name of its own."""
    return Limit(f"test-{new_id()}", 10, 3600)


@pytest.fixture
def pass_time(valkey: Any, limit: Limit) -> Callable[[float], None]:
    def later(seconds: float) -> None:
        for key in valkey.scan_iter(f"rate:{limit.name}:*"):
            valkey.set(key, int(valkey.get(key)) - round(seconds * 1_000_000), keepttl=True)

    return later


def test_so_many_come_at_once_and_then_one_for_each_share_of_the_time(
    rates: Rates, limit: Limit, pass_time: Callable[[float], None]
) -> None:
    mine = Bucket(limit, "me")
    assert [rates.take(mine)[0].left for _ in range(12)] == [10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 0]
    refused = rates.take(mine)[0]
    assert not refused.allowed
    assert 355 <= refused.wait_seconds <= 360
    pass_time(360)
    assert [rates.take(mine)[0].allowed for _ in range(2)] == [True, False]
    pass_time(3600)
    assert rates.look(mine)[0].untouched


def test_several_are_taken_together_or_not_at_all(rates: Rates, limit: Limit) -> None:
    mine = Bucket(limit, "me")
    assert rates.take(mine, count=7)[0].allowed
    refused = rates.take(mine, count=4)[0]
    assert (refused.allowed, refused.left) == (False, 3)
    # Until there are four, not one.
    assert 350 <= refused.wait_seconds <= 360
    assert rates.take(mine, count=3)[0].allowed


def test_who_owes_pays_for_what_was_refused_and_gets_nothing_until_it_pauses(
    rates: Rates, limit: Limit, pass_time: Callable[[float], None]
) -> None:
    mine = Bucket(replace(limit, owes=True), "me")
    assert [rates.take(mine)[0].allowed for _ in range(30)] == [True] * 10 + [False] * 20
    for _ in range(5):
        # Ten an hour would be let in; who sends sixty gets none of them.
        pass_time(360)
        assert not any(rates.take(mine)[0].allowed for _ in range(6))
    pass_time(3600 + 360)
    assert rates.take(mine)[0].allowed


def test_looking_takes_nothing_and_keeps_nothing(rates: Rates, limit: Limit, valkey: Any) -> None:
    for _ in range(20):
        assert rates.look(Bucket(limit, "me"))[0].untouched
    assert not list(valkey.scan_iter(f"rate*:{limit.name}*"))


def test_everyone_has_a_share_of_ones_own_and_one_question_may_ask_for_several(
    rates: Rates, limit: Limit
) -> None:
    everyone = Bucket(Limit(f"{limit.name}-all", 3, 60), "")
    for who in ("a", "b", "c"):
        assert all(s.allowed for s in rates.take(Bucket(limit, who), everyone))
    own, shared = rates.take(Bucket(limit, "d"), everyone)
    assert own.allowed
    assert not shared.allowed
    # What was refused by the one was still taken from the other.
    assert rates.look(Bucket(limit, "d"))[0].left == 9


def test_many_at_once_never_take_more_than_there_is(web_settings: WebSettings) -> None:
    limit = Limit(f"test-{new_id()}", 50, 3600)

    def taken(_: int) -> int:
        own = Rates(Wire(web_settings.broker_url), KEY)
        return sum(own.take(Bucket(limit, "me"))[0].allowed for _ in range(25))

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(taken, range(8))) == 50


def test_a_bucket_is_forgotten_when_it_is_full_and_says_nothing_of_whose_it_was(
    rates: Rates, limit: Limit, valkey: Any
) -> None:
    rates.take(Bucket(limit, "203.0.113.7"))
    rates.take(Bucket(limit, "203.0.113.7"))
    keys = list(valkey.scan_iter(f"rate:{limit.name}:*"))
    assert len(keys) == 1
    assert "203.0.113" not in keys[0]
    assert 719 <= valkey.ttl(keys[0]) <= 720
    assert valkey.ttl(f"rates:{limit.name}") <= 3600


def test_another_key_gives_other_names(
    web_settings: WebSettings, rates: Rates, limit: Limit
) -> None:
    rates.take(Bucket(limit, "me"))
    assert Rates(Wire(web_settings.broker_url), b"another").look(Bucket(limit, "me"))[0].untouched


def test_the_buckets_of_a_limit_are_counted_and_whoever_comes_when_all_are_given_out_is_let_in(
    web_settings: WebSettings, limit: Limit, valkey: Any
) -> None:
    few = Rates(Wire(web_settings.broker_url), KEY, most_buckets=5)
    for number in range(50):
        assert few.take(Bucket(limit, str(number)))[0].allowed
    assert len(list(valkey.scan_iter(f"rate:{limit.name}:*"))) == 5
    # Those that are kept go on counting.
    assert [few.take(Bucket(limit, "0"))[0].left for _ in range(2)] == [9, 8]


def test_a_bucket_takes_as_much_memory_as_is_said(rates: Rates, valkey: Any) -> None:
    limit = Limit(f"as-long-a-name-as-there-is-{new_id().hex[-8:]}", 10, 3600)
    rates.take(Bucket(limit, "me"))
    [key] = valkey.scan_iter(f"rate:{limit.name}:*")
    assert valkey.memory_usage(key) <= 160


def test_a_clock_that_stepped_back_locks_nobody_out_for_longer_than_the_window(
    rates: Rates, limit: Limit, pass_time: Callable[[float], None]
) -> None:
    mine = Bucket(limit, "me")
    for _ in range(10):
        rates.take(mine)
    pass_time(-7200)
    assert rates.take(mine)[0].wait_seconds <= 360
    pass_time(7200 + 3600)
    assert rates.take(mine)[0].allowed


def test_without_valkey_everything_is_allowed_and_one_that_comes_back_counts(
    tmp_path: Path, limit: Limit
) -> None:
    nobody = Rates(Wire(f"redis://127.0.0.1:{free_port()}/0"), KEY)
    for _ in range(12):
        assert nobody.take(Bucket(limit, "me"))[0].allowed
    with embedded_valkey(tmp_path / "valkey") as url:
        rates = Rates(Wire(url), KEY)
        assert [rates.take(Bucket(limit, "me"))[0].left for _ in range(2)] == [10, 9]
        # Restarted empty, its scripts forgotten too.
        redis.Redis.from_url(url).flushall()
        redis.Redis.from_url(url).script_flush()
        assert rates.take(Bucket(limit, "me"))[0].left == 10


def test_what_clients_are_told_is_as_the_draft_writes_it(rates: Rates, limit: Limit) -> None:
    mine = Bucket(limit, "me")
    assert limit.policy == f'"{limit.name}";q=10;w=3600'
    assert rates.take(mine)[0].field(taken=1) == f'"{limit.name}";r=9;t=360'
    for _ in range(9):
        rates.take(mine)
    refused = rates.take(mine)[0].field()
    assert refused.startswith(f'"{limit.name}";r=0;t=3')


@pytest.mark.parametrize(
    ("address", "whose"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::9", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unknown", "unknown"),
        ("", ""),
        (None, ""),
    ],
)
def test_an_address_stands_for_its_line(address: str | None, whose: str) -> None:
    assert network_of(address) == whose


@given(st.text())
def test_no_address_is_too_odd_to_be_counted(address: str) -> None:
    assert len(network_of(address)) <= 64

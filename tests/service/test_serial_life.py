"""A state machine over serials against a plain model: sets, and a queue of those who wait."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from uuid import UUID

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import text

from common import jobs
from common.database import Database
from common.jobs import Claim, State
from common.problems import Code
from common.serials import Supply
from common.settings import WebSettings
from tests.service import serial_lists
from tests.service.serial_lists import import_text, numbers
from tests.service.test_job_states import assert_clean, claim, finish, give_back, new_job, shown
from tests.service.test_serial_stock import accept, in_stock
from tests.stack import Account


@pytest.fixture(scope="module")
def db(web_settings: WebSettings) -> Iterator[Database]:
    with serial_lists.own_database(web_settings.database_url) as opened:
        yield opened


@dataclass
class Model:
    """What should be true: who has which serials, and who waits, the oldest first."""

    listed: list[str] = field(default_factory=list)
    stock: set[str] = field(default_factory=set)
    waiting: dict[UUID, int] = field(default_factory=dict)
    having: dict[UUID, list[str]] = field(default_factory=dict)
    affixed: dict[UUID, list[str]] = field(default_factory=dict)
    void: set[str] = field(default_factory=set)
    keeps: set[UUID] = field(default_factory=set)
    ended: set[UUID] = field(default_factory=set)

    def gets(self, job_id: UUID, given: list[str]) -> None:
        assert set(given) <= self.stock
        self.stock -= set(given)
        self.having[job_id] = given

    def ends(self, job_id: UUID) -> None:
        """End it unstamped."""
        self.ended.add(job_id)
        self.waiting.pop(job_id, None)
        (self.void if job_id in self.keeps else self.stock).update(self.having.pop(job_id, ()))


def test_serials_are_where_a_plain_model_says(
    db: Database, make_account: Callable[..., Account]
) -> None:
    class Life(RuleBasedStateMachine):
        @initialize()
        def begins_with_nothing(self) -> None:
            serial_lists.empty(db)
            self.account = make_account(quota=10_000)
            self.model = Model()
            self.claims: dict[UUID, Claim] = {}
            # Two processes that reuse numbers and one that retires them; each looks anew every time.
            ticks = count()

            def clock() -> float:
                return float(next(ticks))

            self.supplies = [
                Supply(source="imported", clock=clock),
                Supply(source="imported", clock=clock),
                Supply(source="imported", reuse=False, clock=clock),
            ]

        @rule(new=st.integers(0, 4), old=st.integers(0, 4))
        def a_list_comes(self, new: int, old: int) -> None:
            fresh = numbers(new)
            again = self.model.listed[:old]
            if not fresh and not again:
                # No list at all is refused, and its reference stays free.
                return
            found = import_text(db, "\n".join(["serial", *fresh, *again]))
            assert (found.added, found.known) == (len(fresh), len(again))
            self.model.stock.update(fresh)
            self.model.listed += fresh

        @rule(process=st.integers(0, 2), stamps=st.integers(1, 3))
        def a_job_comes(self, process: int, stamps: int) -> None:
            job_id = accept(db, new_job(self.account, stamps=stamps), self.supplies[process])
            given = list(shown(db, job_id).serials)
            if self.model.waiting or len(self.model.stock) < stamps:
                assert given == []
                self.model.waiting[job_id] = stamps
                return
            assert len(given) == stamps
            self.model.gets(job_id, given)
            if process == 2:
                self.model.keeps.add(job_id)

        @rule(process=st.integers(0, 2), stamps=st.integers(1, 3))
        def an_acceptance_is_rolled_back(self, process: int, stamps: int) -> None:
            with db.engine.connect() as connection:
                jobs.accept(
                    connection,
                    [new_job(self.account, stamps=stamps)],
                    publish_after_seconds=9,
                    supply=self.supplies[process],
                )
                connection.rollback()

        @precondition(lambda self: self.model.waiting)
        @rule(process=st.integers(0, 2), limit=st.integers(1, 4))
        def a_round_serves_those_who_wait(self, process: int, limit: int) -> None:
            expected = []
            left = len(self.model.stock)
            for job_id, stamps in list(self.model.waiting.items())[:limit]:
                if stamps > left:
                    break
                left -= stamps
                expected.append(job_id)
            with db.transaction() as connection:
                served = jobs.serve_waiting(
                    connection, self.supplies[process], limit=limit, enter=lambda lane: None
                )
            assert served == len(expected)
            for job_id in expected:
                given = list(shown(db, job_id).serials)
                assert len(given) == self.model.waiting.pop(job_id)
                self.model.gets(job_id, given)
                if process == 2:
                    self.model.keeps.add(job_id)

        @precondition(lambda self: self.model.having or self.model.waiting)
        @rule(data=st.data())
        def a_worker_claims(self, data: st.DataObject) -> None:
            job_id = data.draw(st.sampled_from([*self.model.having, *self.model.waiting]))
            taken = claim(db, job_id)
            free = job_id in self.model.having and job_id not in self.claims
            assert (taken is not None) == free
            if taken is not None:
                assert list(taken.serials) == self.model.having[job_id]
                self.claims[job_id] = taken

        @precondition(lambda self: self.claims)
        @rule(data=st.data(), end=st.sampled_from(["finish", "fail", "give back"]))
        def a_worker_ends_its_claim(self, data: st.DataObject, end: str) -> None:
            job_id = data.draw(st.sampled_from([*self.claims]))
            taken = self.claims.pop(job_id)
            if end == "finish":
                assert finish(db, taken)
                self.model.affixed[job_id] = self.model.having.pop(job_id)
                return
            if end != "fail":
                assert give_back(db, taken) is State.QUEUED
                return
            with db.transaction() as connection:
                assert jobs.fail(connection, taken, Code.DOCUMENT_UNREADABLE, {})
            self.model.ends(job_id)

        @precondition(lambda self: self.model.having or self.model.waiting)
        @rule(data=st.data())
        def its_owner_cancels(self, data: st.DataObject) -> None:
            job_id = data.draw(st.sampled_from([*self.model.having, *self.model.waiting]))
            with db.transaction() as connection:
                changed = jobs.cancel(connection, account_id=self.account.id(), job_id=job_id)
            assert (changed is not None) == (job_id not in self.claims)
            if changed is not None:
                self.model.ends(job_id)

        @invariant()
        def everything_is_where_the_model_says(self) -> None:
            model = self.model
            assert set(in_stock(db)) == model.stock
            for job_id in model.waiting:
                job = shown(db, job_id)
                assert (job.waiting_for, job.serials) == ("serials", [])
            for job_id, serials in (model.having | model.affixed).items():
                assert list(shown(db, job_id).serials) == serials
            for job_id in model.ended:
                assert shown(db, job_id).state in (State.FAILED, State.CANCELLED)
            with db.transaction() as connection:
                rows = connection.execute(text("select serial, state from serials")).all()
            states = {row.serial: row.state for row in rows}
            expected = dict.fromkeys(model.void, "void")
            expected |= {each: "reserved" for of in model.having.values() for each in of}
            expected |= {each: "affixed" for of in model.affixed.values() for each in of}
            assert states == expected
            assert len(model.listed) == len(states) + len(model.stock), "none lost, none twice"
            assert_clean(db)

    run_state_machine_as_test(
        Life,
        settings=settings(
            max_examples=12,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )

"""Clocks that jump by an hour, forward and back (libfaketime): our programs' and PostgreSQL's."""

from collections.abc import Iterator

import pytest

from tests.faults import faults
from tests.faults.conftest import Trial, tried
from tests.faults.faults import Fault
from tests.faults.steps import WorkerStep

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def with_clocks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trial]:
    with tried(tmp_path_factory.mktemp("faults") / "clocks", clock=True) as trial:
        yield trial


@pytest.mark.parametrize("fault", faults.CLOCKS, ids=lambda fault: fault.name)
def test_a_clock_that_jumps_and_comes_back_delays_nothing_for_an_hour(
    with_clocks: Trial, fault: Fault
) -> None:
    """A worker dies meanwhile, so that a lease and a retry are written by the wrong clock."""
    with_clocks.machine.arm(WorkerStep.STORED)
    verdict = with_clocks.suffer(fault, seconds=3)
    assert verdict.clean, verdict.as_json()

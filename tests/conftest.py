"""For all tests: their order, and that a skip is a failure, because what is not run proves nothing."""

from collections.abc import Generator

import pytest
from hypothesis import settings

# How long an example takes says how busy the machine is; what things cost is for tests/bench.
settings.register_profile("without a clock", deadline=None)
settings.load_profile("without a clock")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run first, of each folder, what looks at jobs that wait: once there are workers, none waits."""
    folders = list(dict.fromkeys(item.path.parent for item in items))
    items.sort(
        key=lambda item: (
            folders.index(item.path.parent),
            "workers" in getattr(item, "fixturenames", ()),
        )
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skip into a failure."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped: {report.longrepr}"
    return report

"""The store: S3 that fails, stalls, is slow and breaks off in mid-write; a disk that is full."""

import contextlib
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults import faults
from tests.faults.conftest import Trial, tried
from tests.faults.driver import plain_letters
from tests.faults.faults import Fault

# A judge waits for as long as a recovery may take on a busy machine.
pytestmark = pytest.mark.timeout(400)

# Room for the largest document must be left, or the copy does not call itself ready.
DISK_MEGABYTES = 24


@pytest.fixture(scope="module")
def on_s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trial]:
    with tried(tmp_path_factory.mktemp("faults") / "s3", s3=True) as trial:
        yield trial


@pytest.mark.parametrize("fault", faults.STORE, ids=lambda fault: fault.name)
def test_an_object_store_that_fails_loses_nothing(on_s3: Trial, fault: Fault) -> None:
    verdict = on_s3.suffer(fault, seconds=fault.seconds[1])
    assert verdict.clean, verdict.as_json()
    assert 500 not in verdict.answers, verdict.as_json()


@pytest.fixture
def on_small_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trial]:
    folder = tmp_path_factory.mktemp("faults") / "small"
    objects = folder / "var" / "objects"
    objects.mkdir(parents=True)
    size = f"size={DISK_MEGABYTES}m"
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", objects], check=True)
    try:
        with tried(folder) as trial:
            yield trial
    finally:
        subprocess.run(["umount", objects], check=True)


@pytest.mark.system
def test_a_full_disk_refuses_new_documents_and_loses_no_old_one(on_small_disk: Trial) -> None:
    trial, objects = on_small_disk, on_small_disk.machine.objects
    trial.driver.start(plain_letters("full", 40), pause=0.1)
    trial.machine.pause(1)
    filler = objects / "filler"
    _fill(filler)
    # Until somebody has met it.
    trial.machine.wait(lambda: trial.driver.answers[503], seconds=30, what="a refusal")
    trial.machine.pause(2)
    filler.unlink()
    ended_at = time.monotonic()
    trial.wait_for_driver()
    verdict = trial.judge(faults_ended_at=ended_at)
    assert verdict.clean, verdict.as_json()
    assert 500 not in verdict.answers, verdict.as_json()
    assert not _half_written(objects), "what could not be written is not kept"


def _fill(filler: Path) -> None:
    """Write a file until the disk is full."""
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    assert shutil.disk_usage(filler.parent).free == 0


def _half_written(objects: Path) -> list[Path]:
    """Return files that are no whole document."""
    files = [file for file in objects.rglob("*") if file.is_file()]
    return [file for file in files if b"%%EOF" not in file.read_bytes()]

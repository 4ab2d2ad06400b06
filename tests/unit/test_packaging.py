"""What an installed copy holds: all of our files, not only those that end in .py."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Read by docker and kubectl from a checkout, not by an installed copy.
FOR_CLUSTERS = (
    ROOT / "deploy" / "compose.yaml",
    ROOT / "deploy" / "Dockerfile.dockerignore",
    *(ROOT / "deploy" / "kubernetes").rglob("*.yaml"),
)
SETUPTOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]


def test_a_wheel_holds_templates_style_translations_and_migrations() -> None:
    ships = {
        file
        for package, patterns in SETUPTOOLS["package-data"].items()
        for pattern in patterns
        for file in (ROOT / package.replace(".", "/")).glob(pattern)
    }
    ours = {
        file
        for folder in SETUPTOOLS["packages"]["find"]["include"]
        for file in (ROOT / folder.rstrip("*")).rglob("*.*")
        if file.is_file() and file.suffix not in {".py", ".pyc"}
    } - set(FOR_CLUSTERS)
    assert ROOT / "web/pages/templates/base.html" in ours
    assert ships == ours

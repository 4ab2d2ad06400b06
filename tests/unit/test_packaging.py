"""What an installed copy holds: all of our files, not only those that end in .py."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
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
    }
    assert ROOT / "web/pages/templates/base.html" in ours
    assert ships == ours

"""The command line that every bench has."""

import argparse


def parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """Return the arguments of `python -m tests.bench.<name>`, with `--json`.

    Args:
        name: of the bench.
        description: what it measures, with an example.
    """
    made = argparse.ArgumentParser(
        prog=f"python -m tests.bench.{name}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--json", action="store_true", help="also print one JSON object")
    return made

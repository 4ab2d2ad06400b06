"""`stampede --help`, as somebody reads it who has never seen it."""

from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from deploy.cli import main


def every_command(group: click.Group, *above: str) -> Iterator[tuple[str, ...]]:
    for name, command in group.commands.items():
        yield (*above, name)
        if isinstance(command, click.Group):
            yield from every_command(command, *above, name)


COMMANDS = [(), *every_command(main)]


def help_of(*command: str) -> str:
    shown = CliRunner().invoke(main, [*command, "--help"], prog_name="stampede")
    assert shown.exit_code == 0
    return shown.output


def test_every_example_has_a_line_of_its_own() -> None:
    lines = help_of().splitlines()
    examples = [line.strip() for line in lines if line.startswith("    stampede ")]
    assert len(examples) == 10
    assert 'stampede partner create "Portal A"' in examples
    assert not [line for line in lines if "\\b" in line]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_help_says_in_whole_sentences_what_each_command_does(
    command: tuple[str, ...],
) -> None:
    usage, *lines = help_of(*command).splitlines()
    assert usage.startswith("Usage: stampede")
    assert not [line for line in lines if line.endswith("...")]

"""What an operator calls or explains something by: one line that says something, as the API takes it."""

from typing import Any

import click


class Words(click.ParamType[str]):
    """One line of 1 to `longest` characters that are not all blank, without control characters.

    An empty shell variable (`--reference "$INVOICE"`) would otherwise be one name for every payment.
    """

    name = "text"

    def __init__(self, longest: int = 200) -> None:
        """Take the limit, in characters."""
        self._longest = longest

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the line as it was given."""
        said = str(value)
        if not said.strip():
            self.fail("it is empty", param, ctx)
        if len(said) > self._longest:
            self.fail(f"it has more than {self._longest} characters", param, ctx)
        if any(c < " " or c == "\x7f" for c in said):
            self.fail("it has a line break or another control character", param, ctx)
        return said


# Reasons may be longer than names.
REASON = Words(500)

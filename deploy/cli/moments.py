"""Points in time as an operator types them."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import click

_SPAN = re.compile(r"\+(\d{1,6})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
EXAMPLE = "2024-09-10T23:59:00+07:00"


class Moment(click.ParamType[datetime]):
    """A time as RFC 3339 writes it; in UTC where it names no zone."""

    name = "time"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        """Return the time."""
        try:
            at = datetime.fromisoformat(str(value))
        except ValueError:
            self.fail(f"'{value}' is no time such as {EXAMPLE}", param, ctx)
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at


class TimeToCome(Moment):
    """The same in the future, or a span from now, such as +30m."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        """Return the time."""
        now = datetime.now(UTC)
        span = _SPAN.fullmatch(str(value))
        at = (
            super().convert(value, param, ctx)
            if span is None
            else now + timedelta(**{_UNITS[span[2]]: int(span[1])})
        )
        if at <= now:
            self.fail(f"{at.isoformat()} has passed", param, ctx)
        return at

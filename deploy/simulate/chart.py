"""The runs of one scenario as a picture: what came and what was stamped, who waited, and the workers.

Needs matplotlib, which only this module imports. Colours are Okabe and Ito's, which people with every
kind of colour vision tell apart; lines also differ in their dashes.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MultipleLocator

from deploy.simulate.answer import words
from deploy.simulate.arrivals import MINUTE
from deploy.simulate.model import Run

_CAME = "#000000"
_COLOURS = ("#0072B2", "#D55E00", "#009E73")
_DASHES = ("-", "--", "-.")
# How much of a long run is drawn before its arrivals end, in minutes: the rest is quiet.
_DRAWN_MINUTES = 8 * 60
_DOTS_PER_INCH = 110


def draw(runs: Sequence[Run], file: Path) -> None:
    """Draw runs of one scenario, one colour each.

    Args:
        runs: one to three, over the same arrivals.
        file: a PNG, which is replaced.
    """
    figure = Figure(figsize=(9, 9.5), layout="constrained")
    came, waiting, longest, workers = figure.subplots(4, 1, sharex=True)
    first = max(0, runs[0].arrivals.minutes - _DRAWN_MINUTES)
    wanted = runs[0].arrivals.by_minute[first:]
    came.plot(
        _hours(runs[0], first, len(wanted)),
        [documents / MINUTE for documents in wanted],
        color=_CAME,
        linewidth=1,
        label="documents that come",
    )
    for run, colour, dashes in zip(runs, _COLOURS, _DASHES, strict=False):
        _draw_run(run, first, (came, waiting, longest, workers), {"color": colour, "ls": dashes})
    came.set_ylabel("a second")
    waiting.set_ylabel("documents")
    longest.set_ylabel("seconds")
    workers.set_ylabel("workers")
    came.set_title("Documents that come, and that are stamped", loc="left", fontsize=10)
    waiting.set_title(
        "Waiting in line; thin: in the waiting room or told to come back", loc="left", fontsize=10
    )
    longest.set_title(
        "Longest wait of what was stamped in a minute, from the first try",
        loc="left",
        fontsize=10,
    )
    workers.set_title("Workers", loc="left", fontsize=10)
    for axes in (came, waiting, longest, workers):
        axes.set_ylim(0, max(1.0, axes.get_ylim()[1]) * 1.08)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
        axes.grid(color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        if runs[0].arrivals.deadline is not None:
            deadline = runs[0].arrivals.start_hour + runs[0].arrivals.deadline / 3600
            axes.axvline(deadline, color="#888888", linewidth=1, ls=":")
    workers.set_xlabel("local time" + (" (dotted: the deadline)" if _ends(runs) else ""))
    hours = len(runs[0].book.samples.workers) / 60 - first / 60
    workers.xaxis.set_major_locator(MultipleLocator(2 if hours > 8 else 1 if hours > 3 else 0.25))
    workers.xaxis.set_major_formatter(FuncFormatter(lambda hour, _: _clock(hour)))
    figure.legend(loc="outside lower left", frameon=False, fontsize=9)
    figure.suptitle(
        f"stampede simulate {runs[0].scenario}: {runs[0].arrivals.documents:,} documents",
        x=0.01,
        ha="left",
        fontsize=12,
    )
    figure.savefig(
        file, dpi=_DOTS_PER_INCH, format="png", metadata={"Software": "stampede simulate"}
    )


def _draw_run(run: Run, first: int, axes: tuple[Axes, ...], style: dict[str, Any]) -> None:
    came, waiting, longest, workers = axes
    samples = run.book.samples
    hours = _hours(run, first, len(samples.workers) - first)
    label = f"stamped: {run.means.policy}, {words(run.means)}"
    came.plot(hours, [n / MINUTE for n in samples.stamped[first:]], label=label, lw=1.4, **style)
    waiting.plot(hours, samples.waiting[first:], lw=1.4, **style)
    outside = [room + back for room, back in zip(samples.room, samples.coming_back, strict=True)]
    if any(outside):
        waiting.plot(hours, outside[first:], lw=0.7, **style)
    longest.plot(hours, samples.longest_wait[first:], lw=1.4, **style)
    workers.step(hours, samples.workers[first:], where="post", lw=1.4, **style)


def _hours(run: Run, first: int, count: int) -> list[float]:
    """Return local hours of so many minutes from the first one drawn."""
    return [run.arrivals.start_hour + (first + minute) / 60 for minute in range(count)]


def _ends(runs: Sequence[Run]) -> bool:
    return runs[0].arrivals.deadline is not None


def _clock(hour: float) -> str:
    minutes = round(hour * 60)
    return f"{minutes // 60 % 24:02}:{minutes % 60:02}"

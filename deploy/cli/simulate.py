"""`stampede simulate`: a surge, played through the product's own policies."""

import math
import sys
import time
from pathlib import Path
from typing import Any

import click

from deploy.cli.surroundings import as_json, print_json
from deploy.simulate import answer, costs, model, report
from deploy.simulate.model import Run
from deploy.simulate.scenarios import SCENARIOS
from deploy.simulate.setup import Means, Policy, Scenario

_NAMES = "\n".join(f"      {name:<11}{scenario.title}" for name, scenario in SCENARIOS.items())


class _Positive(click.FloatRange):
    """A finite number above nothing."""

    name = "number"

    def __init__(self, most: float) -> None:
        """Take the largest."""
        super().__init__(min=0, min_open=True, max=most)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number; 'nan' is none."""
        number = float(super().convert(value, param, ctx))
        if math.isnan(number):
            self.fail("it is not a number", param, ctx)
        return number


@click.command(
    help=f"""Play a surge through the policies that run in production.

    Lanes and turns, pace, gate and waiting room, partners' allowances, autoscaler.

    Prints how long people wait, who is refused, and how many workers that takes; `september` also says how
    many it would have taken. Nothing is started, nothing is needed: neither a database nor a copy that runs.
    What a document costs comes from the benches.

    \b
    SCENARIO is one or more of (without any: september):
{_NAMES}

    \b
    Examples:
      stampede simulate
      stampede simulate september --machines 1 --no-answer --png one-machine.png
      stampede simulate september --workers 8 --policy gate --policy impatient --no-answer
      stampede simulate even dump --workers 3
      python -m tests.bench.pipeline --json > here.txt; stampede simulate --bench here.txt
    """
)
@click.argument("names", metavar="[SCENARIO]...", nargs=-1, type=click.Choice(list(SCENARIOS)))
@click.option(
    "--workers", type=click.IntRange(1, 4096), help="So many workers; none come, none go."
)
@click.option(
    "--min", "minimum", type=click.IntRange(1, 4096), help="Fewest workers.  [default: 1]"
)
@click.option(
    "--max",
    "maximum",
    type=click.IntRange(1, 4096),
    help="Most workers.  [default: the scenario's]",
)
@click.option(
    "--machines",
    type=click.IntRange(1, 2048),
    help="Two-core machines that do everything, with --workers on all of them.  [default: workers have"
    " a core each, front ends and database run elsewhere; with --machines, two workers a machine]",
)
@click.option(
    "--policy",
    "policies",
    multiple=True,
    type=click.Choice([policy.value for policy in Policy]),
    help="gate; open: no gate; impatient: no gate and no receipts, who waits a minute sends again."
    " May be given several times.  [default: gate]",
)
@click.option(
    "--horizon",
    type=_Positive(1e6),
    help="Wait at which the gate is full, in seconds.  [default: as set]",
)
@click.option(
    "--bench",
    "files",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="What the pipeline, intake or engine bench printed with --json.  [default: runs that came along]",
)
@click.option("--seed", default=1, show_default=True, help="Of everything that is drawn.")
@click.option(
    "--scale", default=1.0, show_default=True, type=_Positive(20), help="Part of the documents."
)
@click.option(
    "--days",
    type=click.IntRange(1, 14),
    help="How long before the deadline september begins, its documents being the same.  [default: 2]",
)
@click.option(
    "--target",
    default=60.0,
    show_default=True,
    type=_Positive(1e6),
    help="Seconds within which 95 of 100 documents are to be stamped, for the answer.",
)
@click.option(
    "--answer/--no-answer",
    "wants_answer",
    default=None,
    help="Also find how many workers and machines it takes.  [default: only without a SCENARIO or options"
    " for workers]",
)
@click.option(
    "--png",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Draw the runs of one scenario into FILE.",
)
@as_json
def simulate(
    names: tuple[str, ...],
    workers: int | None,
    minimum: int | None,
    maximum: int | None,
    machines: int | None,
    policies: tuple[str, ...],
    horizon: float | None,
    files: tuple[Path, ...],
    seed: int,
    scale: float,
    days: int | None,
    target: float,
    wants_answer: bool | None,
    png: Path | None,
    json_: bool,
) -> None:
    """Run, print, and draw."""
    scenarios = [SCENARIOS[name] for name in dict.fromkeys(names or ("september",))]
    if workers is not None and (minimum is not None or maximum is not None):
        raise click.UsageError("either --workers or --min and --max")
    if days is not None and not any(scenario.has_days for scenario in scenarios):
        raise click.UsageError("--days is for september; the others last an hour")
    if png is not None and len(scenarios) > 1:
        raise click.UsageError("--png draws one SCENARIO")
    if png is not None and not png.absolute().parent.is_dir():
        raise click.UsageError(f"there is no folder {png.parent} for --png")
    draw = None if png is None else _drawing()
    measured = _costs(files)
    if wants_answer is None:
        wants_answer = not names and workers is machines is minimum is maximum is None
    runs: list[Run] = []
    answers: dict[str, dict[str, Any]] = {}
    for scenario in scenarios:
        chosen = _means(scenario, workers, minimum, maximum, machines, horizon)
        for policy in dict.fromkeys(policies or (Policy.GATE,)):
            means = Means(**{**chosen, "policy": Policy(policy)})
            _tell(f"{scenario.name}: {answer.words(means)}")
            runs.append(
                model.run(
                    scenario,
                    means,
                    measured,
                    seed=seed,
                    scale=scale,
                    days=days or 2,
                    progress=_Progress(),
                )
            )
            if not json_:
                for line in report.lines(runs[-1], scenario.title):
                    click.echo(line)
                click.echo("")
        if wants_answer:
            found = answer.find(
                scenario,
                measured,
                target_seconds=target,
                seed=seed,
                scale=scale,
                days=days or 2,
                told=lambda what: _tell(f"looking for the answer: {what}"),
            )
            answers[scenario.name] = report.answer_as_json(found)
            if not json_:
                for line in report.answer_lines(found, runs[-1].arrivals.documents):
                    click.echo(line)
                click.echo("")
    if png is not None and draw is not None:
        draw(runs, png)
        _tell(f"drawn into {png}")
    if json_:
        print_json({"seed": seed, "runs": [*map(report.as_json, runs)], "answers": answers})


def _means(
    scenario: Scenario,
    workers: int | None,
    minimum: int | None,
    maximum: int | None,
    machines: int | None,
    horizon: float | None,
) -> dict[str, Any]:
    """Return what stands against a scenario, by name."""
    if workers is None and machines is not None and minimum is maximum is None:
        workers = machines * costs.CORES
    if workers is not None:
        least = most = workers
    else:
        most = maximum or max(scenario.workers, minimum or 1)
        least = minimum or 1
    if least > most:
        raise click.UsageError(f"--min {least} is more than --max {most}")
    return {
        "minimum": least,
        "maximum": most,
        "machines": machines,
        "horizon_seconds": horizon,
    }


def _costs(files: tuple[Path, ...]) -> costs.Costs:
    try:
        return costs.read(files)
    except costs.BenchError as error:
        raise click.ClickException(str(error)) from error


def _drawing() -> Any:
    """Return what draws, before anything is run."""
    try:
        from deploy.simulate import chart
    except ImportError as error:
        raise click.ClickException(
            "--png needs matplotlib: pip install 'stampede[simulate]'"
        ) from error
    return chart.draw


def _tell(what: str) -> None:
    """Say on stderr what is being done; stdout is for figures."""
    click.echo(what, err=True)


class _Progress:
    """Shows on a terminal how far a run is; says nothing where nobody looks."""

    def __init__(self) -> None:
        """Begin."""
        self._shown = time.monotonic()

    def __call__(self, seconds: float, until: float) -> None:
        """Show how far it is, every half second."""
        if sys.stderr.isatty() and time.monotonic() - self._shown > 0.5:
            self._shown = time.monotonic()
            click.echo(f"\r  {min(seconds / until, 1):4.0%} of what comes", err=True, nl=False)
            if seconds >= until:
                click.echo("", err=True)

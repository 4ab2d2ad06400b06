"""`stampede simulate`, as somebody types it."""

import builtins
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from deploy.cli import main
from deploy.simulate.scenarios import SCENARIOS

QUICK = ("flash", "--scale", "0.05", "--workers", "2")


def simulate(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["simulate", *arguments], prog_name="stampede")


def refused(*arguments: str) -> str:
    result = simulate(*arguments)
    assert result.exit_code == 2, result.output
    return result.stderr


def test_help_names_every_scenario_and_what_it_is() -> None:
    shown = simulate("--help").output
    for name, scenario in SCENARIOS.items():
        assert f"{name:<11}{scenario.title}" in shown


def test_it_prints_waits_workers_and_hours() -> None:
    result = simulate(*QUICK)
    assert result.exit_code == 0, result.output
    for word in ("p50", "p99", "applicant", "stamped", "tries", "room", "worker-hours", "10:10"):
        assert word in result.stdout
    assert "flash: 2 workers" in result.stderr


def test_json_is_one_object_and_nothing_else() -> None:
    result = simulate(*QUICK, "--policy", "gate", "--policy", "open", "--json")
    told = json.loads(result.stdout)
    assert [run["policy"] for run in told["runs"]] == ["gate", "open"]
    assert told["seed"] == 1
    assert told["answers"] == {}
    first = told["runs"][0]
    assert first["wanted"] == first["documents"] == first["stamped"]
    assert set(first["wait_seconds"]["all"]) == {"p50", "p90", "p95", "p99", "max"}
    assert len(first["course"]["minute"]) == len(first["course"]["workers"])


def test_the_same_command_prints_the_same_and_another_seed_something_else() -> None:
    first, again, other = (simulate(*QUICK, "--seed", seed).stdout for seed in ("7", "7", "8"))
    assert first == again
    assert first != other


def test_several_scenarios_are_played_one_after_the_other() -> None:
    shown = simulate("even", "dump", "--scale", "0.02", "--workers", "1").stdout
    assert shown.index("even: ") < shown.index("dump: ")


def test_the_answer_is_the_smallest_number_that_keeps_the_target() -> None:
    result = simulate("flash", "--scale", "0.2", "--answer", "--target", "30", "--json")
    found = json.loads(result.stdout)["answers"]["flash"]
    for what in ("workers", "machines"):
        tried = {int(n): wait for n, wait in found[what]["tried"].items()}
        needed = found[what]["needed"]
        assert tried[needed] <= 30
        assert needed == 1 or tried[needed - 1] > 30
    assert found["one_machine"]["machines"] == 1


def test_costs_of_another_bench_change_the_figures(tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    file.write_text('{"cpu_ms_by_process": {"web": 1.5, "stamp": 2.5}}')
    costs = json.loads(simulate(*QUICK, "--bench", str(file), "--json").stdout)["runs"][0][
        "costs_ms"
    ]
    assert (costs["accept_ms"], costs["stamp_ms"]) == (1.5, 2.5)


def test_a_picture_is_drawn(tmp_path: Path) -> None:
    file = tmp_path / "flash.png"
    result = simulate(*QUICK, "--policy", "gate", "--policy", "impatient", "--png", str(file))
    assert result.exit_code == 0, result.output
    assert file.read_bytes().startswith(b"\x89PNG")
    assert file.stat().st_size > 20_000


def test_without_matplotlib_a_picture_says_what_it_needs_and_text_needs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *arguments: Any, **named: Any) -> Any:
        if name.partition(".")[0] == "matplotlib":
            raise ImportError(name)
        return real(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.delitem(sys.modules, "deploy.simulate.chart", raising=False)
    monkeypatch.delattr("deploy.simulate.chart", raising=False)
    result = simulate(*QUICK, "--png", str(tmp_path / "a.png"))
    assert result.exit_code == 1
    assert "pip install 'stampede[simulate]'" in result.stderr
    assert simulate(*QUICK).exit_code == 0


@pytest.mark.parametrize(
    "arguments, why",
    [
        (("yesterday",), "'yesterday' is not one of 'september', 'flash'"),
        (("flash", "--workers", "0"), "0 is not in the range"),
        (("flash", "--workers", "2", "--max", "4"), "either --workers or --min and --max"),
        (("flash", "--min", "9", "--max", "4"), "--min 9 is more than --max 4"),
        (("flash", "--days", "3"), "--days is for september"),
        (("flash", "--scale", "0"), "0.0 is not in the range"),
        (("flash", "--scale", "nan"), "it is not a number"),
        (("flash", "--target", "-1"), "-1.0 is not in the range"),
        (("flash", "--policy", "closed"), "'closed' is not one of 'gate', 'open', 'impatient'"),
        (("flash", "even", "--png", "a.png"), "--png draws one SCENARIO"),
        (("flash", "--png", "nowhere/a.png"), "there is no folder nowhere for --png"),
        (("flash", "--bench", "missing.json"), "does not exist"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_sentence(arguments: tuple[str, ...], why: str) -> None:
    assert why in refused(*arguments)


def test_a_file_that_is_no_bench_is_named(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("hello")
    result = simulate(*QUICK, "--bench", str(file))
    assert result.exit_code == 1
    assert f"{file} holds no JSON object" in result.stderr

"""Runs the campaign and prints what came of it; ends with 1 when anything was lost, doubled or unbalanced.

Example: python -m tests.faults --jobs 5000 --seed 7 --json
"""

import argparse
import json
import secrets
import shutil
import sys
import tempfile
from pathlib import Path

from tests.faults.campaign import Campaign
from tests.faults.machine import FAKETIME, running

# Without --minutes: jobs offered a second.
RATE = 20


def main() -> None:
    """Parse the command line, run, report."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--jobs", type=int, default=5000, help="letters submitted (default 5000)")
    parser.add_argument("--seed", type=int, help="what letters and faults depend on (default: new)")
    parser.add_argument(
        "--minutes", type=float, help=f"over how long (default: {RATE} jobs a second)"
    )
    parser.add_argument(
        "--store", choices=("folder", "s3"), help="where documents go (default: the seed decides)"
    )
    parser.add_argument(
        "--full", action="store_true", help="also outages of 30 s, and none left out (libfaketime)"
    )
    parser.add_argument("--keep", action="store_true", help="keep the folder with logs and data")
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end")
    choices = parser.parse_args()
    seed = secrets.randbelow(1_000_000) if choices.seed is None else choices.seed
    store = choices.store or ("folder", "s3")[seed % 2]
    again = f"python -m tests.faults --jobs {choices.jobs} --seed {seed} --store {store}"
    again += " --full" if choices.full else ""
    if choices.minutes is not None:
        again += f" --minutes {choices.minutes:g}"
    print(f"seed {seed}, documents in {store}", flush=True)
    clock = FAKETIME is not None
    if choices.full and not clock:
        parser.error("--full sets clocks, which takes libfaketime: sh .ci/system-packages")
    if not clock:
        print("no libfaketime here: clocks stay right", flush=True)
    seconds = choices.jobs / RATE if choices.minutes is None else choices.minutes * 60
    folder = Path(tempfile.mkdtemp(prefix="stampede-faults-"))
    with running(folder, s3=store == "s3", clock=clock) as machine:
        campaign = Campaign(
            machine, seed, choices.jobs, choices.full, lambda line: print(line, flush=True)
        )
        verdict = campaign.run(seconds=seconds)
    for name, count in sorted(campaign.inflicted.items()):
        print(f"  {count:>5} {name}")
    for offence in (*verdict.lost, *verdict.duplicated, *verdict.unbalanced):
        print(f"WRONG {offence}")
    figures = verdict.as_json()
    print(", ".join(f"{name} {value}" for name, value in figures.items() if name != "offences"))
    if choices.json:
        print(json.dumps(figures | {"seed": seed, "store": store}))
    if verdict.clean and not choices.keep:
        shutil.rmtree(folder)
    else:
        print(f"logs and data are in {folder}")
    if not verdict.clean:
        print(f"again: {again}")
        sys.exit(1)


if __name__ == "__main__":
    main()

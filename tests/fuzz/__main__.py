"""Runs the fuzzer for a time and prints what came of it; ends with 1 when anything must never be."""

import argparse
import itertools
import secrets
import tempfile
import time
from pathlib import Path

from deploy.specimen import make_specimen_chain
from tests.corpus.cases import CASES, MANIFEST
from tests.fuzz.campaign import Campaign
from tests.fuzz.seeds import SEEDS
from workers.sealing import Signer

# Larger ones would take most of the time.
LARGEST = 60_000


def main() -> None:
    """Parse the command line, run, report."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long (default 60)")
    parser.add_argument("--seed", type=int, help="what the inputs depend on (default: a new one)")
    parser.add_argument("--only", type=int, metavar="INPUT", help="try one input of a seed again")
    choices = parser.parse_args()
    seed = secrets.randbelow(1_000_000) if choices.seed is None else choices.seed
    seeds = list(SEEDS)
    if MANIFEST is not None:
        seeds += [case.content for case in CASES if len(case.content) <= LARGEST]
    with tempfile.TemporaryDirectory() as folder:
        chain = make_specimen_chain(Path(folder) / "chain")
        signer = Signer.from_pem(chain.signer_key.read_bytes(), chain.chain.read_bytes())
        campaign = Campaign(seeds, signer=signer, root=chain.root.read_bytes(), seed=seed)
        numbers = itertools.count() if choices.only is None else iter([choices.only])
        report = campaign.run(numbers, until=time.monotonic() + choices.seconds)
    print(f"{report.inputs} inputs from {len(seeds)} documents, seed {seed}")
    for ending, count in report.endings.most_common():
        print(f"  {count:>7} {ending}")
    print(f"  {report.unjudged:>7} of the sealed ones were unreadable to pyHanko before and after")
    print(f"slowest: {report.slowest[0] * 1000:.0f} ms of CPU, input {report.slowest[1]}")
    for number, what in report.failures.items():
        kept = Path(tempfile.gettempdir()) / f"fuzz-{seed}-{number}.pdf"
        kept.write_bytes(campaign.input(number))
        print(f"FAILED input {number}: {what}\n  kept as {kept}")
    raise SystemExit(1 if report.failures else 0)


if __name__ == "__main__":
    main()

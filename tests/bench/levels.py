"""What a signature level costs: CPU and bytes added to a document at B-B, B-T and B-LT.

All goes the way that a worker's documents go, with warm caches, except that the timestamp authority
is asked without a network; the CPU time that it takes itself is not counted. Certificates: a signer
below an issuing authority below a root, a timestamp authority below the same root, RSA-2048, two CRLs.

Example: python -m tests.bench.levels --json
"""

import json
import logging
import statistics
import tempfile
import time
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from common import serials
from common.levels import Level
from common.partners import Mode
from deploy.sample import sample_letter, sample_of
from tests.authorities import Pki, Unruly, make_pki, serving
from tests.bench import arguments
from workers.checking import check
from workers.fetching import Fetcher
from workers.revocation import Revocation
from workers.revocation_store import RevocationStore
from workers.sealer import Sealer
from workers.sealing import Placement, Sealed, Signer, Stamp
from workers.timestamping import Timestamper

SIZES = (2_000, 355_000, 6_000_000)
LEVELS = (Level.B_B, Level.B_T, Level.B_LT)
QUICK_ROUNDS = 5


class InProcess(Fetcher):
    """Brings timestamps without a network and counts the CPU time that their authority takes."""

    def __init__(self, pki: Pki) -> None:
        super().__init__(seconds=10)
        self._pki = pki
        self.authority_ns = 0

    def post(self, url: str, content: bytes, **bounds: Any) -> bytes:
        before = time.process_time_ns()
        answer = self._pki.answer(content)
        self.authority_ns += time.process_time_ns() - before
        return answer


class Bench:
    """The three levels over one set of parts."""

    def __init__(self, pki: Pki, folder: Path) -> None:
        self._pki = pki
        self._fetcher = InProcess(pki)
        self._signer: Signer = pki.signer("rsa")
        roots = [pki.certificate("root")]
        lists = [pki.file(f"{name}.crl", pki.crl(name)) for name in ("root", "interm")]
        self._sealers = {
            level: Sealer(
                level=level,
                falls_back=False,
                timestamper=Timestamper(urls=["tsa:"], roots=roots, fetcher=self._fetcher),
                revocation=Revocation(
                    store=RevocationStore(folder), files=lists, roots=roots, fetcher=self._fetcher
                ),
                fetcher=self._fetcher,
                patience_seconds=10,
            )
            for level in LEVELS
        }

    def seal(self, level: Level, document: bytes) -> tuple[Sealed, float]:
        """Seal with a new serial; return the file and the CPU milliseconds without the authority's."""
        serial = serials.generate(Mode.TEST)
        drawn = Stamp(
            serial=serial,
            qr_text=f"HTTPS://STAMP.EXAMPLE/V/{serial}",
            face_value=10_000,
            date=date(2026, 11, 24),
            specimen=True,
            placement=Placement(),
        )
        asked, before = self._fetcher.authority_ns, time.process_time_ns()
        outcome = self._sealers[level].seal(
            document,
            [drawn],
            signer=self._signer,
            at=datetime.now(UTC),
            reason=f"[{serial}] bench",
        )
        took = time.process_time_ns() - before - (self._fetcher.authority_ns - asked)
        return outcome.sealed, took / 1e6

    def require_levels(self, document: bytes) -> None:
        """Stop unless each file has its level: a bench of other files would be worthless."""
        for level in LEVELS:
            sealed, _ = self.seal(level, document)
            checked = check(sealed.bytes, trust_roots_pem=self._pki.root_pem)
            if not checked.good or checked.signatures[0].level != level:
                raise SystemExit(f"{level} came out as {checked}")


def measure(seconds: float) -> list[dict[str, float]]:
    """Return a row per document size; the levels take turns, so that noise hits all alike."""
    rows = []
    server = Unruly()
    with tempfile.TemporaryDirectory() as folder, serving(server) as url:
        bench = Bench(make_pki(server, url, Path(folder)), Path(folder) / "revocation")
        for size in SIZES:
            document = sample_letter() if size < 10_000 else sample_of(size)
            bench.require_levels(document)
            times: dict[Level, list[float]] = {level: [] for level in LEVELS}
            added: dict[Level, int] = {}
            until = time.perf_counter() + seconds
            while len(times[Level.B_LT]) < QUICK_ROUNDS or time.perf_counter() < until:
                for level in LEVELS:
                    sealed, took = bench.seal(level, document)
                    times[level].append(took)
                    added[level] = len(sealed.revision)
            medians = {level: statistics.median(times[level]) for level in LEVELS}
            rows.append(
                {"bytes": len(document)}
                | {f"{_key(level)}_ms": medians[level] for level in LEVELS}
                | {f"{_key(level)}_added_bytes": added[level] for level in LEVELS}
                | {"b_lt_over_b_t": medians[Level.B_LT] / medians[Level.B_T]}
            )
    return rows


def _key(level: Level) -> str:
    return level.lower().replace("-", "_")


def main() -> None:
    """Print a table, and with --json one JSON object as the last line."""
    parser = arguments.parser("levels", __doc__)
    parser.add_argument("--seconds", type=float, default=6.0, help="per size (default 6)")
    choices = parser.parse_args()
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    rows = measure(choices.seconds)
    print("                       CPU ms, medians              bytes added          B-LT / B-T")
    for row in rows:
        print(
            f"{row['bytes']:>10,} bytes:"
            + "".join(f" {row[f'{_key(level)}_ms']:7.2f}" for level in LEVELS)
            + "  "
            + "".join(f" {row[f'{_key(level)}_added_bytes']:7,}" for level in LEVELS)
            + f"  {row['b_lt_over_b_t']:10.2f}"
        )
    if choices.json:
        print(json.dumps({"documents": rows}))


if __name__ == "__main__":
    main()

"""What sealing costs: our engine against the floor and against pyHanko, per document size.

The floor is what the hardware asks for: one SHA-256 over the document and one RSA-2048 signature.
pyHanko draws a stamp with a QR code and signs PAdES B-B too, once as its manual shows (key and
certificates loaded for each document) and once with the key parsed only once.

Example: python -m tests.bench.engine --json
"""

import hashlib
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, date, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pyhanko import stamp
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
from pyhanko.sign import fields, signers

from common import serials
from common.codes import CodeSigner
from common.partners import Mode
from deploy.sample import sample_letter, sample_of
from deploy.specimen import SpecimenChain, make_specimen_chain
from tests.bench import arguments, large
from workers.checking import check
from workers.sealing import Placement, Sealed, Signer, Stamp, seal

SIZES = (2_000, 355_000, 6_000_000, 50_000_000)
MEMORY_SIZE = 50_000_000
QUICK_ROUNDS = 3


def cpu_ms(work: Callable[[], Any], *, seconds: float) -> float:
    """Return the median CPU milliseconds of a call, over as many as fit into the time."""
    work()
    times: list[int] = []
    until = time.perf_counter() + seconds
    while len(times) < QUICK_ROUNDS or time.perf_counter() < until:
        before = time.process_time_ns()
        work()
        times.append(time.process_time_ns() - before)
    return statistics.median(times) / 1e6


class Contest:
    """One document size: the four ways to seal it."""

    def __init__(self, document: bytes, chain: SpecimenChain) -> None:
        """Take the document and the chain that all sign with."""
        self.document = document
        self.chain = chain
        self.signer = Signer.from_pem(chain.signer_key.read_bytes(), chain.chain.read_bytes())
        # A worker has the hash with the job; signing the code is part of what is measured.
        self.document_sha256 = hashlib.sha256(document).digest()
        self.codes = CodeSigner(
            Ed25519PrivateKey.generate(), public_url="https://verifikasi.example.go.id"
        )
        self.pyhanko_signer = self._load_pyhanko()

    def ours(self) -> Sealed:
        """Seal with a new serial, so that nothing of the drawing can be reused.

        As the product does: into two chunks, which are stored one behind the other.
        """
        serial = serials.generate(Mode.TEST)
        drawn = Stamp(
            serial=serial,
            qr_text=self.codes.text(
                serial=serial, day=date(2026, 11, 24), document_sha256=self.document_sha256
            ),
            face_value=10_000,
            date=date(2026, 11, 24),
            specimen=True,
            placement=Placement(),
        )
        now = datetime.now(UTC)
        return seal(self.document, [drawn], signer=self.signer, at=now, reason=f"[{serial}] bench")

    def floor(self) -> bytes:
        """Hash and sign, and nothing else."""
        return self.signer.sign(hashlib.sha256(self.document).digest())

    def pyhanko(self) -> bytes:
        """Sign as pyHanko's manual shows."""
        return self._pyhanko(self._load_pyhanko())

    def pyhanko_cached_key(self) -> bytes:
        """Sign with pyHanko, its key and certificates parsed once."""
        return self._pyhanko(self.pyhanko_signer)

    def _load_pyhanko(self) -> signers.SimpleSigner:
        # pyHanko wants the leaf in a file of its own.
        leaf, issuer = self.chain.chain.with_name("leaf.pem"), self.chain.chain.with_name("ca.pem")
        if not leaf.exists():
            end = b"-----END CERTIFICATE-----\n"
            first, _, rest = self.chain.chain.read_bytes().partition(end)
            leaf.write_bytes(first + end)
            issuer.write_bytes(rest)
        signer: signers.SimpleSigner | None = signers.SimpleSigner.load(  # type: ignore[no-untyped-call]
            str(self.chain.signer_key), str(leaf), ca_chain_files=(str(issuer),)
        )
        if signer is None:
            raise SystemExit("pyHanko could not load the key")
        return signer

    def _pyhanko(self, signer: signers.SimpleSigner) -> bytes:
        serial = serials.generate(Mode.TEST)
        writer = IncrementalPdfFileWriter(BytesIO(self.document))
        signature = signers.PdfSigner(
            signers.PdfSignatureMetadata(
                field_name=f"Stampede {serial}",
                reason=f"[{serial}] bench",
                subfilter=fields.SigSeedSubFilter.PADES,
            ),
            signer=signer,
            stamp_style=stamp.QRStampStyle(stamp_text=f"SPECIMEN\n{serial}\n%(ts)s"),
            new_field_spec=fields.SigFieldSpec(
                f"Stampede {serial}", on_page=-1, box=(491, 24, 571, 104)
            ),
        )
        out = BytesIO()
        signature.sign_pdf(
            writer,
            output=out,
            appearance_text_params={"url": f"https://stamp.example/v/{serial}"},
        )
        return out.getvalue()

    def require_valid(self) -> None:
        """Stop unless both engines' results verify: a bench of invalid files would be worthless."""
        root = self.chain.root.read_bytes()
        for name, sealed in (("ours", self.ours().bytes), ("pyHanko", self.pyhanko())):
            if not check(sealed, trust_roots_pem=root).good:
                raise SystemExit(f"{name} made a file that does not verify")


def measure(seconds: float) -> dict[str, Any]:
    """Return a row per document size, and what memory and pages cost."""
    rows: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        chain = make_specimen_chain(Path(folder) / "chain")
        for size in SIZES:
            document = sample_letter() if size < 10_000 else sample_of(size)
            contest = Contest(document, chain)
            contest.require_valid()
            rows.append(
                {
                    "bytes": len(document),
                    "pages": 1,
                    "seal_ms": cpu_ms(contest.ours, seconds=seconds),
                    "floor_ms": cpu_ms(contest.floor, seconds=seconds),
                    "pyhanko_ms": cpu_ms(contest.pyhanko, seconds=seconds),
                    "pyhanko_cached_key_ms": cpu_ms(contest.pyhanko_cached_key, seconds=seconds),
                    "added_bytes": len(contest.ours().revision),
                }
            )
        signer = Signer.from_pem(chain.signer_key.read_bytes(), chain.chain.read_bytes())
        return {
            "documents": rows,
            "page_independence": large.page_independence(signer),
            "peak_memory_ratio": large.peak_memory_ratio(MEMORY_SIZE),
        }


def main() -> None:
    """Print a table, and with --json one JSON object as the last line."""
    parser = arguments.parser("engine", __doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="per figure (default 3)")
    choices = parser.parse_args()
    found = measure(choices.seconds)
    print("CPU ms per document, medians      x floor   pyHanko / ours   (key parsed once)")
    for row in found["documents"]:
        print(
            f"{row['bytes']:>10,} bytes: {row['seal_ms']:7.2f} ms"
            f"   {row['seal_ms'] / row['floor_ms']:8.1f}"
            f"   {row['pyhanko_ms'] / row['seal_ms']:14.1f}"
            f"   {row['pyhanko_cached_key_ms'] / row['seal_ms']:17.1f}"
        )
    for build, ratio in found["page_independence"].items():
        print(f"2,000 pages against 2 of as many bytes, {build}: {ratio:.2f}")
    print(f"peak memory at {MEMORY_SIZE:,} bytes: {found['peak_memory_ratio']:.2f} times the file")
    if choices.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()

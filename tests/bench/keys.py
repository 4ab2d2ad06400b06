"""What sealing costs by the key that signs: CPU milliseconds per letter of 355 KB, and the key's part.

With SoftHSM installed the same again for keys on a token. SoftHSM works in this process, so its time
counts; an HSM of its own would take waiting time instead.

Example: python -m tests.bench.keys --json
"""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from common import serials
from common.partners import Mode
from deploy.sample import sample_of
from tests.bench import arguments
from tests.bench.engine import cpu_ms
from tests.chains import KINDS, issue, key_of
from tests.softhsm import MODULE, PIN, SoftToken
from workers.checking import check
from workers.sealing import Placement, Signer, Stamp, seal
from workers.sealing.signing import hsm
from workers.sealing.signing.hsm import TokenKey

SIZE = 355_000


def measure(document: bytes, signer: Signer, root_pem: bytes, seconds: float) -> dict[str, Any]:
    """Return the figures of one key; stops unless what it seals is valid."""

    def ours() -> bytes:
        serial = serials.generate(Mode.TEST)
        drawn = Stamp(
            serial=serial,
            qr_text=f"HTTPS://STAMP.EXAMPLE/V/{serial}",
            face_value=10_000,
            date=date(2026, 11, 24),
            specimen=True,
            placement=Placement(),
        )
        now = datetime.now(UTC)
        return seal(document, [drawn], signer=signer, at=now, reason=f"[{serial}] bench").bytes

    if not check(ours(), trust_roots_pem=root_pem).good:
        raise SystemExit(f"{signer.algorithm.name}: a file that does not verify")
    return {
        "seal_ms": cpu_ms(ours, seconds=seconds),
        "sign_ms": cpu_ms(lambda: signer.sign(bytes(300)), seconds=seconds),
        "added_bytes": len(ours()) - len(document),
    }


@contextmanager
def soft_token() -> Iterator[SoftToken]:
    """Make a token in a folder that is thrown away."""
    with tempfile.TemporaryDirectory() as folder:
        token = SoftToken(Path(folder))
        os.environ["SOFTHSM2_CONF"] = str(token.configuration)
        try:
            yield token
        finally:
            hsm.close()


def main() -> None:
    """Print a table, and with --json one JSON object as the last line."""
    parser = arguments.parser("keys", __doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="per figure (default 2)")
    choices = parser.parse_args()
    document = sample_of(SIZE)
    rows: list[dict[str, Any]] = []
    print(f"CPU ms per document of {len(document):,} bytes, medians")

    def add(source: str, signer: Signer, root_pem: bytes) -> None:
        row = {"algorithm": signer.algorithm.name, "source": source}
        row |= measure(document, signer, root_pem, choices.seconds)
        rows.append(row)
        print(
            f"{row['algorithm']:>13} {source:<8} seal {row['seal_ms']:6.2f}"
            f"   of it signing {row['sign_ms']:6.2f}   adds {row['added_bytes']:,} bytes"
        )

    for kind in KINDS:
        key: Any = key_of(kind)
        issued = issue(key.public_key())
        add("memory", Signer.from_key(key, issued.chain, pss="PSS" in kind), issued.root_pem)
    if MODULE.exists():
        for kind in KINDS:
            key = key_of(kind)
            issued = issue(key.public_key())
            with soft_token() as token:
                token.store(key, label="key", key_id="01")
                place = TokenKey(module=MODULE, token=token.label, pin=PIN, label="key")
                add("SoftHSM", hsm.load(place, issued.chain, pss="PSS" in kind), issued.root_pem)
    if choices.json:
        print(json.dumps({"bytes": len(document), "keys": rows}))


if __name__ == "__main__":
    main()

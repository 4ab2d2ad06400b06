"""What a large document costs in memory, and many pages in time.

Run as a program, it stores a document of the size asked for, reads, seals and stores it as a worker
does, and prints how much memory that took beyond the document-less process, as a multiple of the
document's size.

Example: python -m tests.bench.large 50000000
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from common.documents import Documents
from common.identifiers import new_id
from deploy.sample import sample_of
from deploy.specimen import make_specimen_chain
from tests.bench.processes import peak_memory
from tests.unit.sealing.conftest import stamp
from tests.unit.sealing.documents import classic, objects, streamed
from workers.sealing import Signer, seal

FEW_PAGES, MANY_PAGES = 2, 2000
PAGES_BYTES = 400_000
BUILDS: dict[str, Callable[..., bytes]] = {"table": classic, "stream": streamed}


def peak_memory_ratio(size: int) -> float:
    """Return the peak of a fresh process over its baseline, as a multiple of the document."""
    run = subprocess.run(
        [sys.executable, "-m", __name__, str(size)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    return float(run.stdout)


def page_independence(signer: Signer) -> dict[str, float]:
    """Return, by kind of cross-reference, what many pages cost against few in as many bytes."""
    found = {}
    for name, build in BUILDS.items():
        few, many = (document_of(pages, build) for pages in (FEW_PAGES, MANY_PAGES))
        # In turns, so that whatever else the machine does falls on both.
        times: dict[bytes, list[int]] = {few: [], many: []}
        for _ in range(100):
            for document, taken in times.items():
                before = time.process_time_ns()
                seal(document, [stamp()], signer=signer, at=datetime.now(UTC), reason="bench")
                taken.append(time.process_time_ns() - before)
        found[name] = statistics.median(times[many]) / statistics.median(times[few])
    return found


def document_of(pages: int, build: Callable[..., bytes]) -> bytes:
    """Return a document of so many pages, filled up to PAGES_BYTES with what no page shows."""
    made = objects(count=pages)
    room = PAGES_BYTES - len(build(made))
    made[5] = b"<</Length %d>>stream\n%s\nendstream" % (room, os.urandom(room))
    return build(made)


def main() -> None:
    """Measure this process; what it needs to make the document is another's."""
    size = int(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        chain = make_specimen_chain(Path(folder) / "chain")
        signer = Signer.from_pem(chain.signer_key.read_bytes(), chain.chain.read_bytes())
        store = Documents((Path(folder) / "objects").as_uri())
        original, result = f"ab/{new_id()}.pdf", f"ab/{new_id()}.pdf"
        child = os.fork()
        if child == 0:
            (Path(folder) / "objects" / original).write_bytes(sample_of(size))
            os._exit(0)
        os.waitpid(child, 0)
        baseline = peak_memory()
        document = store.get(original)
        at = datetime.now(UTC)
        sealed = seal(document, [stamp()], signer=signer, at=at, reason="bench")
        store.put(result, sealed.chunks)
        print((peak_memory() - baseline) / len(document))


if __name__ == "__main__":
    main()

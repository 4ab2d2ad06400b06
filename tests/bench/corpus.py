"""How many real documents are sealed, by class: our engine beside pyHanko on the same files.

Both stamp the last page and sign PAdES B-B. A document that comes out counts as sealed when pyHanko
finds its last signature intact and over the whole file, as failed when not, or when the engine fell
over or took more than its time; a refusal with a reason is no failure. pyHanko is asked with
`strict=False` and signs in a process of its own, which is ended when it does not.

Example: python -m tests.bench.corpus --json
"""

import json
import logging
import multiprocessing
import tempfile
from collections import Counter
from collections.abc import Callable
from io import BytesIO
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
from pyhanko.pdf_utils.misc import PdfError
from pyhanko.sign import fields, signers
from pyhanko.sign.general import SigningError

from deploy.specimen import SpecimenChain, make_specimen_chain
from tests.bench import arguments
from tests.bench.engine import Contest
from tests.corpus.cases import CASES, MANIFEST, Case
from tests.unit.sealing.conftest import AT, stamp
from workers.checking import check
from workers.sealing import SealingError, seal

SECONDS = 20.0
OUTCOMES = ("sealed", "refused", "failed")

Engine = Callable[[Contest], bytes]


class RefusedError(Exception):
    """The engine says that it will not, and why."""


def ours(contest: Contest) -> bytes:
    """Seal."""
    try:
        return seal(
            contest.document, [stamp()], signer=contest.signer, at=AT, reason="corpus"
        ).bytes
    except SealingError as error:
        raise RefusedError(error.code) from error


def pyhanko(contest: Contest) -> bytes:
    """Sign with pyHanko, with a visible field where our stamp would be."""
    try:
        writer = IncrementalPdfFileWriter(BytesIO(contest.document), strict=False)
        signer = signers.PdfSigner(
            signers.PdfSignatureMetadata(
                field_name="Stamp", reason="corpus", subfilter=fields.SigSeedSubFilter.PADES
            ),
            signer=contest.pyhanko_signer,
            new_field_spec=fields.SigFieldSpec("Stamp", on_page=-1, box=(491, 24, 571, 104)),
        )
        out = BytesIO()
        signer.sign_pdf(writer, output=out)
        return out.getvalue()
    except (PdfError, SigningError) as error:
        raise RefusedError(str(error)) from error


def outcome(engine: Engine, case: Case, chain: SpecimenChain) -> str:
    """Return how a document ends with an engine, tried in a process of its own."""
    receiving, sending = multiprocessing.Pipe(duplex=False)
    child = multiprocessing.Process(target=_try, args=(engine, case, chain, sending))
    child.start()
    sending.close()
    try:
        return str(receiving.recv()) if receiving.poll(SECONDS) else "failed"
    except EOFError:
        return "failed"
    finally:
        child.kill()
        child.join()


def _try(engine: Engine, case: Case, chain: SpecimenChain, answer: Connection) -> None:
    logging.disable(logging.CRITICAL)
    try:
        result = engine(Contest(case.content, chain))
        last = check(result, trust_roots_pem=chain.root.read_bytes()).signatures[-1]
        good = last.intact and last.trusted and last.whole_file
        answer.send("sealed" if good else "failed")
    except RefusedError:
        answer.send("refused")
    except Exception:
        answer.send("failed")


def measure() -> dict[str, Any]:
    """Return the outcomes of both engines for every class, and for all documents."""
    tallies: dict[str, dict[str, Counter[str]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        chain = make_specimen_chain(Path(folder) / "chain")
        for case in CASES:
            for name, engine in (("ours", ours), ("pyhanko", pyhanko)):
                ended = outcome(engine, case, chain)
                for group in ("all", f"expected {case.expected}", *case.classes):
                    tally = tallies.setdefault(group, {"ours": Counter(), "pyhanko": Counter()})
                    tally[name][ended] += 1
    return {
        "documents": len(CASES),
        "classes": [
            {
                "class": group,
                **{name: {each: tally[name][each] for each in OUTCOMES} for name in tally},
            }
            for group, tally in sorted(tallies.items(), key=lambda item: _rank(item[0]))
        ],
    }


def _rank(group: str) -> tuple[bool, bool, str]:
    return group != "all", not group.startswith("expected"), group


def main() -> None:
    """Print a table, and with --json one JSON object as the last line."""
    parser = arguments.parser("corpus", __doc__)
    choices = parser.parse_args()
    found = measure()
    print(f"{found['documents']} documents" + ("" if MANIFEST else ", made by the tests"))
    print(f"{'':24}{'ours':>26}{'pyHanko':>30}")
    print(f"{'class':24}" + 2 * f"{'sealed':>10}{'refused':>10}{'failed':>8}  ")
    for row in found["classes"]:
        counts = "".join(
            f"{row[name]['sealed']:>10}{row[name]['refused']:>10}{row[name]['failed']:>8}  "
            for name in ("ours", "pyhanko")
        )
        print(f"{row['class']:24}{counts}")
    if choices.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()

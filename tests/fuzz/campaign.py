"""Seals mutated documents, one after the other, and notes whatever must never happen."""

import logging
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from random import Random

from asn1crypto import pem
from asn1crypto.x509 import Certificate
from pyhanko.pdf_utils.reader import PdfFileReader
from pyhanko.sign.validation import validate_pdf_signature
from pyhanko.sign.validation.status import PdfSignatureStatus, SignatureCoverageLevel
from pyhanko_certvalidator import ValidationContext

from tests.fuzz.mutations import mutate
from tests.unit.sealing.conftest import AT, stamp
from workers.sealing import SealingError, Signer, seal

SECONDS = 2.0

# It has a line to say for each chain of certificates that it cannot build.
logging.getLogger("pyhanko").setLevel(logging.CRITICAL)
logging.getLogger("pyhanko_certvalidator").setLevel(logging.CRITICAL)


@dataclass
class Report:
    """What came of the inputs."""

    inputs: int = 0
    endings: Counter[str] = field(default_factory=Counter)
    # Sealed, but pyHanko cannot read the file, as it could not before it was sealed.
    unjudged: int = 0
    # CPU seconds of the slowest input, and which it was.
    slowest: tuple[float, int] = (0.0, 0)
    # Inputs that must never be, by their number: what happened.
    failures: dict[int, str] = field(default_factory=dict)


class Campaign:
    """One run over seed documents; every input depends on the seed and its own number alone."""

    def __init__(self, seeds: Sequence[bytes], *, signer: Signer, root: bytes, seed: int) -> None:
        """Take the documents to mutate, a key with its root, and what the chances depend on."""
        self._seeds = seeds
        self._signer = signer
        self._root = Certificate.load(pem.unarmor(root)[2])
        self._seed = seed
        self.report = Report()

    def input(self, number: int) -> bytes:
        """Return an input by its number."""
        return mutate(Random(f"{self._seed}:{number}"), self._seeds)

    def run(self, numbers: Iterator[int] | range, *, until: float | None = None) -> Report:
        """Try inputs, until a time of the monotonic clock or the numbers end."""
        for number in numbers:
            if until is not None and time.monotonic() >= until:
                break
            self._try(number)
        return self.report

    def _try(self, number: int) -> None:
        document = self.input(number)
        started = time.process_time()
        try:
            result = seal(document, [stamp()], signer=self._signer, at=AT, reason="fuzz").bytes
        except SealingError as error:
            ending, result = error.code, None
        except Exception as error:
            ending, result = "crash", None
            self.report.failures[number] = f"{type(error).__name__}: {error}"
        else:
            ending = "sealed"
        seconds = time.process_time() - started
        self.report.inputs += 1
        self.report.endings[ending] += 1
        self.report.slowest = max(self.report.slowest, (seconds, number))
        if seconds > SECONDS:
            self.report.failures[number] = f"took {seconds:.1f} s"
        if result is not None and (wrong := self._judge(document, result)) is not None:
            self.report.failures[number] = wrong

    def _judge(self, document: bytes, result: bytes) -> str | None:
        """Say what pyHanko finds wrong with a sealed document."""
        if not result.startswith(document):
            return "the document's own bytes were changed"
        try:
            last = self._last_signature(result)
        except Exception as error:
            # pyHanko raises whatever the damage leads to.
            if self._could_be_read(document):
                return f"pyHanko cannot read it: {type(error).__name__}: {error}"
            self.report.unjudged += 1
            return None
        whole = last.coverage is SignatureCoverageLevel.ENTIRE_FILE
        if not (last.intact and last.valid and last.trusted and whole):
            return f"pyHanko finds it not intact: {last.summary()}"
        return None

    def _last_signature(self, document: bytes) -> PdfSignatureStatus:
        """Validate our own signature; what the damage did to an earlier one is not ours."""
        last = PdfFileReader(BytesIO(document), strict=False).embedded_signatures[-1]
        return validate_pdf_signature(last, ValidationContext(trust_roots=[self._root]))

    def _could_be_read(self, document: bytes) -> bool:
        """Say whether pyHanko gets as far as to the fields and pages of a document."""
        try:
            reader = PdfFileReader(BytesIO(document), strict=False)
            len(reader.embedded_signatures)
            len(reader.root["/Pages"]["/Kids"])
        except Exception:
            return False
        return True

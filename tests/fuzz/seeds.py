"""The documents that are mutated: every kind that the tests make, small ones."""

from deploy.sample import sample_letter
from tests.unit.sealing.test_kinds_of_documents import BEHIND_JUNK, KINDS
from tests.unit.sealing.test_repair import SOUND
from tests.unit.sealing.test_seal import BUILDS, REFUSED

_LARGEST = 20_000

SEEDS = tuple(
    document
    for document in (
        sample_letter(),
        *BUILDS.values(),
        *KINDS.values(),
        *SOUND.values(),
        *BEHIND_JUNK.values(),
        *(document for document, _ in REFUSED.values()),
    )
    if 0 < len(document) <= _LARGEST
)

"""Draws stamps on a PDF and signs it: bytes in, bytes out.

    document.py    reads the few objects that are needed     xref.py, streams.py   finds them
    repair.py      finds them where the file is damaged      scan.py               by its text alone
    pages.py       straight to one page of the tree
    locate.py      where each stamp goes: asks               placement.py   geometry on the page
    text.py        where words stand                         room.py        where a page is empty
    fields.py      fields that the document has              seeds.py       what they ask for
    pdfium.py      what only a renderer knows                permissions.py what earlier signatures allow
    appearance.py, lettering.py, matrix.py   what is drawn   design.py      an issuer's own stamp
    structure.py   tagged documents
    annotations.py the stamps in the document                revision.py    the appended revision
    signing.py     the signature's place in the file         signature.py   PAdES
    keys.py        the key that signs                        algorithms.py  what it may be
    hsm.py         keys that a token keeps

Imports nothing of ours, so that it can be read, tested and timed alone. Earlier bytes of a document
are never touched: all that is new comes behind them, as one more revision (ISO 32000-2, 7.5.6).
"""

from workers.sealing.algorithms import KeyUnusableError
from workers.sealing.design import Design
from workers.sealing.errors import DesignError, SealingError
from workers.sealing.keys import Signer
from workers.sealing.placement import Box, Placement
from workers.sealing.seal import draw, seal
from workers.sealing.stamps import Drawn, Sealed, Stamp

__all__ = [
    "Box",
    "Design",
    "DesignError",
    "Drawn",
    "KeyUnusableError",
    "Placement",
    "Sealed",
    "SealingError",
    "Signer",
    "Stamp",
    "draw",
    "seal",
]

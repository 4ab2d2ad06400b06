"""Draws stamps on a PDF and signs it: bytes in, bytes out.

    seal.py      the whole way, in the order below      stamps.py, errors.py   what goes in and comes out
    reading/     the few objects that are needed, from sound files and damaged ones
    placing/     where each stamp goes
    drawing/     what a stamp looks like, and the stamps in the document
    signing/     what the signature may be, holds and is made by
    revision.py  the appended revision that all of it is written into

Imports nothing of ours, so that it can be read, tested and timed alone. Earlier bytes of a document
are never touched: all that is new comes behind them, as one more revision (ISO 32000-2, 7.5.6).
"""

from workers.sealing.drawing.design import Design
from workers.sealing.errors import DesignError, SealingError
from workers.sealing.placing.placement import Box, Placement
from workers.sealing.seal import draw, seal
from workers.sealing.signing.algorithms import KeyUnusableError
from workers.sealing.signing.byte_range import add_timestamp
from workers.sealing.signing.keys import Signer
from workers.sealing.signing.security_store import Evidence
from workers.sealing.signing.timestamp import TokenTooLongError
from workers.sealing.stamps import Drawn, Sealed, Stamp

__all__ = [
    "Box",
    "Evidence",
    "Design",
    "DesignError",
    "Drawn",
    "KeyUnusableError",
    "Placement",
    "Sealed",
    "SealingError",
    "Signer",
    "Stamp",
    "TokenTooLongError",
    "add_timestamp",
    "draw",
    "seal",
]

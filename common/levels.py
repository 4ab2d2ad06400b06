"""Signature levels: what a signature brings along for whoever checks it later."""

from enum import StrEnum


class Level(StrEnum):
    """The levels of PAdES (ETSI EN 319 142-1, 6); `CMS` is a signature that is not PAdES.

    B-B is the signature alone, B-T has a timestamp, B-LT the certificates and revocation data too, and
    B-LTA a document timestamp over these.
    """

    CMS = "CMS"
    B_B = "B-B"
    B_T = "B-T"
    B_LT = "B-LT"
    B_LTA = "B-LTA"

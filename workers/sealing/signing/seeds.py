"""What a signature field asks of its signature: seed values (ISO 32000-2, 12.7.5.5, tables 237 and 238).

What a field requires and we cannot give is refused with the reason: a signature that breaks its
field's own terms is worth nothing to who set them. What is only wished for is passed over.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding
from pypdf.generic import ArrayObject, ByteStringObject, DictionaryObject, TextStringObject

from workers.sealing.errors import SealingError
from workers.sealing.placing.fields import Field
from workers.sealing.reading.document import Document
from workers.sealing.signing.keys import Signer

# The version of the seed values that we know.
_VERSION = 3
_TIMESTAMP = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What our signature is going to be."""

    reason: str
    signer: Signer
    timestamped: bool = False


def refuse_unmet(document: Document, field: Field, offer: Offer) -> None:
    """Refuse a field whose required seed values our signature would not meet.

    Raises:
        SealingError: `field_unusable`, with the constraint.
    """
    seeds = document.resolve(field.values.get("/SV"))
    if not isinstance(seeds, DictionaryObject):
        return
    required = _integer(document, seeds.get("/Ff"))
    for bit, (key, met) in enumerate(_CONSTRAINTS):
        value = document.resolve(seeds.get(key))
        if required & 1 << bit and value is not None and not met(document, value, offer):
            raise _unmet(field, key)
    # These say for themselves whether they are required.
    kind = document.resolve(seeds.get("/MDP"))
    if isinstance(kind, DictionaryObject) and _integer(document, kind.get("/P")) != 0:
        raise _unmet(field, "/MDP")
    timestamp = document.resolve(seeds.get("/TimeStamp"))
    if isinstance(timestamp, DictionaryObject):
        wanted = _integer(document, timestamp.get("/Ff")) & _TIMESTAMP
        if wanted and not offer.timestamped:
            raise _unmet(field, "/TimeStamp")
    certificate = document.resolve(seeds.get("/Cert"))
    if isinstance(certificate, DictionaryObject):
        _refuse_other_certificate(document, field, certificate, offer.signer)


def _refuse_other_certificate(
    document: Document, field: Field, seeds: DictionaryObject, signer: Signer
) -> None:
    """Refuse where the signer's certificate, or who issued it, must be another."""
    required = _integer(document, seeds.get("/Ff"))
    ours = [certificate.public_bytes(Encoding.DER) for certificate in signer.certificates]
    for bit, (key, candidates) in enumerate((("/Subject", ours[:1]), ("/Issuer", ours))):
        named = [_bytes(document.resolve(item)) for item in document.items(seeds.get(key))]
        if required & 1 << bit and named and not set(named) & set(candidates):
            raise _unmet(field, f"/Cert {key}")
    # Policies, names, uses of the key, an address to enrol at: not ours to promise.
    for bit, key in ((2, "/OID"), (3, "/SubjectDN"), (5, "/KeyUsage"), (6, "/URL")):
        if required & 1 << bit and document.resolve(seeds.get(key)) is not None:
            raise _unmet(field, f"/Cert {key}")


def _one_of(*ours: str) -> Callable[[Document, Any, Offer], bool]:
    """Return a test for a name, or for an array that lists it."""

    def met(document: Document, value: Any, _: Offer) -> bool:
        listed = document.items(value) if isinstance(value, ArrayObject) else [value]
        return any(str(document.resolve(item)) in ours for item in listed)

    return met


def _version(_: Document, value: Any, __: Offer) -> bool:
    return isinstance(value, int | float) and value <= _VERSION


def _reason(document: Document, value: Any, offer: Offer) -> bool:
    return offer.reason in [str(document.resolve(item)) for item in document.items(value)]


def _digest(document: Document, value: Any, offer: Offer) -> bool:
    """Say whether the digest is listed that the key signs; pyHanko writes them in small letters."""
    ours = offer.signer.algorithm.digest
    return _one_of(ours.upper(), ours.lower())(document, value, offer)


def _never(_: Document, __: Any, ___: Offer) -> bool:
    return False


def _not_wanted(_: Document, value: Any, __: Offer) -> bool:
    return str(value).lower() in ("false", "/false", "/auto")


# In the order of the bits of /Ff, from bit 1.
_CONSTRAINTS: tuple[tuple[str, Callable[[Document, Any, Offer], bool]], ...] = (
    ("/Filter", _one_of("/Adobe.PPKLite")),
    ("/SubFilter", _one_of("/ETSI.CAdES.detached")),
    ("/V", _version),
    ("/Reasons", _reason),
    ("/LegalAttestation", _never),
    ("/AddRevInfo", _not_wanted),
    ("/DigestMethod", _digest),
    ("/LockDocument", _not_wanted),
    ("/AppearanceFilter", _never),
)


def _integer(document: Document, value: Any) -> int:
    number = document.resolve(value)
    return int(number) if isinstance(number, int) else 0


def _bytes(value: Any) -> bytes:
    if isinstance(value, TextStringObject):
        return value.original_bytes
    return bytes(value) if isinstance(value, ByteStringObject) else b""


def _unmet(field: Field, key: str) -> SealingError:
    return SealingError("field_unusable", field=field.name, reason=f"seed value {key.lstrip('/')}")

"""The document security store: what a reader needs to check the signature without asking anybody.

ISO 32000-2, 12.8.4.3; ETSI EN 319 142-1, 5.4.2. It is written into the revision that is signed, so no
second revision is needed. What a document's store has already is kept, and nothing stands there twice.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pypdf.generic import ArrayObject, DictionaryObject, IndirectObject, NameObject, StreamObject

from workers.sealing.errors import SealingError
from workers.sealing.reading.document import Document
from workers.sealing.reading.streams import decoded
from workers.sealing.revision import Revision

# A store with more is not read for what it has: some things may then stand there twice.
_LOOKED_AT = 100


# Compared by identity: the same evidence serves many documents and is serialised once.
@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """Certificates, CRLs and OCSP responses, DER each."""

    certificates: tuple[bytes, ...]
    crls: tuple[bytes, ...] = ()
    ocsp_responses: tuple[bytes, ...] = ()


def add(source: Document, revision: Revision, evidence: Evidence) -> None:
    """Put the evidence into the revision, and into the catalogue where to find it.

    Raises:
        SealingError: `document_unreadable`, when the document has a store of another shape.
    """
    raw = source.root.raw_get("/DSS") if "/DSS" in source.root else None
    store = source.resolve(raw)
    if store is not None and not isinstance(store, DictionaryObject):
        raise SealingError("document_unreadable", reason="security store")
    changed = DictionaryObject()
    if store is not None:
        for key in store:
            changed[NameObject(key)] = store.raw_get(key)
    for key, streams in _streams(evidence):
        before = source.resolve(changed.raw_get(key)) if key in changed else None
        if before is not None and not isinstance(before, ArrayObject):
            raise SealingError("document_unreadable", reason="security store")
        known = _contents(source, before or ArrayObject())
        items = ArrayObject(before or ())
        for content, stream in streams:
            if content not in known:
                number = revision.reserve()
                revision.put(number, stream)
                items.append(IndirectObject(number, 0, source))
        if items:
            changed[NameObject(key)] = items
    if isinstance(raw, IndirectObject) and store is not None:
        revision.replace(raw, changed)
    else:
        revision.extend(source.root_reference, source.root, "/DSS", changed)


@lru_cache(maxsize=8)
def _streams(evidence: Evidence) -> tuple[tuple[str, tuple[tuple[bytes, bytes], ...]], ...]:
    """Return, by their key in the store, the contents with the streams that hold them."""
    return tuple(
        (key, tuple((content, _stream(content)) for content in contents))
        for key, contents in (
            ("/Certs", evidence.certificates),
            ("/CRLs", evidence.crls),
            ("/OCSPs", evidence.ocsp_responses),
        )
    )


def _stream(content: bytes) -> bytes:
    return b"<</Length %d>>stream\n%s\nendstream" % (len(content), content)


def _contents(source: Document, items: ArrayObject) -> set[bytes]:
    """Return what the streams of a document's store hold."""
    if len(items) > _LOOKED_AT:
        return set()
    streams: list[Any] = [source.resolve(item) for item in items]
    return {
        decoded(stream, "security store", source.budget)
        for stream in streams
        if isinstance(stream, StreamObject)
    }

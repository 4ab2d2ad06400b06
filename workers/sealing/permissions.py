"""What earlier signatures allow: certification and locks (ISO 32000-2, 12.8.2.2 and 12.8.2.4)."""

from collections.abc import Iterator
from typing import Any

from pypdf.generic import ArrayObject, DictionaryObject

from workers.sealing.document import MAX_DEPTH, MAX_NODES, Document
from workers.sealing.errors import SealingError

NO_CHANGES = 1


def refuse_forbidden(document: Document) -> None:
    """Refuse a document whose earlier signatures do not allow another one.

    Raises:
        SealingError: `document_certified`, when it is certified 'no changes';
            `document_locked`, when a later signature forbade any change.
    """
    permissions = document.resolve(document.root.get("/Perms"))
    if isinstance(permissions, DictionaryObject):
        certification = document.resolve(permissions.get("/DocMDP"))
        if _allowed(document, certification) == NO_CHANGES:
            raise SealingError("document_certified")
    for field in fields(document):
        if document.resolve(field.get("/FT")) != "/Sig":
            continue
        value = document.resolve(field.get("/V"))
        if value is None:
            continue
        lock = document.resolve(field.get("/Lock"))
        locked = isinstance(lock, DictionaryObject) and document.resolve(lock.get("/P"))
        if locked == NO_CHANGES or _allowed(document, value) == NO_CHANGES:
            raise SealingError("document_locked", field=str(field.get("/T", "")))


def fields(document: Document) -> Iterator[DictionaryObject]:
    """Yield every form field, parents before their kids."""
    form = document.resolve(document.root.get("/AcroForm"))
    if not isinstance(form, DictionaryObject):
        return
    pending = [(kid, 0) for kid in _items(document, form.get("/Fields"))]
    visited = 0
    while pending:
        reference, depth = pending.pop()
        visited += 1
        if visited > MAX_NODES or depth > MAX_DEPTH:
            raise SealingError("document_unprocessable", reason="form fields")
        field = document.resolve(reference)
        if isinstance(field, DictionaryObject):
            yield field
            pending += [(kid, depth + 1) for kid in _items(document, field.get("/Kids"))]


def _items(document: Document, value: Any) -> list[Any]:
    items = document.resolve(value)
    return list(items) if isinstance(items, ArrayObject) else []


def _allowed(document: Document, signature: Any) -> int | None:
    """Return the access that a signature's DocMDP transform leaves (table 257), if it has one."""
    if not isinstance(signature, DictionaryObject):
        return None
    for item in _items(document, signature.get("/Reference")):
        reference = document.resolve(item)
        if not isinstance(reference, DictionaryObject):
            continue
        if document.resolve(reference.get("/TransformMethod")) != "/DocMDP":
            continue
        parameters = document.resolve(reference.get("/TransformParams"))
        if not isinstance(parameters, DictionaryObject):
            return 2
        access = document.resolve(parameters.get("/P", 2))
        return int(access) if isinstance(access, int) else 2
    return None

"""What earlier signatures allow: certification and locks (ISO 32000-2, 12.8.2.2 and 12.8.2.4).

A new stamp adds a signature field. A certification forbids that at every level (level 1 any change,
levels 2 and 3 all but filling in what is there and, at 3, comments), and so does a lock that covers
the new field's name. Both are refused: the stamp would be valid and the earlier signature broken.
A stamp that fills an empty field of the document is form filling, and allowed at levels 2 and 3.
"""

from collections.abc import Iterator
from typing import Any

from pypdf.generic import DictionaryObject

from workers.sealing.errors import SealingError
from workers.sealing.reading.document import MAX_DEPTH, MAX_NODES, Document

# What a transform without its own parameter allows (table 257).
_DEFAULT_ACCESS = 2
_NO_CHANGES = 1
_ACCESSES = (1, 2, 3)
# Stands in every signature's dictionary, and never in an object stream: /Contents has its place.
_SIGNED = b"/ByteRange"


def refuse_forbidden(document: Document, field_name: str, *, exists: bool = False) -> bool:
    """Refuse a document whose earlier signatures do not allow a field of this name to be signed.

    Returns whether there are earlier signatures.

    Args:
        document: the document.
        field_name: the full name of the field.
        exists: whether the document has the field, so that it is only filled in.

    Raises:
        SealingError: `document_certified`, with the access that the certification leaves;
            `document_locked`, with the field whose signature locks.
    """
    permissions = document.resolve(document.root.get("/Perms"))
    if isinstance(permissions, DictionaryObject):
        certification = document.resolve(permissions.get("/DocMDP"))
        if isinstance(certification, DictionaryObject):
            access = _document_access(document, certification) or _DEFAULT_ACCESS
            if access == _NO_CHANGES or not exists:
                raise SealingError("document_certified", access=access)
    signed = list(signed_fields(document))
    for field, signature in signed:
        lock = document.resolve(field.get("/Lock"))
        locks = [lock] if isinstance(lock, DictionaryObject) else []
        locks += _parameters(document, signature, "/FieldMDP")
        # A signature in a field may limit the document as a certification does: at no level is
        # there room for a new field.
        limits = [_document_access(document, signature)]
        limits += [document.resolve(each.get("/P")) for each in locks]
        limited = _NO_CHANGES in limits if exists else any(each is not None for each in limits)
        if limited or any(_covers(document, each, field_name) for each in locks):
            raise SealingError("document_locked", field=str(document.resolve(field.get("/T"))))
    return bool(signed)


def signed_fields(document: Document) -> Iterator[tuple[DictionaryObject, DictionaryObject]]:
    """Yield every signature field that is signed, with its signature."""
    form = document.resolve(document.root.get("/AcroForm"))
    fields = document.resolve(form.get("/Fields")) if isinstance(form, DictionaryObject) else None
    if not fields or _SIGNED not in document.data:
        # A form of thousands of fields need not be walked to learn that nobody signed.
        return
    for field in _fields(document, fields):
        if document.resolve(field.get("/FT")) == "/Sig":
            signature = document.resolve(field.get("/V"))
            if isinstance(signature, DictionaryObject):
                yield field, signature


def _fields(document: Document, top: Any) -> Iterator[DictionaryObject]:
    """Yield every field from the topmost down, parents before their kids."""
    pending = [(kid, 0) for kid in document.items(top)]
    visited = 0
    while pending:
        reference, depth = pending.pop()
        visited += 1
        if visited > MAX_NODES or depth > MAX_DEPTH:
            raise SealingError("document_unprocessable", reason="form fields")
        field = document.resolve(reference)
        if isinstance(field, DictionaryObject):
            yield field
            pending += [(kid, depth + 1) for kid in document.items(field.get("/Kids"))]


def _document_access(document: Document, signature: DictionaryObject) -> int | None:
    """Return the access that a signature's DocMDP transform leaves, if it has one."""
    for parameters in _parameters(document, signature, "/DocMDP"):
        access = document.resolve(parameters.get("/P"))
        if not isinstance(access, int):
            return _DEFAULT_ACCESS
        # What the standard does not know allows nothing that we could be sure of.
        return int(access) if access in _ACCESSES else _NO_CHANGES
    return None


def _parameters(
    document: Document, signature: DictionaryObject, method: str
) -> list[DictionaryObject]:
    """Return the parameters of a signature's transforms of one method."""
    found = []
    for item in document.items(signature.get("/Reference")):
        reference = document.resolve(item)
        if not isinstance(reference, DictionaryObject):
            continue
        if document.resolve(reference.get("/TransformMethod")) == method:
            parameters = document.resolve(reference.get("/TransformParams"))
            found.append(
                parameters if isinstance(parameters, DictionaryObject) else DictionaryObject()
            )
    return found


def _covers(document: Document, lock: DictionaryObject, name: str) -> bool:
    """Say whether a lock (table 236, and table 259) covers a field of this name."""
    action = document.resolve(lock.get("/Action"))
    names = [str(document.resolve(item)) for item in document.items(lock.get("/Fields"))]
    # A field's name stands for all below it.
    named = any(name == each or name.startswith(f"{each}.") for each in names)
    return (
        action == "/All" or (action == "/Include" and named) or (action == "/Exclude" and not named)
    )

"""Reads plain objects, as nearly all are that sealing needs, several times as fast as pypdf does.

Plain are dictionaries and arrays of names, references, numbers, `true` and `false`, written without
escapes, strings, comments, null, or NUL for a space. What is not as plain as that is pypdf's to read:
here nothing is guessed and nothing mended.
"""

import re
from typing import Any

from pypdf.generic import (
    ArrayObject,
    BooleanObject,
    DictionaryObject,
    FloatObject,
    IndirectObject,
    NameObject,
    NumberObject,
    PdfObject,
)

# Of dictionaries and arrays in each other; a page needs three.
_DEEPEST = 20
# What ends a token that does not end by itself (ISO 32000-2, 7.2.3).
_ENDS = rb"(?=[\t\n\x0c\r /<>\[\]]|\Z)"
_SPACE = rb"[\t\n\x0c\r ]"
_TOKENS = re.compile(
    rb"<<|>>|\[|\]"
    rb"|/[A-Za-z0-9_.+,:@$&-]++"
    + _ENDS
    # A reference, before what could be the first of three numbers.
    + rb"|[1-9][0-9]{0,8}"
    + _SPACE
    + rb"(?:0|[1-9][0-9]{0,4})"
    + _SPACE
    + rb"R"
    + _ENDS
    + rb"|-?[0-9]{1,10}(?:\.[0-9]{1,10})?"
    + _ENDS
    + rb"|true"
    + _ENDS
    + rb"|false"
    + _ENDS
    # Whatever else takes all that follows with it: nothing that was opened is ever closed then.
    + rb"|[^\t\n\x0c\r ].*",
    re.DOTALL,
)

_NAME, _OPEN, _CLOSE, _BEGIN, _END = b"/<>[]"
_REFERENCE = ord("R")


def read(text: bytes, pdf: Any) -> PdfObject | None:
    """Return the dictionary or array that a text is, as pypdf would; None when it is not plain.

    Args:
        text: one object and nothing else.
        pdf: what references are resolved by.
    """
    try:
        return _read(text, pdf)
    except ValueError:
        # A word that is no number.
        return None


def _read(text: bytes, pdf: Any) -> PdfObject | None:
    top: list[Any] = []
    items = top
    above: list[list[Any]] = []
    opened: list[int] = []
    for token in _TOKENS.findall(text):
        kind = token[0]
        if kind == _NAME:
            items.append(NameObject(token.decode("ascii")))
        elif kind in (_OPEN, _BEGIN):
            if len(opened) == _DEEPEST:
                return None
            opened.append(kind)
            above.append(items)
            items = []
        elif kind in (_CLOSE, _END):
            if not opened or opened.pop() != (_OPEN if kind == _CLOSE else _BEGIN):
                return None
            made = ArrayObject(items) if kind == _END else _dictionary(items)
            if made is None:
                return None
            items = above.pop()
            items.append(made)
        elif token[-1] == _REFERENCE:
            number, generation, _ = token.split()
            items.append(IndirectObject(int(number), int(generation), pdf))
        elif token in (b"true", b"false"):
            items.append(BooleanObject(token == b"true"))
        elif b"." in token:
            items.append(FloatObject(token.decode("ascii")))
        else:
            items.append(NumberObject(int(token)))
    if opened or len(top) != 1 or not isinstance(top[0], DictionaryObject | ArrayObject):
        return None
    return top[0]


def _dictionary(items: list[Any]) -> DictionaryObject | None:
    keys = items[::2]
    if len(items) % 2 or not all(isinstance(key, NameObject) for key in keys):
        return None
    made = DictionaryObject()
    # Past the checks of types, which are pypdf's against its callers.
    dict.update(made, zip(keys, items[1::2], strict=True))
    # A key that stands twice means one thing to one reader and another to the next.
    return made if len(made) == len(keys) else None

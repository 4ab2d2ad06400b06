"""Draws the stamps and puts them into the document.

    appearance.py    what a stamp looks like     lettering.py   its letters     matrix.py   its QR code
    design.py        an issuer's own stamp       imported.py    a page of another document
    annotations.py   the stamps on their pages   structure.py   in a tagged document

Stands on `reading`, `placing` and `revision`; knows nothing of `signing`.
"""

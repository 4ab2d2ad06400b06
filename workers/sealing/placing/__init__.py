"""Finds where each stamp goes.

    locate.py      what each placement means in this document: asks
    placement.py   geometry on the page     text.py   where words stand    room.py   where a page is empty
    fields.py      fields that the document has
    pdfium.py      what only a renderer knows

Stands on `reading`; `fields.py` also writes values as `revision` does.
"""

"""Reads what sealing needs of a document, and no more.

    document.py   objects, one at a time     xref.py   where they lie     streams.py   what streams hold
    repair.py     where a damaged file has its objects                    scan.py      by its text alone
    pages.py      straight to one page of the tree
    limits.py     how much one document may ask for

Imports `errors` and nothing else of the engine.
"""

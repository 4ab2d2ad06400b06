"""The front end: takes requests and shows pages.

May import `common`. Never parses a PDF and never holds a stamping key.
"""

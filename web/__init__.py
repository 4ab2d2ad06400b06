"""The front end: takes requests and shows pages.

    app.py           `create_app()`                  parts.py      what the requests of a process share
    api/             the API, a file per resource    openapi.py    its description, from the code
    pages/           pages for people
    callers.py       who is asking                   answers.py    how answers look
    health.py        is it alive, ready, how is it doing
    once.py          a POST sent twice is done once       limits.py   how often an address may try

May import `common`. Never parses a PDF and never holds a stamping key.
"""

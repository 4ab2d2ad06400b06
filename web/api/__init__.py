"""The API, version 1: one file per resource, and what they share.

jobs.py, verifications.py, placements.py, quota.py, webhook_endpoints.py     with a key
public.py            serials, keys and pace, for anybody
intake.py            a document's bytes          fields.py    the fields beside it
submitting.py        accepting a job             representations.py    how it looks to its owner

What is wrong with a request is a `ProblemError`; `web/app.py` makes the answer of it.
"""

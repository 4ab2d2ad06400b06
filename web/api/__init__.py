"""The API, version 1: one file per resource, and what they share.

jobs.py, batches.py, quota.py, webhook_endpoints.py, …   with a partner's key
top_ups.py           with an operator's key
public.py            serials, keys and pace, for anybody
intake.py            a document's bytes          fields.py    the fields beside it
batch_intake.py      a batch's documents         submitting_batches.py   accepting a batch
bodies.py            JSON bodies                 queries.py   which part of a list
submitting.py        accepting a job             representations.py    how it looks to its owner

What is wrong with a request is a `ProblemError`; `web/app.py` makes the answer of it.
"""

"""Vouchers: stamps for applicants without an account, behind a code that is bought elsewhere.

A voucher is an account of its own kind, worth what it was topped up with, of the partner that sells it.
Its code is known to whoever bought it; here only a digest is.

code.py      the code: made, read as it was typed, told from a key
issuing.py   batches, each made once
spending.py  who comes with one
records.py   looking at vouchers, making them void
"""

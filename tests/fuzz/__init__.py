"""A seeded fuzzer for reading and sealing: mutates documents and holds every result to account.

Example: python -m tests.fuzz --seconds 60 --seed 7
"""

"""The work: stamping, telling, checking and upkeep, as Celery tasks.

May import `common`. `workers.sealing` is a library of its own that imports nothing of ours.
"""

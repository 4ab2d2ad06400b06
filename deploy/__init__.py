"""Puts the parts together: the command line and everything on one machine.

May import `web`, `workers` and `common`; nothing imports `deploy`.
"""

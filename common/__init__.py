"""The ground floor: the domain, and the words that web and workers share.

Imports nothing of `web`, `workers` or `deploy`.
"""

"""Tests, against real servers where there is a server.

unit/      values in, values out           service/   our parts against PostgreSQL, Valkey, workers, granian
local/     `stampede up`                   browser/   pages in Chromium
corpus/    real documents                  fuzz/      mutated ones
faults/    everything broken, then judged  bench/     measurements
stack.py, authorities.py, softhsm.py       the servers, started at their first use
databases.py                               a database of its own for a test
bulk.py, damages.py                        years of jobs, and what could be wrong with them
chains.py, issuer.py                       keys, certificates, and signatures made with them
samples.py                                 makes the pictures in docs/samples

May import everything; nothing imports `tests`.
"""

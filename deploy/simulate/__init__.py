"""A surge, simulated over the product's own policies: `stampede simulate`.

arrivals.py     when documents come: curves, as pure functions
clients.py      what people do when they are refused or wait too long
costs.py        what a document costs, from what the benches printed (bench.json)
setup.py        what one run is made of; scenarios.py  the named ones
policies.py     the one place that calls the policies that run in production
cohorts.py, tally.py, book.py      documents in groups, waits in buckets, the record
world.py, front.py, stampers.py    what simpy lets pass; model.py  one run of it
search.py, answer.py               how many workers it takes
report.py, chart.py                in lines, in JSON, as a picture
"""

"""The work: stamping, telling, checking and upkeep, as Celery tasks.

    app.py           the Celery app of all lanes but one: tasks, what a process loads, beat's timetable
    stamping.py      one job: claim, read, seal, store, finish
    faults.py        what went wrong, and what follows
    lost.py, hands.py        processes that died with a job, and whether it is the document's doing
    placing.py       a placement of the API's as the engine's      sealing/    the engine
    sealer.py        seals at the level that is asked for, or as the policy says
    keyring.py, keyfile.py   the stamping keys
    timestamping.py, revocation.py, revocation_data.py, revocation_store.py   evidence, got and kept
    fetching.py      asking other people's servers, within bounds
    upgrading.py     timestamps that come later
    delivery.py      webhooks
    upkeep.py, orphans.py    what beat runs
    timetable.py     beat: of several, one leads

    desk.py          the Celery app of the lane `check`: files of strangers, without a key or the database
    answering.py     one question about one file, whatever the file does
    checking.py, levels.py         what its signatures are worth
    previewing.py, previews.py     what a stamp would look like on it

May import `common`. `workers.sealing` is a library of its own that imports nothing of ours.
"""

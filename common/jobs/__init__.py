"""The job: its states, and the only ways from one to the next.

    queued -> stamping -> stamped
       |          |-> failed        the document cannot be stamped; the quota is given back
       |          '-> queued        the lease ran out, or a passing fault; same serials
       '-> cancelled                by its owner, while queued

A queued job may wait for serials (`waiting_for`): it is in no lane then, and cannot be claimed.

Each change is one conditional update: whoever comes second finds nothing to change. A claim carries
a fencing number (`attempt`); finish, fail and give back hold only while it is still the newest.
Every final change settles the quota and records its event in the same transaction. A job has one or
more stamps, each with a serial of its own; what happens to the job happens to all of them.

life.py        the words: states, a new job, a claim, a result
acceptance.py  what its owner does: accept, cancel
attempts.py    what a worker does: claim, finish, fail, give back
recovery.py    what upkeep does: take back what workers lost
waiting.py     accepted while no serials were in stock: served once there are
ending.py      what every end without a stamp settles
records.py     reading jobs; changes none
"""

from common.jobs.acceptance import accept, cancel
from common.jobs.attempts import claim, fail, finish, give_back
from common.jobs.life import FINAL, Changed, Claim, NewJob, ReservedStamp, Result, State
from common.jobs.recovery import LOST_LEASES_ALLOWED, take_back_expired
from common.jobs.waiting import serve as serve_waiting

__all__ = [
    "FINAL",
    "LOST_LEASES_ALLOWED",
    "Changed",
    "Claim",
    "NewJob",
    "ReservedStamp",
    "Result",
    "State",
    "accept",
    "cancel",
    "claim",
    "fail",
    "finish",
    "give_back",
    "serve_waiting",
    "take_back_expired",
]

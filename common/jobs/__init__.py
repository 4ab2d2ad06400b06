"""The job: its states, and the only ways from one to the next.

    queued -> stamping -> stamped
       |          |-> failed        the document cannot be stamped; the quota is given back
       |          |-> queued        the lease ran out, or a fault; same serials
       |          '-> parked        too many faults of ours; an operator sends it back or gives it up
       '-> cancelled                by its owner, while queued

A queued job may wait for serials (`waiting_for`): it is in no lane then, and cannot be claimed.

Each change is one conditional update: whoever comes second finds nothing to change. A claim carries
a fencing number (`attempt`); finish, fail and give back hold only while it is still the newest.
Every final change settles the quota and records its event in the same transaction. A job has one or
more stamps, each with a serial of its own; what happens to the job happens to all of them.

life.py        the words: states, a new job, a claim, a result
acceptance.py  what its owner does: accept, cancel
attempts.py    what a worker does: claim, fail, give back
finishing.py   the same: finish, and claim the next one with it
recovery.py    what becomes of jobs whose worker is gone
parking.py     what an operator does with jobs that are parked
purging.py     the end of the retention time
setbacks.py    attempts that did not end in a stamp
waiting.py     accepted while no serials were in stock: served once there are
ending.py      what every end without a stamp settles
records.py     reading jobs; changes none
"""

from common.jobs.acceptance import (
    Acceptance,
    Accepted,
    accept,
    accept_alone,
    accept_within,
    cancel,
)
from common.jobs.attempts import claim, fail, give_back
from common.jobs.finishing import Finished, Next, finish, finish_alone
from common.jobs.life import (
    FINAL,
    Changed,
    Claim,
    NewJob,
    ReservedStamp,
    Result,
    Setback,
    SetbackKind,
    State,
)
from common.jobs.parking import give_up, requeue
from common.jobs.purging import Purged, purge
from common.jobs.recovery import (
    KILLS_ALLOWED,
    LOST_LEASES_ALLOWED,
    TakenBack,
    expired,
    take_back,
    take_from,
)
from common.jobs.waiting import serve as serve_waiting

__all__ = [
    "FINAL",
    "KILLS_ALLOWED",
    "LOST_LEASES_ALLOWED",
    "Acceptance",
    "Accepted",
    "Changed",
    "Claim",
    "Finished",
    "NewJob",
    "Next",
    "Purged",
    "ReservedStamp",
    "Result",
    "Setback",
    "SetbackKind",
    "State",
    "TakenBack",
    "accept",
    "accept_alone",
    "accept_within",
    "cancel",
    "claim",
    "expired",
    "fail",
    "finish",
    "finish_alone",
    "give_back",
    "give_up",
    "purge",
    "requeue",
    "serve_waiting",
    "take_back",
    "take_from",
]

"""Serial numbers: made or imported, reserved for one stamp of one job, affixed at most once.

    (stock) -> reserved -> affixed
       ^          |-> void        its job ended without a stamp
       '----------'               the same, where the issuer's numbers are used again

A serial is a row of `serials` from the moment a job has it; imported ones lie in `serial_stock`
before. Every attempt of the job uses the same serials. `docs/serials.md` tells all of it.

format.py      what serials look like
supply.py      where a new job's serials come from
stock.py       imported serials that no job has yet: pick, give, put back, count
importing.py   a file of the issuer's becomes stock
ending.py      affixed with the job, or retired with it
public.py      what anybody may know
"""

from common.serials.ending import AFFIX, retire
from common.serials.format import ALPHABET, Format, generate, is_test, is_well_formed, may_be_ours
from common.serials.public import PublicSerial, look_up, look_up_all
from common.serials.supply import GENERATED, OF_JOB, Chosen, Supply

__all__ = [
    "AFFIX",
    "ALPHABET",
    "GENERATED",
    "OF_JOB",
    "Chosen",
    "Format",
    "PublicSerial",
    "Supply",
    "generate",
    "is_test",
    "is_well_formed",
    "look_up",
    "look_up_all",
    "may_be_ours",
    "retire",
]

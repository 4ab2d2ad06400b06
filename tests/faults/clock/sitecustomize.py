"""Read by Python at its start in programs whose clock can be set: sleeping without the clock's help.

libfaketime 0.9.10 that leaves the monotonic clock alone fails each `time.sleep` with EINVAL.
"""

import select
import time

time.sleep = lambda seconds: select.select([], [], [], float(seconds)) and None

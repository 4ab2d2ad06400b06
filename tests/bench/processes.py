"""CPU time of a running system, process by process, as the kernel accounts for it (Linux)."""

import os
from pathlib import Path

from deploy.processes import descendants

_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """Return user and system time of a process, its living descendants and its ended children."""
    return sum(_own(each) for each in (pid, *descendants(pid)))


def _own(pid: int) -> float:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0.0
    # Fields 14 to 17 after the name, which may hold spaces (proc(5)).
    fields = stat.rpartition(")")[2].split()
    return sum(int(ticks) for ticks in fields[11:15]) / _TICKS

"""CPU time and memory of running processes, as the kernel accounts for them (Linux)."""

import os
from pathlib import Path

from deploy.processes import descendants

_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """Return user and system time of a process, its living descendants and its ended children."""
    return sum(_own(each) for each in (pid, *descendants(pid)))


def running_seconds(pid: int) -> float:
    """Return the time that a process and its living descendants were on a processor.

    By the nanosecond, where `cpu_seconds` counts ticks; what ended children spent is not in it.
    """
    return sum(_scheduled(each) for each in (pid, *descendants(pid)))


def own_memory(pid: int) -> int:
    """Return the bytes of a process's own memory, without what it shares (proc(5))."""
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("RssAnon:"))
    return int(line.split()[1]) * 1024


def peak_memory() -> int:
    """Return the most bytes of memory that this process has held since its program began.

    Not getrusage's ru_maxrss, which begins with what the parent held when it made this process.
    """
    status = Path("/proc/self/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def _scheduled(pid: int) -> float:
    threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
    try:
        return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9
    except OSError:
        return 0.0


def _own(pid: int) -> float:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0.0
    # Fields 14 to 17 after the name, which may hold spaces (proc(5)).
    fields = stat.rpartition(")")[2].split()
    return sum(int(ticks) for ticks in fields[11:15]) / _TICKS

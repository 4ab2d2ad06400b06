"""Becomes another program that ends with its parent: `python -m deploy.child [--as USER] -- PROGRAM …`.

Run between a supervisor and the servers that it starts, so that a supervisor which is killed without
a chance to clean up leaves nothing behind (Linux; elsewhere the program is only replaced).
PostgreSQL refuses to run as root: `--as` drops to another user first, and keeps that user's right to
walk through folders that only root may enter (a checkout below /root), where the system allows it.
"""

import ctypes
import os
import pwd
import resource
import signal
import struct
import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_KEEPCAPS = 8
_PR_SET_SECUREBITS = 28
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
# access(2) asks without capabilities when the user is not root, unless this bit is set; initdb looks
# for its companion programs with access(2).
_SECBIT_NO_SETUID_FIXUP = 4
_CAP_DAC_OVERRIDE = 1
_CAP_SETPCAP = 8
_CAPABILITY_VERSION_3 = 0x20080522
# What a front end with thousands of connections needs; many systems begin with 1,024.
_OPEN_FILES = 16_384


def main(arguments: list[str]) -> None:
    """Drop to the user asked for, tie this process to its parent, and become the program."""
    user = None
    if arguments[:1] == ["--as"]:
        user, arguments = arguments[1], arguments[2:]
    program = arguments[1:] if arguments[:1] == ["--"] else arguments
    parent = os.getppid()
    _allow_open_files()
    if user is not None:
        _become(user)
    if sys.platform == "linux":
        # After the change of user, which clears it.
        _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            sys.exit(1)
    os.execv(program[0], program)


def _allow_open_files() -> None:
    """Raise the soft limit as far as is needed and as the hard one allows; never lower it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(_OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _become(user: str) -> None:
    found = pwd.getpwnam(user)
    linux = sys.platform == "linux"
    if linux:
        _prctl(_PR_SET_KEEPCAPS, 1)
    os.setgroups([])
    os.setresgid(found.pw_gid, found.pw_gid, found.pw_gid)
    os.setresuid(found.pw_uid, found.pw_uid, found.pw_uid)
    os.environ["HOME"] = "/"
    if linux:
        _keep_walking_rights()


def _keep_walking_rights() -> None:
    """Keep CAP_DAC_OVERRIDE across the change of program; harmless where it cannot be kept."""
    kept = 1 << _CAP_DAC_OVERRIDE
    now = kept | 1 << _CAP_SETPCAP
    libc = ctypes.CDLL(None, use_errno=True)
    header = struct.pack("=II", _CAPABILITY_VERSION_3, 0)
    # Effective, permitted, inheritable; the program itself gets only what is ambient.
    if libc.capset(header, struct.pack("=6I", now, now, kept, 0, 0, 0)) == 0:
        _prctl(_PR_SET_SECUREBITS, _SECBIT_NO_SETUID_FIXUP)
        libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_DAC_OVERRIDE, 0, 0)


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


if __name__ == "__main__":
    main(sys.argv[1:])

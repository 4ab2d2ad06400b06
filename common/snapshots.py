"""What is shown of jobs, kept in Valkey for those who ask for them again and again.

Who asks first reads the database and leaves a snapshot; who changes a job calls `forget` after the
commit. Nothing is lost with a snapshot, and none is believed for long:

- Who may write a snapshot holds a lease that `forget` takes away. So somebody who read the old row
  while it was changed writes nothing: leases are what keeps a cache from setting an old value after a
  deletion (Nishtala et al., "Scaling Memcache at Facebook", NSDI 2013, 3.2.1).
- Who dies between the commit and `forget` leaves an old one. A job that is queued is believed to be so
  while its ticket is ahead of what its lane has served; after that, and in every other state that does
  not last, the database is asked again, by one for all who ask within a second or two.

A snapshot lies in a box (`boxes.py`): it has a document's name in it.
"""

import hashlib
import random
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import orjson

from common import pace
from common.boxes import Boxes
from common.forgetting import forget_jobs, snapshot_name
from common.jobs import FINAL, State
from common.jobs.records import JobPicture
from common.partners import Mode
from common.problems import Code
from common.settings import Settings
from common.wire import Script, Wire

# How long a snapshot lies there at the most, in seconds, and up to a third longer at random: not all
# that were left in one moment are to be read anew in one.
KEPT_SECONDS = 600
# Snapshots that are made within that time; at most twice as many lie there at any time. One takes 1 KB,
# of a job with much metadata or many stamps up to 15 KB.
MOST = 100_000
# How long the one who reads the database for all has for it.
LEASE_SECONDS = 3
# After how many seconds the database is asked again about a job, whoever asks. In its turn, or being
# stamped: something is about to happen. Held up: an operator or a delivery of serials ends it.
AGAIN_SECONDS = 1.5
HELD_UP_AGAIN_SECONDS = 10

_MADE = "shown:made"
_LOOK = Script("""
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local beside = #KEYS > 1 and redis.call('MGET', unpack(KEYS, 2)) or {}
local kept = redis.call('HMGET', KEYS[1], 'box', 'lane', 'ticket', 'again', 'until')
local served = false
local due = not kept[1]
if not due and kept[4] ~= '' then due = now >= tonumber(kept[4]) end
if kept[2] and kept[2] ~= '' then
  served = tonumber(redis.call('HGET', ARGV[1] .. kept[2], 'served') or 0)
  if tonumber(kept[3]) > served then due = false end
end
local lease = 0
if due and not (kept[5] and now < tonumber(kept[5])) then
  redis.call('HSET', KEYS[1], 'lease', ARGV[2], 'until', string.format('%.0f', now + ARGV[3]))
  if not kept[1] then redis.call('PEXPIRE', KEYS[1], ARGV[3]) end
  lease = 1
end
return {kept[1], lease, served, beside}
""")
# ARGV: lease, box, lane, ticket, milliseconds until asked again (''), milliseconds kept, the most.
_KEEP = Script("""
local kept = redis.call('HMGET', KEYS[1], 'lease', 'box')
if kept[1] ~= ARGV[1] then return 0 end
if not kept[2] then
  local made = redis.call('INCR', KEYS[2])
  if made == 1 then redis.call('PEXPIRE', KEYS[2], ARGV[6]) end
  if made > tonumber(ARGV[7]) then redis.call('UNLINK', KEYS[1]) return 0 end
end
local again = ''
if ARGV[5] ~= '' then
  local clock = redis.call('TIME')
  again = string.format('%.0f', clock[1] * 1000 + math.floor(clock[2] / 1000) + ARGV[5])
end
redis.call('HSET', KEYS[1], 'box', ARGV[2], 'lane', ARGV[3], 'ticket', ARGV[4], 'again', again)
redis.call('HDEL', KEYS[1], 'lease', 'until')
redis.call('PEXPIRE', KEYS[1], ARGV[6])
return 1
""")


@dataclass(frozen=True, slots=True)
class Glance:
    """What Valkey told in one answer.

    Attributes:
        picture: the job as it was left there; None: nobody left it, or Valkey is away.
        packed: the same as bytes.
        lease: not None: the database is to be asked, and the answer left under this lease.
        served: how many its lane has served, when it is in one.
        beside: the values of the other names that were asked for.
    """

    picture: JobPicture | None = None
    packed: bytes = b""
    lease: str | None = None
    served: int | None = None
    beside: tuple[bytes | None, ...] = ()


class Snapshots:
    """The snapshots. Every method survives a Valkey that is away."""

    def __init__(self, wire: Wire, boxes: Boxes, *, most: int = MOST) -> None:
        """Take the way to Valkey, and what closes the boxes.

        Args:
            wire: to Valkey.
            boxes: closes and opens them.
            most: how many are made within the time that one is kept.
        """
        self._wire = wire
        self._boxes = boxes
        self._most = most

    def look(self, job_id: UUID, *beside: str) -> Glance:
        """Return what is known of a job, its lane's progress, and values of other names, in one call."""
        name, lease = snapshot_name(job_id), uuid4().hex
        answer = self._wire.run(
            _LOOK, [name, *beside], [pace.LANE_PREFIX, lease, LEASE_SECONDS * 1000]
        )
        if answer is None:
            return Glance(beside=(None,) * len(beside))
        box, granted, served, others = answer
        opened = None if box is None else self._boxes.open(name, box)
        return Glance(
            None if opened is None else _picture(opened),
            opened or b"",
            lease if granted else None,
            served,
            tuple(others),
        )

    def keep(self, picture: JobPicture, lease: str) -> None:
        """Leave what the database said, unless the lease is gone: the job has changed since then."""
        name = snapshot_name(picture.id)
        in_turn = picture.has_place
        again = _asked_again_after(picture)
        self._wire.run(
            _KEEP,
            [name, _MADE],
            [
                lease,
                self._boxes.close(name, packed(picture)),
                picture.lane if in_turn else "",
                (picture.ticket or 0) if in_turn else "",
                "" if again is None else round(again * 1000),
                round(KEPT_SECONDS * 1000 * random.uniform(1, 4 / 3)),
                self._most,
            ],
        )

    def forget(self, *job_ids: UUID) -> None:
        """Let go of jobs that were changed; after the commit."""
        forget_jobs(self._wire, *job_ids)

    def close(self) -> None:
        """Give the connections back."""
        self._wire.close()


def connect(settings: Settings, wire: Wire | None = None, *, most: int = MOST) -> Snapshots:
    """Return the snapshots that the settings name, over a wire of their own unless one is given."""
    boxes = Boxes(settings.link_key.get_secret_value().encode())
    return Snapshots(wire or Wire(settings.broker_url), boxes, most=most)


def _asked_again_after(picture: JobPicture) -> float | None:
    """Return for how many seconds a picture is good; None: as long as it lies there."""
    if picture.state in FINAL:
        return None
    held_up = picture.state is State.PARKED or picture.waiting_for is not None
    return HELD_UP_AGAIN_SECONDS if held_up else AGAIN_SECONDS


_NAMES = tuple(field.name for field in fields(JobPicture))
# A process of another version, which shows other things, does not believe ours.
_FORM = hashlib.sha256(" ".join(_NAMES).encode()).hexdigest()[:8]
_READ: Mapping[str, Any] = {
    **dict.fromkeys(("id", "account_id", "partner_id", "batch_id"), UUID),
    **dict.fromkeys(
        ("accepted_at", "started_at", "finished_at", "purged_at"), datetime.fromisoformat
    ),
    **dict.fromkeys(("document_sha256", "result_sha256", "earlier_sha256"), bytes.fromhex),
    "mode": Mode,
    "state": State,
    "problem_code": Code,
}
_READERS = tuple((name, _READ.get(name)) for name in _NAMES)


def packed(picture: JobPicture) -> bytes:
    """Return all that is shown of a job; the same picture is always the same bytes."""
    return orjson.dumps([_FORM, *(getattr(picture, name) for name in _NAMES)], default=bytes.hex)


def _picture(packed: bytes) -> JobPicture | None:
    """Return the picture that `packed` wrote, or None when it is another version's."""
    form, *values = orjson.loads(packed)
    if form != _FORM:
        return None
    return JobPicture(
        **{
            name: value if read is None or value is None else read(value)
            for (name, read), value in zip(_READERS, values, strict=True)
        }
    )

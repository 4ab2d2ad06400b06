"""Who a key or a voucher belongs to, remembered in Valkey for half a minute.

What is remembered lies in a box (`boxes.py`) under a MAC of the secret's digest: neither a secret nor
anything that could stand for one is in Valkey, and nobody who can write there becomes anybody. That a
secret is wrong is remembered the same way, so that trying it again costs the database nothing.

Everything that is remembered belongs to a time that `forget_all` ends, which is called after the commit
of whatever takes a secret its worth. Somebody who read the database before that commit and writes after
it writes into a time that is over. Where `forget_all` cannot be called (Valkey is away, or the process
died), a secret may be taken for what it was for `KNOWN_SECONDS`.
"""

import base64
import hashlib
import hmac
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

import orjson

from common.boxes import Boxes
from common.forgetting import CALLERS_TIME, KNOWN_SECONDS, forget_callers
from common.partners import Caller, Mode, Operator
from common.problems import Code
from common.settings import Settings
from common.vouchers.spending import Holder
from common.wire import Script, Wire

# Remembered within that time, right or wrong; twice as many lie there at any time, at most 500 bytes each.
MOST = 100_000
# What is remembered of the secret: whose it is, or why it is nobody's.
Known = Caller | Operator | Code

_MADE = "callers:made"
_REMEMBER = Script("""
local made = redis.call('INCR', KEYS[2])
if made == 1 then redis.call('PEXPIRE', KEYS[2], ARGV[2]) end
if made > tonumber(ARGV[3]) then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
""")


@dataclass(frozen=True, slots=True)
class Memory:
    """What is remembered of one secret, and the time to which anything new of it would belong."""

    name: str
    known: Known | None
    time: str


class KnownCallers:
    """The memory. Every method survives a Valkey that is away."""

    def __init__(
        self, wire: Wire, boxes: Boxes, key: bytes, *, seconds: float = KNOWN_SECONDS
    ) -> None:
        """Take the way to Valkey.

        Args:
            wire: to Valkey.
            boxes: closes and opens what is remembered.
            key: of the MAC that names it.
            seconds: how long it is.
        """
        self._wire = wire
        self._boxes = boxes
        self._key = key
        self._ms = round(seconds * 1000)

    def names(self, secret: str) -> tuple[str, str]:
        """Return the names that `Memory` is read from, to be asked for together with other things."""
        digest = hashlib.sha256(secret.encode()).digest()
        mac = hmac.digest(self._key, b"caller:" + digest, hashlib.sha256)[:18]
        return f"caller:{base64.urlsafe_b64encode(mac).decode()}", CALLERS_TIME

    def recall(self, secret: str) -> Memory:
        """Return what is remembered of a secret; nothing when Valkey is away."""
        names = self.names(secret)
        box, time = self._wire.tell("MGET", *names) or (None, None)
        return self.read(names[0], box, time)

    def read(self, name: str, box: bytes | None, time: bytes | None) -> Memory:
        """Return what the values of `names` come to."""
        now = "" if time is None else time.decode()
        content = None if box is None else self._boxes.open(name, box)
        return Memory(name, None if content is None else _known(content, now), now)

    def remember(self, memory: Memory, known: Known) -> None:
        """Remember what the database said after `recall`."""
        box = self._boxes.close(memory.name, _packed(known, memory.time))
        self._wire.run(_REMEMBER, [memory.name, _MADE], [box, self._ms, MOST])

    def forget_all(self) -> bool:
        """Forget everybody; after the commit. Returns whether Valkey was there to do it."""
        return forget_callers(self._wire)

    def close(self) -> None:
        """Give the connections back."""
        self._wire.close()


def connect(settings: Settings, wire: Wire | None = None) -> KnownCallers:
    """Return the memory that the settings name, over a wire of its own unless one is given."""
    key = settings.link_key.get_secret_value().encode()
    return KnownCallers(wire or Wire(settings.broker_url), Boxes(key), key)


def _packed(known: Known, time: str) -> bytes:
    match known:
        case Holder():
            ends = known.expires_at
            facts = [
                known.partner_id,
                known.mode,
                known.account_id,
                ends,
                known.expired,
                known.void,
            ]
            return orjson.dumps([time, "holder", *facts])
        case Caller():
            facts = [known.partner_id, known.mode, known.key_id, known.account_id]
            return orjson.dumps([time, "caller", *facts])
        case Operator():
            return orjson.dumps([time, "operator", known.key_id, known.label])
        case Code():
            return orjson.dumps([time, "wrong", known])


def _known(content: bytes, now: str) -> Known | None:
    """Return what is remembered, or None when the time to which it belongs is over."""
    time, kind, *facts = orjson.loads(content)
    if time != now:
        return None
    match kind:
        case "holder":
            partner_id, mode, account_id, ends, expired, void = facts
            expires_at = None if ends is None else datetime.fromisoformat(ends)
            return Holder(
                partner_id=UUID(partner_id),
                mode=Mode(mode),
                key_id=UUID(account_id),
                account_id=UUID(account_id),
                expires_at=expires_at,
                expired=expired or (expires_at is not None and expires_at <= datetime.now(UTC)),
                void=void,
            )
        case "caller":
            partner_id, mode, key_id, account_id = facts
            return Caller(UUID(partner_id), Mode(mode), UUID(key_id), UUID(account_id))
        case "operator":
            return Operator(UUID(facts[0]), facts[1])
    return Code(facts[0])

"""One question to Valkey at a time, at the least cost: for what is asked with nearly every request.

The library's connections and its parser without its pool, its hooks and its pipelines, which cost a
poll more than all else that it does. A Valkey that is away is a `None`: every caller can do without.
"""

import hashlib
import time
from typing import Any, cast

import redis
from redis.backoff import NoBackoff
from redis.connection import Connection
from redis.exceptions import NoScriptError
from redis.retry import Retry

from common.breaker import Breaker, Pauses

# Nobody waits longer for what the database knows as well.
_TIMEOUT_SECONDS = 0.25
# Longer than all that one request may wait for other clients of a silent Valkey: else each would wait here.
_PAUSES = Pauses(failures_allowed=1, first=5, longest=5, longest_try=5, bearable=0.1)
_UNREACHABLE = redis.RedisError


class Script:
    """A Lua script, and the name that Valkey knows it by once it has seen it."""

    def __init__(self, text: str) -> None:
        """Take the text."""
        self.text = text
        self.name = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


class Wire:
    """Connections to Valkey that are kept, as many as threads ask at once. Safe to share by threads.

    Not by processes: make one after the fork. A process has one, so that a silent Valkey is waited for once.
    """

    def __init__(self, broker_url: str) -> None:
        """Prepare; connects at the first use."""
        self._pool = redis.ConnectionPool.from_url(
            broker_url,
            protocol=2,
            socket_timeout=_TIMEOUT_SECONDS,
            socket_connect_timeout=_TIMEOUT_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
        self._idle: list[Connection] = []
        self._breaker = Breaker(time.monotonic, _PAUSES)

    def run(self, script: Script, keys: list[str], arguments: list[Any]) -> Any | None:
        """Return what a script answers, or None when Valkey is away or was so a moment ago."""
        asked = (len(keys), *keys, *arguments)
        try:
            return self.tell("EVALSHA", script.name, *asked)
        except NoScriptError:
            return self.tell("EVAL", script.text, *asked)

    def tell(self, *command: Any) -> Any | None:
        """Return the answer to one command, or None when there is none.

        Raises:
            NoScriptError: Valkey does not know the script.
        """
        if not self._breaker.take_turn():
            return None
        try:
            with self._breaker.watch(_UNREACHABLE):
                try:
                    return self._ask(command)
                except NoScriptError as error:
                    unknown = error
        except _UNREACHABLE:
            return None
        raise unknown

    def close(self) -> None:
        """Give the connections back."""
        while self._idle:
            self._idle.pop().disconnect()  # type: ignore[no-untyped-call]

    def _ask(self, command: tuple[Any, ...]) -> Any:
        """Ask over a connection that is idle; one that broke while it was so is replaced once."""
        try:
            connection = self._idle.pop()
        except IndexError:
            return self._ask_over(self._new(), command)
        try:
            return self._ask_over(connection, command)
        except redis.ConnectionError:
            # All of them broke, most likely: a restart.
            self.close()
            return self._ask_over(self._new(), command)

    def _ask_over(self, connection: Connection, command: tuple[Any, ...]) -> Any:
        try:
            connection.send_command(*command, check_health=False)  # type: ignore[no-untyped-call]
            answer = connection.read_response()
        except redis.ResponseError:
            self._idle.append(connection)
            raise
        except BaseException:
            # Interrupted: an answer that comes later must not be taken for the next one.
            connection.disconnect()  # type: ignore[no-untyped-call]
            raise
        self._idle.append(connection)
        return answer

    def _new(self) -> Connection:
        return cast(Connection, self._pool.make_connection())

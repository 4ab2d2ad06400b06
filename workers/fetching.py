"""One bounded exchange over HTTP: an answer of at most so many bytes, within so many seconds in all.

For what other people's servers answer: timestamp authorities, OCSP responders, CRLs. httpx bounds
each step of an exchange, not the whole; a server that sends a byte now and then would hold it for
hours. Here the whole is bounded. Answers are taken as they come, never unpacked: some kilobytes could
become gigabytes.
"""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

# With less time than this nobody is asked.
_SHORTEST_SECONDS = 0.25


class FetchError(Exception):
    """There is no answer that can be used; the text says why."""


class NoTimeError(FetchError):
    """Nobody was asked: those before took the time that there was."""


class Fetcher:
    """Asks one thing after the other, over connections that are kept."""

    def __init__(self, *, seconds: float) -> None:
        """Open nothing yet.

        Args:
            seconds: how long one exchange may take in all.
        """
        self._seconds = seconds
        self._until: float | None = None
        self._lock = threading.Lock()
        self._runner: asyncio.Runner | None = None
        self._client: httpx.AsyncClient | None = None

    @contextmanager
    def until(self, deadline: float) -> Iterator[None]:
        """Within the block, let no exchange go on past a deadline (`time.monotonic`).

        Each may take half of what is left at the most, so that the next one gets its turn.
        """
        before, self._until = self._until, deadline
        try:
            yield
        finally:
            self._until = before

    def get(self, url: str, *, max_bytes: int) -> bytes:
        """Return what lies at an address.

        Raises:
            FetchError: nothing of use does.
        """
        return self._fetch(_request("GET", url), max_bytes, None)

    def post(
        self, url: str, content: bytes, *, content_type: str, answer_type: str, max_bytes: int
    ) -> bytes:
        """Return the answer to what is sent; an answer of another content type is of no use.

        Raises:
            FetchError: there is none.
        """
        headers = {"Content-Type": content_type, "Accept": answer_type}
        request = _request("POST", url, content=content, headers=headers)
        return self._fetch(request, max_bytes, answer_type)

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            if self._runner is not None and self._client is not None:
                self._runner.run(self._client.aclose())
                self._runner.close()
            self._runner = self._client = None

    def _fetch(self, request: httpx.Request, max_bytes: int, answer_type: str | None) -> bytes:
        with self._lock:
            seconds = self._seconds
            if self._until is not None:
                seconds = min(seconds, (self._until - time.monotonic()) / 2)
                if seconds < _SHORTEST_SECONDS:
                    raise NoTimeError("no time was left to ask")
            if self._runner is None:
                self._runner = asyncio.Runner()
                self._client = httpx.AsyncClient(timeout=self._seconds, trust_env=False)
            try:
                return self._runner.run(self._exchange(request, seconds, max_bytes, answer_type))
            except (httpx.HTTPError, TimeoutError) as error:
                raise FetchError(f"{type(error).__name__} {error}".strip()) from error

    async def _exchange(
        self, request: httpx.Request, seconds: float, max_bytes: int, answer_type: str | None
    ) -> bytes:
        assert self._client is not None
        async with asyncio.timeout(seconds):
            response = await self._client.send(request, stream=True)
            try:
                if response.status_code != httpx.codes.OK:
                    raise FetchError(f"HTTP {response.status_code}")
                said = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
                if answer_type is not None and said != answer_type:
                    raise FetchError(f"an answer of type {said or 'none'}")
                packed = response.headers.get("Content-Encoding", "identity").lower()
                if packed != "identity":
                    raise FetchError(f"an answer packed with {packed}")
                answer = bytearray()
                async for chunk in response.aiter_raw():
                    answer += chunk
                    if len(answer) > max_bytes:
                        raise FetchError(f"an answer of more than {max_bytes} bytes")
                return bytes(answer)
            finally:
                await response.aclose()


def _request(method: str, url: str, **more: Any) -> httpx.Request:
    """Return the request; addresses stand in settings and certificates, where anything may stand.

    Raises:
        FetchError: it is no address.
    """
    try:
        request = httpx.Request(method, url, **more)
    # What encodes the names of hosts raises a UnicodeError of its own.
    except (httpx.InvalidURL, UnicodeError) as error:
        raise FetchError(f"not an address: {error}") from error
    if request.url.port is not None and not 0 < request.url.port < 65536:
        raise FetchError("not an address: its port does not exist")
    request.headers["Accept-Encoding"] = "identity"
    return request

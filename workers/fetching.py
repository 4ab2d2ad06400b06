"""One bounded exchange over HTTP: an answer of at most so many bytes, within so many seconds in all.

For what other people's servers answer: timestamp authorities, OCSP responders, CRLs. httpx bounds
each step of an exchange, not the whole; a server that sends a byte now and then would hold it for
hours. Here the whole is bounded.
"""

import asyncio
import threading

import httpx


class FetchError(Exception):
    """There is no answer that can be used; the text says why."""


class Fetcher:
    """Asks one thing after the other, over connections that are kept."""

    def __init__(self, *, seconds: float) -> None:
        """Open nothing yet.

        Args:
            seconds: how long one exchange may take in all.
        """
        self._seconds = seconds
        self._lock = threading.Lock()
        self._runner: asyncio.Runner | None = None
        self._client: httpx.AsyncClient | None = None

    def get(self, url: str, *, max_bytes: int) -> bytes:
        """Return what lies at an address.

        Raises:
            FetchError: nothing of use does.
        """
        return self._fetch(httpx.Request("GET", url), max_bytes, None)

    def post(
        self, url: str, content: bytes, *, content_type: str, answer_type: str, max_bytes: int
    ) -> bytes:
        """Return the answer to what is sent; an answer of another content type is of no use.

        Raises:
            FetchError: there is none.
        """
        headers = {"Content-Type": content_type, "Accept": answer_type}
        request = httpx.Request("POST", url, content=content, headers=headers)
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
            if self._runner is None:
                self._runner = asyncio.Runner()
                self._client = httpx.AsyncClient(timeout=self._seconds, trust_env=False)
            try:
                return self._runner.run(self._exchange(request, max_bytes, answer_type))
            except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
                raise FetchError(f"{type(error).__name__} {error}".strip()) from error

    async def _exchange(
        self, request: httpx.Request, max_bytes: int, answer_type: str | None
    ) -> bytes:
        assert self._client is not None
        async with asyncio.timeout(self._seconds):
            response = await self._client.send(request, stream=True)
            try:
                if response.status_code != httpx.codes.OK:
                    raise FetchError(f"HTTP {response.status_code}")
                said = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
                if answer_type is not None and said != answer_type:
                    raise FetchError(f"an answer of type {said or 'none'}")
                answer = bytearray()
                async for chunk in response.aiter_bytes():
                    answer += chunk
                    if len(answer) > max_bytes:
                        raise FetchError(f"an answer of more than {max_bytes} bytes")
                return bytes(answer)
            finally:
                await response.aclose()

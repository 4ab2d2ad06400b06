"""Links that nobody can guess: what they stand for and a MAC over it.

The link of a job has 43 characters; that of a place in the waiting room, 32.
"""

import base64
import binascii
import hashlib
import hmac
from uuid import UUID

from common.settings import Settings

_MAC_BYTES = 16
_NUMBER_BYTES = 8


class StatusLinks:
    """Makes and opens the tokens of status pages; needs no database."""

    def __init__(self, settings: Settings) -> None:
        """Take the key and the public address from the settings."""
        self._key = settings.link_key.get_secret_value().encode()
        self._public_url = settings.public_url

    def token(self, job_id: UUID) -> str:
        """Return the token of a job's status page."""
        return base64.urlsafe_b64encode(job_id.bytes + self._mac(job_id)).decode().rstrip("=")

    def url(self, job_id: UUID) -> str:
        """Return the address of a job's status page."""
        return f"{self._public_url}/j/{self.token(job_id)}"

    def open(self, token: str) -> UUID | None:
        """Return the job that a token stands for, or None when we never made it."""
        raw = _bytes(token)
        if raw is None or len(raw) != 16 + _MAC_BYTES:
            return None
        job_id = UUID(bytes=raw[:16])
        return job_id if hmac.compare_digest(self._mac(job_id), raw[16:]) else None

    def _mac(self, job_id: UUID) -> bytes:
        return hmac.digest(self._key, b"status:" + job_id.bytes, hashlib.sha256)[:_MAC_BYTES]


class PlaceLinks:
    """Makes and opens the tokens of places in the waiting room; needs no database."""

    def __init__(self, settings: Settings) -> None:
        """Take the key and the public address from the settings."""
        self._key = settings.link_key.get_secret_value().encode()
        self._public_url = settings.public_url

    def token(self, number: int) -> str:
        """Return the token of a place."""
        raw = number.to_bytes(_NUMBER_BYTES)
        return base64.urlsafe_b64encode(raw + self._mac(raw)).decode()

    def url(self, number: int) -> str:
        """Return the address of a place's page."""
        return f"{self._public_url}/antre/{self.token(number)}"

    def open(self, token: str) -> int | None:
        """Return the number of the place that a token stands for, or None when we never made it."""
        raw = _bytes(token)
        if raw is None or len(raw) != _NUMBER_BYTES + _MAC_BYTES:
            return None
        number, mac = raw[:_NUMBER_BYTES], raw[_NUMBER_BYTES:]
        return int.from_bytes(number) if hmac.compare_digest(self._mac(number), mac) else None

    def _mac(self, number: bytes) -> bytes:
        return hmac.digest(self._key, b"place:" + number, hashlib.sha256)[:_MAC_BYTES]


def _bytes(token: str) -> bytes | None:
    try:
        return base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None

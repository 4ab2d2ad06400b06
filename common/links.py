"""Status links that nobody can guess: a job's id and a MAC over it, 43 characters."""

import base64
import binascii
import hashlib
import hmac
from uuid import UUID

from common.settings import Settings

_MAC_BYTES = 16


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
        try:
            raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            return None
        if len(raw) != 16 + _MAC_BYTES:
            return None
        job_id = UUID(bytes=raw[:16])
        return job_id if hmac.compare_digest(self._mac(job_id), raw[16:]) else None

    def _mac(self, job_id: UUID) -> bytes:
        return hmac.digest(self._key, b"status:" + job_id.bytes, hashlib.sha256)[:_MAC_BYTES]

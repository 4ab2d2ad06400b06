"""What is kept in Valkey for a while, closed: names of documents and people are no business of a broker.

Each thing has a key of its own, made of the link key and the thing's name (AES-256-GCM). Whoever reads
Valkey's memory or its files reads nothing, and what was changed, moved or made there is not believed.
"""

import hashlib
import hmac
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_NONCE_BYTES = 12


class Boxes:
    """Closes and opens boxes."""

    def __init__(self, key: bytes) -> None:
        """Take the secret that all keys are made of."""
        self._key = key

    def close(self, name: str, content: bytes) -> bytes:
        """Return a content that only its name opens."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._of(name).encrypt(nonce, content, None)

    def open(self, name: str, box: bytes) -> bytes | None:
        """Return a box's content, or None when we did not close it under this name."""
        try:
            return self._of(name).decrypt(box[:_NONCE_BYTES], box[_NONCE_BYTES:], None)
        except (InvalidTag, ValueError):
            return None

    def _of(self, name: str) -> AESGCM:
        # One for each name: a key may not see more random nonces than a busy year has snapshots.
        return AESGCM(hmac.digest(self._key, b"box:" + name.encode(), hashlib.sha256))

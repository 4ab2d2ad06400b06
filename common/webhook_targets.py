"""Which addresses webhooks may go to: public https, unless a setting allows private ones.

Checked when an endpoint is registered and again at every attempt, because names change their mind.
"""

import ipaddress
import socket
from urllib.parse import urlsplit


class RefusedTargetError(ValueError):
    """Webhooks are not sent there; the text says why."""


def check(url: str, *, allow_private: bool) -> None:
    """Refuse an address that a webhook must not go to.

    Args:
        url: the endpoint's address.
        allow_private: also take http:// and private, loopback or link-local addresses.

    Raises:
        RefusedTargetError: says what is wrong with it.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise RefusedTargetError("not a URL") from error
    if parts.scheme != "https" and not (allow_private and parts.scheme == "http"):
        raise RefusedTargetError("must begin with https://")
    if not parts.hostname:
        raise RefusedTargetError("names no host")
    if parts.username is not None or parts.password is not None:
        raise RefusedTargetError("must not carry a user name or password")
    if allow_private:
        return
    for address in _addresses(parts.hostname, port or 443):
        if not address.is_global or address.is_multicast:
            raise RefusedTargetError("its host has an address that is not public")


def _addresses(host: str, port: int) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise RefusedTargetError("its host has no address") from error
    addresses = []
    for *_, where in found:
        address = ipaddress.ip_address(str(where[0]).partition("%")[0])
        mapped = getattr(address, "ipv4_mapped", None)
        addresses.append(mapped or address)
    return addresses

"""The rules of webhooks: how they are signed, and which addresses may be called.

Signed by the Standard Webhooks scheme (its specification at standardwebhooks.com): HMAC-SHA256 over `<id>.<timestamp>.<body>`,
base64, `v1,`; a key is `whsec_` and base64.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import ipaddress
from collections.abc import Iterable, Sequence

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_ANYCAST = ipaddress.ip_network("192.88.99.0/24")
"""Once the relays of 6to4 (RFC 7526): whoever answers there is nobody's webhook."""


class Allowed:
    """Which private addresses a mirror may call all the same: networks, and names of hosts."""

    def __init__(self, entries: Iterable[str]) -> None:
        """Raises ValueError for an entry that is neither."""
        self.networks: list[Network] = []
        self.hosts: set[str] = set()
        for entry in entries:
            try:
                self.networks.append(ipaddress.ip_network(entry, strict=False))
            except ValueError:
                if not entry or set(entry) & set("/ :@"):
                    raise ValueError(f"{entry!r} is neither a network nor the name of a host") from None
                self.hosts.add(entry.lower())

    def address(self, address: Address, host: str) -> bool:
        """Whether an address that a name stands for may be called."""
        return is_public(address) or host.lower() in self.hosts or any(
            address in network for network in self.networks if network.version == address.version
        )  # fmt: skip

    def plain(self, host: str) -> bool:
        """Whether a host may be called without TLS: one that was named, or lies in a network that was."""
        if host.lower() in self.hosts:
            return True
        try:
            address = ipaddress.ip_address(host.strip("[]"))
        except ValueError:
            return False
        return any(address in network for network in self.networks if network.version == address.version)


def is_public(address: Address) -> bool:
    """Whether an address is of the public internet, whatever it is wrapped in."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None and not is_public(inner):
            return False
        if address.is_site_local:
            return False
    return address.is_global and not address.is_multicast and not address.is_reserved and address not in _ANYCAST


def read_secrets(text: str) -> list[bytes]:
    """The keys of a setting: `whsec_<base64>`, several while they are rotated, separated by spaces. Raises ValueError."""
    keys = []
    for part in text.split():
        try:
            key = base64.b64decode(part.removeprefix("whsec_"), validate=True)
        except binascii.Error:
            key = b""
        if not part.startswith("whsec_") or not 24 <= len(key) <= 64:
            raise ValueError('must be whsec_ and 24 to 64 bytes in base64: echo "whsec_$(openssl rand -base64 32)" makes one')
        keys.append(key)
    if not keys:
        raise ValueError("is empty")
    return keys


def sign(keys: Sequence[bytes], event_id: str, timestamp: int, body: bytes) -> str:
    """The webhook-signature header: one signature a key."""
    content = b".".join((event_id.encode(), str(timestamp).encode(), body))
    return " ".join("v1," + base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode() for key in keys)

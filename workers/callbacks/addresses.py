"""Which addresses a callback may be sent to, so that a URL cannot reach into the network of this process.

Only public addresses, unless the setting CALLBACK_NETWORKS allows others; http only to those. A name is resolved once
for a connection, and the connection goes to the addresses that were checked: no second answer of the name server
counts.
"""

import ipaddress
import socket
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from aiohttp.abc import AbstractResolver, ResolveResult

from workers.callbacks.names import HostNames

Network = IPv4Network | IPv6Network

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_LOCAL_NAT64 = ipaddress.ip_network("64:ff9b:1::/48")


class ForbiddenAddress(OSError):
    """The host has no address that a callback may be sent to; the text says which it has."""


class Allowed:
    """The rule. `networks` are allowed although they are not public."""

    def __init__(self, networks: Sequence[Network] = ()) -> None:
        self._networks = tuple(networks)

    def allows(self, text: str, *, is_encrypted: bool) -> bool:
        """Return whether callbacks may be sent to this address, with or without TLS."""
        try:
            address = ipaddress.ip_address(text.partition("%")[0])  # without the zone of a link-local one
        except ValueError:
            return False
        # `in` is false for a network of the other version.
        if any(address in network for network in self._networks):
            return True
        return is_encrypted and all(_is_public(each) for each in (address, *_inner(address)))


def networks(text: str) -> tuple[Network, ...]:
    """Return the networks in a setting, separated by commas.

    Raises:
        ValueError: one of them is no network, such as 10.0.0.0/8.
    """
    return tuple(ipaddress.ip_network(each.strip()) for each in text.split(",") if each.strip())


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    if address in _LOCAL_NAT64 or address.is_multicast or (isinstance(address, IPv6Address) and address.is_site_local):
        return False
    return address in _NAT64 or (address.is_global and not address.is_reserved)


def _inner(address: IPv4Address | IPv6Address) -> list[IPv4Address]:
    """Return the IPv4 addresses that an IPv6 address leads to: mapped, translated by NAT64, or tunnelled."""
    if isinstance(address, IPv4Address):
        return []
    found = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if address in _NAT64:
        found.append(IPv4Address(int(address) & 0xFFFFFFFF))
    return [each for each in found if each is not None]


class CheckedResolver(AbstractResolver):
    """Resolves names to the addresses that are allowed, for connections with or without TLS."""

    def __init__(self, allowed: Allowed, *, is_encrypted: bool, resolver: AbstractResolver | None = None) -> None:
        self._allowed = allowed
        self._is_encrypted = is_encrypted
        self._resolver = resolver or HostNames()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the allowed addresses of the host.

        Raises:
            ForbiddenAddress: it has none.
        """
        found = await self._resolver.resolve(host, port, family)
        usable = [each for each in found if self._allowed.allows(each["host"], is_encrypted=self._is_encrypted)]
        if not usable:
            shown = ", ".join(sorted({each["host"] for each in found})[:4])
            raise ForbiddenAddress(f"{host} has no address that callbacks may be sent to ({shown})")
        return usable

    async def close(self) -> None:
        await self._resolver.close()

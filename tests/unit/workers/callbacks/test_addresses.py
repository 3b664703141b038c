"""Which addresses callbacks may be sent to."""

import socket

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from workers.callbacks import addresses
from workers.callbacks.addresses import Allowed, CheckedResolver, ForbiddenAddress

PRIVATE = (
    "127.0.0.1 127.8.8.8 10.1.1.1 172.16.0.1 192.168.1.1 169.254.169.254 100.64.0.1 100.100.100.200 0.0.0.0 "
    "192.0.2.1 198.18.0.1 224.0.0.1 240.0.0.1 255.255.255.255 :: ::1 ::127.0.0.1 fe80::1 fe80::1%eth0 fec0::1 fd00::1 "
    "ff02::1 2001:db8::1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 64:ff9b::7f00:1 64:ff9b::a9fe:a9fe 64:ff9b:1::1 "
    "2002:7f00:1:: 2002:a00:1:: 2001:0:7f00:1:: fd00:ec2::254 nonsense"
).split()
PUBLIC = "8.8.8.8 110.75.0.1 2606:4700::1111 2400:3200::1 64:ff9b::808:808".split()


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_are_refused(address: str) -> None:
    assert not Allowed().allows(address, is_encrypted=True)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_allowed_with_tls_alone(address: str) -> None:
    assert Allowed().allows(address, is_encrypted=True)
    assert not Allowed().allows(address, is_encrypted=False)


def test_setting_allows_its_networks_and_no_others() -> None:
    allowed = Allowed(addresses.networks("10.20.0.0/16, fd00::/8"))
    for address in ("10.20.1.1", "fd00::1"):
        assert allowed.allows(address, is_encrypted=False)
        assert allowed.allows(address, is_encrypted=True)
    assert not allowed.allows("10.21.0.1", is_encrypted=True)
    assert not allowed.allows("127.0.0.1", is_encrypted=False)
    assert addresses.networks("") == ()
    with pytest.raises(ValueError, match=r"10\.0\.0\.1/8"):
        addresses.networks("10.0.0.1/8")


class Names(AbstractResolver):
    """A name server with one answer."""

    def __init__(self, *found: str) -> None:
        self._found = found

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        return [
            ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=0)
            for address in self._found
        ]

    async def close(self) -> None: ...


async def test_names_lead_only_to_allowed_addresses() -> None:
    resolver = CheckedResolver(Allowed(), is_encrypted=True, resolver=Names("10.0.0.1", "8.8.8.8"))
    assert [found["host"] for found in await resolver.resolve("shop.example", 443)] == ["8.8.8.8"]
    with pytest.raises(ForbiddenAddress, match=r"shop\.example has no address .*127\.0\.0\.1"):
        await CheckedResolver(Allowed(), is_encrypted=True, resolver=Names("127.0.0.1")).resolve("shop.example")
    await resolver.close()

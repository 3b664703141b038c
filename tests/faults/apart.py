"""A network of two addresses, on which packets of one direction can be lost, and a thread that lives on its far side.

The far side is a network namespace behind a pair of virtual interfaces. A direction loses its packets when the other
side's hardware address is a wrong one: they leave, and nobody takes them. So a connection does not even notice it.
"""

import ctypes
import os
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

NAMESPACES = Path("/run/netns")
OURS = Path("/proc/thread-self/ns/net")
NOBODY = "02:00:00:00:00:99"
NEW_NETWORK = 0x40000000  # CLONE_NEWNET


class Network:
    """`near` and `far` are the addresses of its two sides."""

    def __init__(self) -> None:
        run = secrets.token_hex(3)
        net = secrets.randbelow(1 << 14) * 4  # of 198.18.0.0/16, which is for tests of networks
        self.near, self.far = (f"198.18.{(net + side) >> 8}.{(net + side) & 255}" for side in (1, 2))
        self._name = f"far-{run}"
        self._here, self._there = f"near{run}", f"far{run}"
        self._near_side = -1

    @contextmanager
    def laid(self) -> Iterator["Network"]:
        """Make the network, and remove it afterwards; skip the test where that is not allowed."""
        with ExitStack() as entered:
            self._near_side = entered.enter_context(OURS.open()).fileno()
            try:
                ip("netns", "add", self._name)
                entered.callback(ip, "netns", "del", self._name)
                ip("link", "add", self._here, "type", "veth", "peer", "name", self._there, "netns", self._name)
                entered.callback(ip, "link", "del", self._here)  # or closing connections keep it
                ip("address", "add", f"{self.near}/30", "dev", self._here)
                ip("link", "set", self._here, "up")
                ip("-n", self._name, "address", "add", f"{self.far}/30", "dev", self._there)
                ip("-n", self._name, "link", "set", self._there, "up")
                ip("-n", self._name, "link", "set", "lo", "up")
            except (OSError, subprocess.CalledProcessError) as error:
                pytest.skip(f"NOT TESTED: no network namespace can be made here: {error}")
            yield self

    @contextmanager
    def on_the_far_side(self) -> Iterator[None]:
        """What this thread connects meanwhile, it connects from the far side."""
        with (NAMESPACES / self._name).open() as far_side, _in(far_side.fileno()):
            yield

    def lose_to_near(self) -> None:
        ip("-n", self._name, "neighbour", "replace", self.near, "lladdr", NOBODY, "dev", self._there)

    def lose_to_far(self) -> None:
        self._on_the_near_side("neighbour", "replace", self.far, "lladdr", NOBODY, "dev", self._here)

    def heal(self) -> None:
        """Let both sides ask anew for the hardware address of the other."""
        ip("-n", self._name, "neighbour", "flush", "dev", self._there, "nud", "all")
        self._on_the_near_side("neighbour", "flush", "dev", self._here, "nud", "all")

    def _on_the_near_side(self, *arguments: str) -> None:
        # A thread's children are where it is itself.
        with _in(self._near_side):
            ip(*arguments)


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


@contextmanager
def _in(namespace: int) -> Iterator[None]:
    """Let this thread be in another network meanwhile."""
    with OURS.open() as before:
        _enter(namespace)
        try:
            yield
        finally:
            _enter(before.fileno())


def _enter(namespace: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, NEW_NETWORK):
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))

"""One world for all tests of a session, because creating keys takes a moment. No test may change it."""

import socket

import pytest

from deploy.sandbox.world import World


@pytest.fixture(scope="session")
def load_world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World.create(tmp_path_factory.mktemp("world"), gateway_url="http://127.0.0.1:9", notify_base="http://h")


@pytest.fixture
def unused_port() -> int:
    """A loopback port without a server."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port

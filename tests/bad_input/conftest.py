"""One receiver for the whole suite: whatever a row did to it, the next row meets the same process."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.register_assert_rewrite("tests.bad_input.judge")

from tests.bad_input import merchant  # noqa: E402
from tests.bad_input.judge import Judge, Server  # noqa: E402
from tests.bad_input.merchant import Keys, Signer  # noqa: E402


@pytest.fixture(scope="session")
def signer() -> Signer:
    """The keys of this run and the hand that signs with them."""
    return Signer(Keys())


@pytest.fixture(scope="session")
def accounts_file(signer: Signer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return merchant.write_accounts(tmp_path_factory.mktemp("accounts"), signer.keys)


@pytest.fixture(scope="session")
def judge(signer: Signer, accounts_file: Path) -> Iterator[Judge]:
    server = Server(accounts_file)
    yield Judge(server, signer)
    server.stop()


@pytest.fixture
def judge_of(signer: Signer, accounts_file: Path) -> Iterator[Callable[..., Judge]]:
    """Makes a receiver with other settings; it ends with the test."""
    servers: list[Server] = []

    def make(**environment: str) -> Judge:
        servers.append(Server(accounts_file, **environment))
        return Judge(servers[-1], signer)

    yield make
    for server in servers:
        server.stop()

"""An admin server, and a sound configuration, for the tests of commands."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from deploy.local import ports
from deploy.sandbox.world import World
from tests.support import thread_receiver
from tests.support.thread_receiver import ThreadReceiver
from tests.unit.deploy.cli import admin_server
from tests.unit.deploy.cli.admin_server import Server

MD5_SECRET = "canary-of-the-md5-secret"


@pytest.fixture
def server() -> Iterator[Server]:
    with admin_server.running() as running:
        yield running


@pytest.fixture
def md5_secret() -> str:
    """The secret that no output may show."""
    return MD5_SECRET


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """A sound configuration with two free ports."""
    key = rsa.generate_private_key(65537, 2048).public_key()
    (tmp_path / "alipay.pem").write_bytes(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    (tmp_path / "md5.key").write_text(MD5_SECRET)
    (tmp_path / "md5.key").chmod(0o600)
    (tmp_path / "accounts.toml").write_text(
        '[accounts.shop]\nfamily = "mapi"\nsign_type = "RSA2"\nkeys = ["alipay.pem"]\nseller_id = "2088001"\n'
        '[accounts.old]\nfamily = "mapi"\nsign_type = "MD5"\nmd5_key_file = "md5.key"\nseller_id = "2088001"\n'
    )
    public, admin = ports.free(2)  # outside of the range that the system gives to other programs
    return {
        "ALIPAY_NOTIFY_ACCOUNTS": str(tmp_path / "accounts.toml"),
        "ALIPAY_NOTIFY_DATA_DIR": str(tmp_path / "data"),
        "ALIPAY_NOTIFY_PORT": str(public),
        "ALIPAY_NOTIFY_ADMIN_PORT": str(admin),
    }


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sandbox's folder, whose receiver is nowhere."""
    path = tmp_path_factory.mktemp("world")
    World.create(path, gateway_url="http://127.0.0.1:9", notify_base="http://127.0.0.1:9")
    return path


@pytest.fixture
def receiver() -> Iterator[ThreadReceiver]:
    """A receiver of notifications, and an admin API, with the test's answers."""
    with thread_receiver.running() as running:
        yield running

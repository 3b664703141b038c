"""Keys that change or fail while notifications come in: rows S30 and S33, and S35 in small."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.bad_input import merchant, wire
from tests.bad_input.judge import Expected, Judge, Server
from tests.bad_input.merchant import Signer, encode
from tests.support import alipay
from tests.support.processes import eventually

PATH = "/notify/shop-cn"
BAD = Expected(401, "bad_signature", "bad_signature")
ROTATIONS = 4
RELOADED_WITHIN_S = 5.0


@pytest.fixture
def directory(signer: Signer, tmp_path: Path) -> Path:
    """The suite's configuration, where `shop-cn` has two keys so that one can be replaced."""
    accounts = merchant.write_accounts(tmp_path, signer.keys)
    text = accounts.read_text()
    at = text.index("[accounts.shop-cn]")
    accounts.write_text(text[:at] + text[at:].replace('keys = ["cn.pem"]', 'keys = ["cn.pem", "next.pem"]', 1))
    (tmp_path / "next.pem").write_bytes(alipay.pem(signer.keys.stranger))
    return tmp_path


@pytest.fixture
def judge(directory: Path, signer: Signer) -> Iterator[Judge]:
    server = Server(directory / "accounts.toml", ALIPAY_NOTIFY_KEY_RELOAD_INTERVAL_S="0.05")
    yield Judge(server, signer)
    server.stop()


def request(signer: Signer, key: rsa.RSAPrivateKey) -> bytes:
    return wire.post(PATH, encode(signer.cn(merchant.payment(), key=key)))


def put(file: Path, key: rsa.RSAPrivateKey) -> None:
    """Replace a key file as one should: written beside it, then renamed."""
    beside = file.with_suffix(".new")
    beside.write_bytes(alipay.pem(key))
    beside.replace(file)


class Traffic:
    """Sends valid notifications one after the other on a kept connection, until the block ends."""

    def __init__(self, port: int, requests: list[bytes]) -> None:
        self.answers: list[int] = []
        self._port = port
        self._requests = requests
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._send)

    def __enter__(self) -> "Traffic":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def wait_for(self, count: int) -> None:
        """Returns when so many more were answered."""
        upto, deadline = len(self.answers) + count, time.monotonic() + 20
        while len(self.answers) < upto:
            assert time.monotonic() < deadline, f"{len(self.answers)} of {upto} are answered"
            time.sleep(0.01)

    def _send(self) -> None:
        with wire.connect(self._port) as opened:
            while not self._over.is_set():
                opened.sendall(self._requests[len(self.answers) % len(self._requests)])
                self.answers.append(wire.receive(opened).status)


def until_answered(judge: Judge, body: bytes, status: int) -> None:
    deadline = time.monotonic() + RELOADED_WITHIN_S
    while wire.send(judge.port, body).status != status:
        assert time.monotonic() < deadline, f"never answered {status}"
        time.sleep(0.02)


def test_s30_keys_are_replaced_under_traffic_without_a_false_refusal(judge: Judge, directory: Path) -> None:
    """Each key in its turn moves out, its successor in, while the other one signs what flows."""
    keep, leaving = judge.signer.keys.cn, judge.signer.keys.stranger
    files = [directory / "cn.pem", directory / "next.pem"]
    answered = 0
    for _ in range(ROTATIONS):
        successor = rsa.generate_private_key(65537, 2048)
        assert wire.send(judge.port, request(judge.signer, successor)).status == 401
        with Traffic(judge.port, [request(judge.signer, keep) for _ in range(20)]) as traffic:
            traffic.wait_for(20)
            put(files[1], successor)
            until_answered(judge, request(judge.signer, successor), 200)
            until_answered(judge, request(judge.signer, leaving), 401)
            traffic.wait_for(20)
        assert set(traffic.answers) == {200}
        answered += len(traffic.answers)
        files.reverse()
        keep, leaving = successor, keep
    assert answered > 40 * ROTATIONS


FAULTY = "accounts not reloaded, the old ones stay in use"


def test_s30_half_written_key_file_keeps_the_old_key(judge: Judge, directory: Path) -> None:
    """F-R14: truncated, unreadable, gone. No request is refused, and the fault is reported."""
    judge.server.mark()
    valid = [request(judge.signer, judge.signer.keys.cn) for _ in range(20)]
    file = directory / "cn.pem"
    whole = file.read_bytes()
    with Traffic(judge.port, valid) as traffic:
        for broken in (whole[:100], b"", None):
            reported = judge.server.state()["log"].count(FAULTY)
            file.unlink() if broken is None else file.write_bytes(broken)
            eventually(lambda before=reported: judge.server.state()["log"].count(FAULTY) > before)
            traffic.wait_for(20)
        file.write_bytes(whole)
        traffic.wait_for(20)
    assert set(traffic.answers) == {200}
    log = judge.server.state()["log"]
    assert whole.splitlines()[1].decode() not in log


def test_s33_verifier_that_raises_is_a_bad_signature(judge_of: Callable[..., Judge]) -> None:
    """Its panic refuses this one message and is logged once; the process and its other accounts go on."""
    judge = judge_of(SUITE_STUMBLES="shop-gbk")
    for _ in range(3):
        judge.row(wire.post("/notify/shop-gbk", encode(judge.signer.gbk(merchant.mapi_payment()))), BAD)
        time.sleep(0.05)
    before = judge.server.mark()
    assert (
        wire.send(judge.port, wire.post("/notify/shop-gbk", encode(judge.signer.gbk(merchant.mapi_payment())))).status
        == 401
    )
    time.sleep(0.2)
    state = judge.server.state()
    assert len(state["log"].splitlines()) == 1
    assert "out of order" not in state["log"]
    assert state["records_count"] == before["records_count"]


def test_s35_genuine_traffic_is_answered_beside_a_flood_of_forgeries(judge_of: Callable[..., Judge]) -> None:
    judge = judge_of(ALIPAY_NOTIFY_LOG_REFUSALS_PER_S="20")
    forged = [request(judge.signer, judge.signer.keys.stranger) for _ in range(20)]
    good = [request(judge.signer, judge.signer.keys.cn) for _ in range(100)]
    before = judge.server.mark()
    with Traffic(judge.port, forged) as one, Traffic(judge.port, forged) as two, Traffic(judge.port, good) as traffic:
        traffic.wait_for(300)
    assert set(traffic.answers) == {200}
    assert {*one.answers, *two.answers} == {401}
    state = judge.server.state()
    assert state["records_count"] - before["records_count"] == len(traffic.answers)
    refused = 'alipay_notify_received_total{account="shop-cn",outcome="bad_signature"}'
    assert state["samples"][refused] == len(one.answers) + len(two.answers)
    assert len(state["log"].splitlines()) < len(traffic.answers) + 20 * 30

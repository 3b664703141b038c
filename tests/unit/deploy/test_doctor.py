"""Checks of this machine that need no engine: directory, disk, files, ports, tokens and readiness answers."""

import os
import shutil
import socket
import sqlite3
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy import doctor, settings
from deploy.doctor import Finding, FindingState
from deploy.file_access import Reach
from deploy.settings import EmbeddedSettings
from schemas import accounts_toml
from tests.support import alipay, open_directory

Usage = namedtuple("Usage", "total used free")


def configured(**values: object) -> EmbeddedSettings:
    return settings.load({}, accounts="accounts.toml", **values)


def by_name(findings: object) -> dict[str, Finding]:
    assert isinstance(findings, list | tuple)
    return {finding.name: finding for finding in findings}


def test_wrong_settings_are_the_only_findings_and_each_has_advice() -> None:
    found = doctor.examine({"ALIPAY_NOTIFY_PORT": "http", "ALIPAY_NOTIFY_ADMIN_PORT": "-1"})
    assert [(each.name, each.state) for each in found] == [("settings", FindingState.WRONG)] * 2
    assert all("config show" in each.advice for each in found)


@pytest.mark.parametrize(
    ("free", "state"),
    [
        (doctor.FREE_COMFORTABLE, FindingState.OK),
        (doctor.FREE_COMFORTABLE - 1, FindingState.NOTE),
        (doctor.FREE_LEAST, FindingState.NOTE),
        (doctor.FREE_LEAST - 1, FindingState.WRONG),
    ],
)
def test_disk_space_is_judged_by_its_two_limits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, state: FindingState
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(1 << 40, 0, free))
    space = by_name([*doctor._directory(tmp_path)])["disk space"]
    assert (space.state, bool(space.advice)) == (state, state is not FindingState.OK)


def test_missing_data_directory_is_ok_if_it_can_be_created(tmp_path: Path) -> None:
    directory = by_name([*doctor._directory(tmp_path / "a" / "b")])["data directory"]
    assert (directory.state, "does not exist yet" in directory.detail) == (FindingState.OK, True)


def test_data_directory_below_a_file_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (finding,) = doctor._directory(tmp_path / "file" / "data")
    assert (finding.state, "ALIPAY_NOTIFY_DATA_DIR" in finding.advice) == (FindingState.WRONG, True)


def test_one_missing_database_is_wrong_and_none_is_a_first_start(tmp_path: Path) -> None:
    assert [*doctor._databases(tmp_path)] == []
    sqlite3.connect(tmp_path / "journal.sqlite3").execute("CREATE TABLE t (n)").connection.close()
    found = by_name([*doctor._databases(tmp_path)])
    assert found["data files"].detail == "journal.sqlite3 exists, but orders.sqlite3 is missing"
    assert found["journal.sqlite3"].state is FindingState.OK


def test_file_that_is_no_database_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "orders.sqlite3"
    path.write_bytes(b"no database, but longer than a header" * 100)
    finding = doctor._database(path)
    assert (finding.state, "restore the last backup" in finding.advice) == (FindingState.WRONG, True)


def test_database_that_is_too_large_to_check_in_time_is_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "orders.sqlite3"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE t (n INTEGER PRIMARY KEY, x TEXT)")
        connection.executemany("INSERT INTO t (x) VALUES (?)", [("x" * 50,)] * 60_000)
    connection.close()
    monkeypatch.setattr(doctor, "CHECK_DATABASE_S", -1.0)
    assert doctor._database(path).state is FindingState.NOTE


@pytest.fixture
def open_to_all() -> Iterator[Path]:
    with open_directory.opened() as directory:
        yield directory


def test_token_file_that_others_can_read_is_wrong(open_to_all: Path) -> None:
    file = open_to_all / "token"
    file.write_text("t" * 40)
    file.chmod(0o644)
    wrong, ok = doctor._token(configured(admin_token_file=file))
    assert (wrong.state, ok.state) == (FindingState.WRONG, FindingState.OK)
    assert wrong.detail == f"{file} can be read or changed by every user of this machine"
    assert wrong.advice.startswith(f"chmod 600 {file}, or chmod 700 {open_to_all}: ")
    file.chmod(0o600)
    assert [each.state for each in doctor._token(configured(admin_token_file=file))] == [FindingState.OK]
    file.chmod(0o644)
    open_to_all.chmod(0o700)
    assert [each.state for each in doctor._token(configured(admin_token_file=file))] == [FindingState.OK]


def test_token_file_is_judged_by_its_operators_and_faults_are_advised(tmp_path: Path) -> None:
    file = tmp_path / "token"
    for text, detail in (
        ("alice: a-token-of-alice-1\nbob: a-token-of-bob-22\n", "operators: alice, bob"),
        ("a-long-enough-token", "set, without a name: audit rows have the name that people give"),
    ):
        file.write_text(text)
        file.chmod(0o600)
        assert [*doctor._token(configured(admin_token_file=file))][-1].detail == detail
    file.write_text("alice: short")
    (wrong,) = doctor._token(configured(admin_token_file=file))
    assert (wrong.state, "line 1 is too short" in wrong.detail) == (FindingState.WRONG, True)
    assert "NAME: TOKEN" in wrong.advice


def test_secrets_of_the_systemd_units_are_out_of_reach(open_to_all: Path) -> None:
    """Files of mode 644 in `accounts`, mode 755, below a directory that only root can enter."""
    closed = open_to_all / "alipay-notify"
    closed.mkdir(mode=0o700)
    accounts = closed / "accounts"
    accounts.mkdir(mode=0o755)
    (accounts / "md5.key").write_text("k" * 32)
    (accounts / "md5.key").chmod(0o644)
    assert [*doctor._secrecy("keys of shop", accounts / "md5.key")] == []
    closed.chmod(0o755)
    assert [each.state for each in doctor._secrecy("keys of shop", accounts / "md5.key")] == [FindingState.WRONG]


@pytest.mark.parametrize(
    ("reach", "state", "advice"),
    [
        (Reach(groups=("ops",), users=("anna", "bob")), FindingState.WRONG, "chmod 600"),
        (Reach(groups=("ops",), is_complete=False), FindingState.WRONG, "chmod 600"),
        (Reach(groups=("alipay",), users=("alipay",)), FindingState.NOTE, "if the engine does not run as alipay"),
    ],
)
def test_one_other_user_may_be_the_engine_s_and_several_are_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reach: Reach, state: FindingState, advice: str
) -> None:
    monkeypatch.setattr("deploy.file_access.reach", lambda _: reach)
    (finding,) = doctor._secrecy("keys of shop", tmp_path / "md5.key")
    assert (finding.state, advice in finding.advice) == (state, True)
    assert reach.words() in finding.detail


def test_clock_behind_the_newest_file_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (finding,) = doctor._clock(tmp_path)
    assert finding.state is FindingState.OK
    os.utime(tmp_path / "file", (2**32, 2**32))
    (finding,) = doctor._clock(tmp_path)
    assert (finding.state, "it was set back" in finding.detail) == (FindingState.WRONG, True)


def test_clock_before_the_program_was_written_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 0.0)
    (finding,) = doctor._clock(tmp_path)
    assert finding.state is FindingState.WRONG


def test_port_that_another_program_listens_on_is_wrong() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        taken = doctor._port("admin port", "127.0.0.1", port, (False, b""))
        assert (taken.state, "ALIPAY_NOTIFY_ADMIN_PORT" in taken.advice) == (FindingState.WRONG, True)
        assert doctor._port("admin port", "127.0.0.1", port, (True, b"")).state is FindingState.OK
    assert doctor._port("public port", "127.0.0.1", 0, None).state is FindingState.OK
    assert doctor._port("public port", "192.0.2.1", 80, None).state is FindingState.WRONG


@pytest.mark.parametrize(
    ("answer", "failing"),
    [
        (b'{"checks": [{"name": "store", "ok": true, "detail": ""}]}', []),
        (b'{"checks": [{"name": "store", "ok": false, "detail": "gone"}]}', ["store: gone"]),
        (b'{"checks": [{"name": "store", "ok": false, "detail": ""}]}', ["store: no"]),
        (b"{}", ["its readiness answer cannot be read"]),
        (b"not JSON", ["its readiness answer cannot be read"]),
    ],
)
def test_failing_checks_are_read_from_the_readiness_answer(answer: bytes, failing: list[str]) -> None:
    assert doctor._failing(answer) == failing


def test_merchant_key_is_read_and_must_be_secret(open_to_all: Path) -> None:
    tmp_path = open_to_all
    table = {
        "family": "mapi",
        "sign_type": "RSA",
        "keys": ["alipay.pem"],
        "seller_id": "1",
        "merchant_key_file": "m.key",
    }
    shop = accounts_toml.parse({"accounts": {"shop": table}})["shop"]
    alipay.written(tmp_path, "alipay.pem", alipay.pem(alipay.rsa_key()))
    (missing, _) = doctor._keys(shop, tmp_path)
    assert (missing.state, "m.key cannot be read" in missing.detail) == (FindingState.WRONG, True)
    file = tmp_path / "m.key"
    file.write_bytes(alipay.private_pem(alipay.rsa_key("merchant")))
    file.chmod(0o644)
    assert [finding.state for finding in doctor._keys(shop, tmp_path)] == [
        FindingState.WRONG,
        FindingState.OK,
        FindingState.OK,
    ]
    file.chmod(0o600)
    assert {finding.state for finding in doctor._keys(shop, tmp_path)} == {FindingState.OK}


def test_token_of_a_providers_merchant_is_read_and_must_be_secret(open_to_all: Path) -> None:
    table = {
        "family": "openapi",
        "sign_type": "RSA2",
        "app_id": "2021",
        "auth_app_id": "2022",
        "keys": ["alipay.pem"],
        "app_auth_token_file": "a.token",
    }
    isv = accounts_toml.parse({"accounts": {"isv": table}})["isv"]
    alipay.written(open_to_all, "alipay.pem", alipay.pem(alipay.rsa_key()))
    (missing, _) = doctor._keys(isv, open_to_all)
    assert (missing.state, "a.token cannot be read" in missing.detail) == (FindingState.WRONG, True)
    file = open_to_all / "a.token"
    file.write_text("2026BBtoken\n")
    file.chmod(0o644)
    exposed, read, _ = doctor._keys(isv, open_to_all)
    assert (exposed.state, read.state, "2022" in read.detail) == (FindingState.WRONG, FindingState.OK, True)
    file.chmod(0o600)
    assert {finding.state for finding in doctor._keys(isv, open_to_all)} == {FindingState.OK}


def test_callbacks_are_read_and_their_secrets_must_be_secret(open_to_all: Path) -> None:
    accounts = open_to_all / "accounts.toml"
    assert [*doctor._callbacks(None, accounts)] == []
    file, secret = open_to_all / "callbacks.toml", open_to_all / "shop.secret"
    file.write_text('[callbacks.shop]\nurl = "https://shop.example/"\nsecret_files = ["shop.secret"]\n')
    (missing,) = doctor._callbacks(file, accounts)
    assert (missing.state, "shop.secret" in missing.detail) == (FindingState.WRONG, True)
    secret.write_text("whsec_" + "QUFB" * 8)
    secret.chmod(0o644)
    exposed, read = doctor._callbacks(file, accounts)
    assert (exposed.state, read.state, "shop in" in read.detail) == (FindingState.WRONG, FindingState.OK, True)
    secret.chmod(0o600)
    assert [each.state for each in doctor._callbacks(file, accounts)] == [FindingState.OK]
    known = alipay.accounts_file(open_to_all)
    with file.open("a") as more:
        more.write('accounts = ["shop-cn", "main"]\n')
    unknown, _ = doctor._callbacks(file, known)
    assert (unknown.state, "shop is for the account main, " in unknown.detail) == (FindingState.WRONG, True)

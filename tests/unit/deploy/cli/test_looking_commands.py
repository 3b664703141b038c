"""`doctor`, `config show` and `schema export`: commands that look at this machine."""

import json
import os
import re
import socket
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from typer.testing import CliRunner, Result

from deploy import doctor
from deploy.cli import main, schema
from deploy.doctor import FindingState
from schemas.events import OrderEvent
from tests.support.admin import World
from tests.support.paths import ROOT
from tests.unit.deploy.cli import admin_server
from workers.admin.probes import Check

CANARY = "canary-of-the-md5-secret"


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """A sound configuration, and two ports that nobody has."""
    key = rsa.generate_private_key(65537, 2048).public_key()
    (tmp_path / "alipay.pem").write_bytes(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    (tmp_path / "md5.key").write_text(CANARY)
    (tmp_path / "md5.key").chmod(0o600)
    (tmp_path / "accounts.toml").write_text(
        '[accounts.shop]\nfamily = "mapi"\nsign_type = "RSA2"\nkeys = ["alipay.pem"]\nseller_id = "2088001"\n'
        '[accounts.old]\nfamily = "mapi"\nsign_type = "MD5"\nmd5_key_file = "md5.key"\nseller_id = "2088001"\n'
    )
    ports = free_ports(2)
    return {
        "ALIPAY_NOTIFY_ACCOUNTS": str(tmp_path / "accounts.toml"),
        "ALIPAY_NOTIFY_DATA_DIR": str(tmp_path / "data"),
        "ALIPAY_NOTIFY_PORT": str(ports[0]),
        "ALIPAY_NOTIFY_ADMIN_PORT": str(ports[1]),
    }


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def wrong(environ: dict[str, str]) -> list[tuple[str, str]]:
    """What an examination finds wrong; each has to say what to do."""
    found = [each for each in doctor.examine(environ) if each.state is FindingState.WRONG]
    assert all(each.advice for each in found)
    return [(each.name, each.detail) for each in found]


def run(environ: dict[str, str], *arguments: str) -> Result:
    return CliRunner().invoke(main.application(), list(arguments), env=environ | {"COLUMNS": "220"})


def said(result: Result) -> Any:
    return json.loads(result.stdout)


def test_doctor_finds_nothing_wrong_before_the_first_start(environ: dict[str, str]) -> None:
    assert wrong(environ) == []
    told = run(environ, "doctor", "--output", "json")
    assert (told.exit_code, said(told)["ok"]) == (0, True)
    names = {finding["name"] for finding in said(told)["findings"]}
    assert names >= {"accounts", "keys of shop", "data directory", "disk space", "clock", "public port", "engine"}


def test_doctor_names_each_fault_of_settings_accounts_and_keys(environ: dict[str, str], tmp_path: Path) -> None:
    assert wrong(environ | {"ALIPAY_NOTIFY_PORT": "http"})[0][0] == "settings"
    (tmp_path / "md5.key").chmod(0o644)
    (tmp_path / "alipay.pem").write_text("no key")
    assert [name for name, _ in wrong(environ)] == ["keys of shop", "keys of old"]
    (tmp_path / "accounts.toml").write_text("[accounts.shop]\nfamily = 'other'\n")
    assert [name for name, _ in wrong(environ)] == ["accounts"]
    told = run(environ, "doctor")
    assert (told.exit_code, "accounts" in told.stdout) == (3, True)
    assert CANARY not in told.output


def test_doctor_refuses_an_admin_port_that_is_open_to_others(environ: dict[str, str]) -> None:
    assert tuple(name for name, _ in wrong(environ | {"ALIPAY_NOTIFY_ADMIN_HOST": "0.0.0.0"})) == ("admin token",)


def test_doctor_sees_a_damaged_file_a_missing_one_and_a_clock_that_was_set_back(
    environ: dict[str, str], tmp_path: Path
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for name in doctor.DATABASES:
        with sqlite3.connect(data / name) as connection:
            connection.execute("CREATE TABLE orders (number TEXT)")
            connection.executemany("INSERT INTO orders VALUES (?)", [("x" * 500,)] * 200)
        connection.close()
    assert wrong(environ) == []
    sound = (data / "orders.sqlite3").read_bytes()
    (data / "orders.sqlite3").write_bytes(sound[:4096] + b"\xff" * 4096 + sound[8192:])
    assert [name for name, _ in wrong(environ)] == ["orders.sqlite3"]
    (data / "orders.sqlite3").unlink()
    assert [name for name, _ in wrong(environ)] == ["data files"]
    (data / "orders.sqlite3").write_bytes(sound)
    later = time.time() + 86_400
    os.utime(data / "orders.sqlite3", (later, later))
    assert [name for name, _ in wrong(environ)] == ["clock"]


def test_doctor_says_that_an_address_is_not_of_this_machine(environ: dict[str, str]) -> None:
    ((name, detail),) = wrong(environ | {"ALIPAY_NOTIFY_HOST": "192.0.2.1"})
    assert (name, "192.0.2.1" in detail) == ("public port", True)


def test_doctor_tells_a_foreign_program_from_a_running_engine(environ: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as foreign:
        foreign.settimeout(0.01)
        port = foreign.getsockname()[1]
        found = wrong(environ | {"ALIPAY_NOTIFY_PORT": str(port)})
    assert found == [("public port", f"another program serves 127.0.0.1:{port}")]
    with admin_server.running() as server:
        running = environ | {"ALIPAY_NOTIFY_ADMIN_PORT": server.url.rpartition(":")[2]}
        assert wrong(running) == []
        server.world.checks = [Check(name="journal", ok=False, detail="disk full")]
        assert wrong(running) == [("engine", "journal: disk full")]


def test_config_show_tells_values_sources_and_accounts_and_no_secret(environ: dict[str, str]) -> None:
    told = run(environ, "config", "show", "--output", "json")
    assert told.exit_code == 0
    settings = {row["name"]: (row["value"], row["from"]) for row in said(told)["settings"]}
    assert settings["ALIPAY_NOTIFY_PORT"] == (int(environ["ALIPAY_NOTIFY_PORT"]), "environment")
    assert settings["ALIPAY_NOTIFY_HOST"] == ("127.0.0.1", "default")
    assert [account["name"] for account in said(told)["accounts"]] == ["shop", "old"]
    assert CANARY not in told.output
    assert CANARY not in run(environ, "config", "show").output


def test_config_show_tells_where_a_server_is_and_not_its_password(environ: dict[str, str]) -> None:
    told = environ | {
        "ALIPAY_NOTIFY_POSTGRES": f"postgresql://u:{CANARY}@db/orders",
        "ALIPAY_NOTIFY_REDIS": f"redis://:{CANARY}@redis/0",
    }
    for output in ("json", "table"):
        shown = run(told, "config", "show", "--output", output).output
        assert CANARY not in shown
        assert "@db/orders" in shown


def test_config_show_tells_every_fault_and_ends_with_3(environ: dict[str, str]) -> None:
    bad = environ | {
        "ALIPAY_NOTIFY_PORT": "http",
        "ALIPAY_NOTIFY_BODY_DEADLINE_S": "9",
        "ALIPAY_NOTIFY_ACCOUNTS": "/none",
    }
    told = run(bad, "config", "show", "--output", "json")
    faults = "\n".join(said(told)["faults"])
    assert told.exit_code == 3
    assert all(part in faults for part in ("ALIPAY_NOTIFY_PORT", "BODY_DEADLINE_S", "/none"))
    without = CliRunner().invoke(main.application(), ["config", "show"], env={"ALIPAY_NOTIFY_ACCOUNTS": None})
    assert (without.exit_code, "ALIPAY_NOTIFY_ACCOUNTS is not set" in without.stdout) == (3, True)


def test_the_committed_schemas_are_those_of_the_structs(tmp_path: Path) -> None:
    for name, text in schema.documents().items():
        assert (ROOT / "schemas" / name).read_text(encoding="utf-8") == text, "run `alipay-notify schema export`"
    assert run({}, "schema", "export", "--dir", str(tmp_path)).exit_code == 0
    assert run({}, "schema", "export", "--check", "--dir", str(tmp_path)).exit_code == 0
    (tmp_path / "order_event.v1.json").write_text("{}")
    assert run({}, "schema", "export", "--check", "--dir", str(tmp_path)).exit_code == 3


def test_a_schema_names_every_field_and_stays_open_for_more() -> None:
    document = json.loads(schema.documents()["order_event.v1.json"])
    assert set(document["properties"]) == set(OrderEvent.__struct_fields__)
    assert "additionalProperties" not in document
    references = set(re.findall(r'"#/\$defs/(\w+)"', json.dumps(document)))
    assert references == document["$defs"].keys()


def test_the_openapi_document_has_every_path_and_method_of_the_api_and_no_other() -> None:
    text = (ROOT / "schemas" / "openapi.yaml").read_text(encoding="utf-8")
    described = set()
    path = ""
    for line in text.partition("\ncomponents:")[0].splitlines():
        if match := re.fullmatch(r"  (/\S*):", line):
            path = match[1]
        elif match := re.fullmatch(r"    (get|put|post|delete):", line):
            described.add((match[1].upper(), path))
    served = {
        (route.method, re.sub(r"\{(\w+):[^}]+\}", r"{\1}", route.resource.canonical))
        for route in World().application().router.routes()
        if route.resource is not None and route.method != "HEAD"
    }
    api = {(method, path) for method, path in served if path.startswith(("/api", "/livez", "/readyz", "/metrics"))}
    assert described == api | {("POST", "/notify/{account}")}

"""Rows L02, L09, L10: where secrets are not, and how a stranger's text is shown, looked for in the whole engine."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote, urlsplit
from urllib.request import Request, urlopen

import pytest
from cryptography.hazmat.primitives import hashes

from tests.bad_input import merchant, wire
from tests.bad_input.merchant import Signer, encode
from tests.support import alipay
from tests.support.paths import ROOT
from tests.support.processes import Engine, eventually

TOKEN = "canary-7b1c-the-token-of-the-admin"  # like the MD5 key, it must turn up nowhere
SECRETS = (merchant.MD5_KEY, TOKEN, merchant.MD5_KEY[:13], TOKEN[:13])
MD5, CN = "/notify/shop-md5", "/notify/shop-cn"


class House:
    """An engine with secrets, and all its outputs."""

    def __init__(self, directory: Path, signer: Signer) -> None:
        self.directory = directory
        self.signer = signer
        self.accounts = merchant.write_accounts(directory, signer.keys)
        (directory / "token").write_text(f"kim: {TOKEN}\n")
        self.environment = {
            "ALIPAY_NOTIFY_ADMIN_TOKEN_FILE": str(directory / "token"),
            "ALIPAY_NOTIFY_KEY_RELOAD_INTERVAL_S": "0.05",
            "ALIPAY_NOTIFY_LOG_REFUSALS_PER_S": "100000",
        }
        self.engine = Engine(self.accounts, directory / "engine", **self.environment)
        self.outputs: dict[str, str] = {}

    @property
    def port(self) -> int:
        port = urlsplit(self.engine.public).port
        assert port is not None
        return port

    def post(self, path: str, body: bytes, **options: Any) -> int:
        answer = wire.send(self.port, wire.post(path, body, **options))
        self.outputs[f"answer {len(self.outputs)}"] = answer.raw.decode("latin-1")
        return answer.status

    def ask(self, path: str, *, method: str = "GET", body: Any = None, token: str = "") -> str:
        """An answer of the admin port, headers and body."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        headers["Content-Type"] = "application/json"
        encoded = None if body is None else json.dumps(body).encode()
        request = Request(self.engine.admin + path, data=encoded, method=method, headers=headers)
        try:
            with urlopen(request, timeout=10) as answer:
                text = f"{answer.status}\n{answer.headers}\n{answer.read().decode()}"
        except HTTPError as error:
            text = f"{error.code}\n{error.headers}\n{error.read().decode()}"
        self.outputs[f"{method} {path} {len(self.outputs)}"] = text
        return text

    def command(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """What a command says."""
        ended = subprocess.run(
            [sys.executable, "-m", "deploy.cli.main", *arguments],
            env=os.environ
            | {
                "ALIPAY_NOTIFY_ACCOUNTS": str(self.accounts),
                "ALIPAY_NOTIFY_DATA_DIR": str(self.directory / "engine"),
                "ALIPAY_NOTIFY_ADMIN": self.engine.admin,
                "COLUMNS": "300",
                **self.environment,
                **environment,
            },
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        self.outputs[" ".join(arguments)] = ended.stdout + ended.stderr
        return ended

    def processed(self, count: int) -> None:
        """Returns when so many records have a disposition."""

        def is_enough() -> bool:
            samples = self.engine.metrics().items()
            return sum(value for name, value in samples if name.startswith("alipay_notify_processed_total")) >= count

        eventually(is_enough)


@pytest.fixture
def house(tmp_path: Path, signer: Signer) -> Iterator[House]:
    house = House(tmp_path, signer)
    house.engine.start()
    yield house
    house.engine.end()


def provoke(house: House) -> None:
    """Everything that could make the engine talk about its secrets: all kinds of refusals, holds, writes, faults."""
    md5 = house.signer.web(merchant.mapi_payment())
    held = [house.signer.web(merchant.mapi_payment(total_fee=amount)) for amount in ("x", "-1.00", "1e3", "\0")]
    for params in (md5, md5, house.signer.web(merchant.mapi_payment(trade_status="TRADE_MAGIC")), *held):
        assert house.post(MD5, encode(params)) == 200
    for sign in (
        "",
        "é签",
        md5["sign"].upper(),
        "0" * 32,
        alipay.rsa_signature(b"x", house.signer.keys.sg, hashes.SHA1()),
    ):
        assert house.post(MD5, encode(md5 | {"sign": sign})) == 401
    assert house.post(MD5, encode(md5 | {"sign_type": "RSA"})) == 401
    assert house.post(MD5, encode(house.signer.web(merchant.mapi_payment(seller_id=merchant.OTHER_SELLER)))) == 403
    assert house.post(MD5, b"\xff\xfe") == 400
    body = b"[" * 5000
    headers = house.signer.antom(body)
    headers["signature"] = alipay.antom_header(headers["signature"])
    assert house.post("/notify/antom-hk", body, headers=headers, content_type=wire.JSON) == 200
    house.processed(8)
    number = md5["out_trade_no"]
    for token in ("", "wrong-token-wrong-token", TOKEN):
        answer = house.ask(f"/api/orders/shop-md5/{number}", method="PUT", body={"amount": "1.00"}, token=token)
        assert answer[:3] in (("200", "201") if token == TOKEN else ("401",))
        house.ask("/api/held/0-3/discard", method="POST", body={"reason": "x", "by": "kim"}, token=token)
        house.ask("/api/held/replay", method="POST", body={"reason": "x", "by": "y"}, token=token)
        house.ask("/api/returns/shop-md5", method="POST", body={"text": encode(md5).decode()}, token=token)


FAULTY = "accounts not reloaded, the old ones stay in use"


def break_the_key_file(house: House) -> None:
    """Reload faults: the file short, no longer plain, a directory, gone, and sound again."""
    file = house.directory / "web.txt"
    for broken in (merchant.MD5_KEY[:13], merchant.MD5_KEY + "\n" + merchant.MD5_KEY, merchant.MD5_KEY + "é", "", None):
        file.unlink(missing_ok=True)
        if broken is None:
            file.mkdir()
        else:
            file.write_text(broken)
        eventually(lambda: FAULTY in house.engine.log.read_text())
        assert house.post(MD5, encode(house.signer.web(merchant.mapi_payment()))) == 200, "the old key stays"
    file.rmdir()
    file.write_text(merchant.MD5_KEY)
    time.sleep(0.15)


def look_everywhere(house: House) -> None:
    for path in (
        "/metrics",
        "/livez",
        "/readyz",
        "/",
        "/held",
        "/api/held",
        "/api/held/0-3",
        "/held/0-3",
        "/api/recent",
    ):
        house.ask(path)
    for line in house.ask("/api/held").splitlines()[-1:]:
        for row in json.loads(line)["held"]:
            house.ask(f"/api/held/{row['id']}")
            house.ask(f"/held/{row['id']}")
            house.ask(f"/api/orders/{row['account']}/{quote(row['order'] or 'none', safe='')}")
    for output in ("table", "json"):
        house.command("config", "show", "--output", output)
        house.command("held", "list", "--output", output)
        house.command("doctor", "--output", output)
        house.command("keys", "check", "--output", output)
    # Refused starts speak of the same files.
    (house.directory / "short").write_text(TOKEN[:13])
    assert house.command("up", ALIPAY_NOTIFY_ADMIN_TOKEN_FILE=str(house.directory / "short")).returncode != 0
    house.command("config", "show", ALIPAY_NOTIFY_ADMIN_TOKEN_FILE=TOKEN[:4])


def test_l02_no_secret_is_in_any_output_or_file_of_the_engine(house: House) -> None:
    provoke(house)
    break_the_key_file(house)
    look_everywhere(house)
    assert house.engine.stop() == 0
    house.outputs["log"] = house.engine.log.read_text()
    for file in (house.directory / "engine").iterdir():
        house.outputs[file.name] = file.read_bytes().decode("latin-1")
    found = {place for place, text in house.outputs.items() for secret in SECRETS if secret in text}
    assert found == set()
    assert FAULTY in house.outputs["log"], "a run that met no fault proves nothing"
    assert len(house.outputs["config show --output json"]) > 1000
    assert "web.txt" in house.outputs["config show --output json"], "the file's name is shown instead"
    assert "Traceback" not in house.outputs["log"]


def test_l10_no_secret_is_in_process_list_environment_or_core_dump(house: House) -> None:
    process = Path("/proc") / str(house.engine.pid)
    for name in ("cmdline", "environ"):
        text = (process / name).read_bytes().decode("latin-1")
        assert not [secret for secret in SECRETS if secret in text]
    limits = (process / "limits").read_text()
    assert re.search(r"Max core file size +0 ", limits), limits


# --- L09: a stranger's text, shown

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    '=HYPERLINK("http://x.example","y")',
    "[bold red]x[/bold red]",
    "[link=http://x.example]y[/link]",
    "{{7*7}}{% raw %}",
)


def test_l09_hostile_text_stays_text_on_the_console_and_in_commands(house: House) -> None:
    for number in HOSTILE:
        for params in (
            merchant.payment(out_trade_no=number, subject=number),
            merchant.payment(out_trade_no=number, total_amount="x"),
        ):
            assert house.post(CN, encode(house.signer.cn(params))) == 200
    house.processed(2 * len(HOSTILE))
    rows = json.loads(house.ask("/api/held").splitlines()[-1])["held"]
    pages = ["/", "/held", *(f"/held/{row['id']}" for row in rows)]
    pages += [f"/orders/shop-cn/{quote(number, safe='')}" for number in HOSTILE]
    for page in pages:
        text = house.ask(page)
        assert text.startswith("200\n")
        assert "49{%" not in text
        assert not [number for number in HOSTILE[:2] if number in text], page
    for number in HOSTILE:
        shown = house.command("order", "show", number, "--account", "shop-cn")
        assert number in shown.stdout
        assert "\x1b" not in shown.stdout
    listed = house.command("held", "list").stdout
    assert [number for number in HOSTILE if number not in listed] == []
    for row in rows:
        assert row["order"] in house.command("held", "show", row["id"]).stdout


def test_l09_no_output_is_a_table_that_a_spreadsheet_evaluates(house: House) -> None:
    """There is no CSV output, so no formula can reach a spreadsheet."""
    number = HOSTILE[2]
    assert house.post(CN, encode(house.signer.cn(merchant.payment(out_trade_no=number)))) == 200
    house.processed(1)
    for path in (f"/api/orders/shop-cn/{quote(number, safe='')}", "/api/held", "/held", "/"):
        request = Request(house.engine.admin + path, headers={"Accept": "text/csv"})
        with urlopen(request, timeout=10) as answer:
            assert answer.headers["Content-Type"].partition(";")[0] in ("application/json", "text/html")
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
    for command in (("order", "show", number, "--output", "csv"), ("held", "list", "--output", "csv")):
        assert house.command(*command).returncode == 2

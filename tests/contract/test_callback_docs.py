"""The programs in `deploy/docs/callbacks.md` accept a callback, and refuse a forged one."""

import json
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator
from standardwebhooks import WebhookVerificationError

from schemas import event_names
from schemas.times import HOUR_MS
from tests.support import callback_receivers
from tests.support.node import environment
from tests.support.paths import ROOT
from tests.unit.workers.callbacks.test_messages import event
from workers.callbacks import endpoints, messages, schedule

WITHIN_S = 60
PAGE = (ROOT / "deploy/docs/callbacks.md").read_text(encoding="utf-8")


def program(language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    return str(found)


def callback() -> tuple[bytes, dict[str, str]]:
    message = messages.message(event(), event_names.LOGICAL)
    secrets = (b"the new secret of the merchant", endpoints.secret(callback_receivers.SECRET))
    return message.body, message.headers(secrets, at_s=int(time.time()))


def test_python_program_verifies_a_callback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLBACK_SECRET", callback_receivers.SECRET)
    module: dict[str, Any] = {}
    exec(program("python"), module)
    body, headers = callback()
    assert module["order_of"](body, headers)["version"] == 2
    with pytest.raises(WebhookVerificationError):
        module["order_of"](body.replace(b"2", b"3"), headers)


def test_node_program_verifies_a_callback(node: Path, tmp_path: Path) -> None:
    (tmp_path / "page.js").write_text(program("js"))
    body, headers = callback()
    for text, is_accepted in ((body.decode(), True), (body.decode().replace("2", "3"), False)):
        call = f"require('./page.js').orderOf({json.dumps(text)}, {json.dumps(headers)}).version"
        done = subprocess.run(
            [node, "-p", call],
            cwd=tmp_path,
            env=environment() | {"CALLBACK_SECRET": callback_receivers.SECRET},
            capture_output=True,
            text=True,
            timeout=WITHIN_S,
            check=False,
        )
        assert (done.returncode == 0, "2" in done.stdout) == (is_accepted, is_accepted), done.stderr


def test_file_in_the_page_is_accepted() -> None:
    import tomllib

    parsed = endpoints.parse(tomllib.loads(program("toml")), lambda file: b"s" * 24)
    assert [*parsed] == ["shop"]


def test_description_of_the_api_fits_a_callback() -> None:
    document = msgspec.yaml.decode((ROOT / "schemas/openapi.yaml").read_bytes(), type=dict[str, Any])
    described = document["webhooks"]["orderEvent"]["post"]
    body, headers = callback()
    given = {each["name"]: each["schema"] for each in described["parameters"]}
    assert given.keys() == headers.keys() - {"content-type"}
    for name, schema in given.items():
        Draft202012Validator(schema).validate(headers[name])
    (content_type,) = described["requestBody"]["content"]
    assert content_type == headers["content-type"]
    sent = json.loads(body)
    Draft202012Validator(document["components"]["schemas"]["Callback"]).validate(sent)
    assert sent.keys() == document["components"]["schemas"]["Callback"]["properties"].keys()
    waits = [f"{wait // 60_000} min" if wait < HOUR_MS else f"{wait // HOUR_MS} h" for wait in schedule.WAITS_MS[2:]]
    assert (
        f"5 s, 30 s, {', '.join(waits[:-1])}, then every {waits[-1]}"
        in described["responses"]["default"]["description"]
    )

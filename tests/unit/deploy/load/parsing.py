"""Parse a signed request as its receiver would, but without the product's code."""

import json
from typing import Any
from urllib.parse import parse_qsl

from deploy.load.corpus import SignedRequest


def body(one: SignedRequest) -> bytes:
    return one.request.partition(b"\r\n\r\n")[2]


def headers(one: SignedRequest) -> dict[str, str]:
    lines = one.request.partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]
    return {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}


def fields(one: SignedRequest) -> dict[str, str]:
    charset = headers(one)["content-type"].rpartition("charset=")[2]
    return dict(parse_qsl(body(one).decode("ascii"), encoding=charset, keep_blank_values=True))


def fact(one: SignedRequest) -> dict[str, Any]:
    """The notification as `tests.support.model` takes it."""
    if body(one).startswith(b"{"):
        return {"id": one.sent.notify_id, "message": json.loads(body(one))}
    return {"id": one.sent.notify_id, "fields": fields(one)}

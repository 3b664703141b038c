"""The endpoints of callbacks: the values that the content of `callbacks.toml` gives. Pure.

An endpoint knows the bytes of its secrets. The reader of the file also reads the secrets' files, and shows neither.
"""

import base64
import binascii
import math
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from msgspec import Struct

from schemas import scopes, topics
from schemas.accounts import NAME
from schemas.events import TYPE_PREFIX, Outgoing
from schemas.times import HOUR_MS

ENDPOINTS_MAX = 64  # so that each can have a connection of its own (`sender.CONNECTIONS_MAX`)
SECRETS_MAX = 4
SECRET_PREFIX = "whsec_"  # noqa: S105 - of Standard Webhooks
SECRET_BYTES_MIN, SECRET_BYTES_MAX = 24, 64  # of Standard Webhooks
URL_CHARACTERS_MAX = 2000
TIMEOUT_S, TIMEOUT_S_MAX = 10.0, 30.0
DISABLE_AFTER_H, DISABLE_AFTER_H_MAX = 72, 96  # less than `schedule.GIVE_UP_MS`: a dead endpoint loses no event
TYPES = frozenset(
    {
        "order.waiting",
        "order.authorized",
        "order.paid",
        "order.finished",
        "order.refunded",
        "order.closed",
        "order.flagged",
        "order.updated",
    }
)
_SETTINGS = frozenset({"url", "secret_files", "types", "accounts", "timeout_s", "disable_after_hours"})


class BadCallbacks(ValueError):
    """The endpoints cannot be used. `faults` has one text for each problem, with the endpoint's name."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = faults


class Endpoint(Struct, frozen=True, kw_only=True):
    """One receiver of callbacks. The secrets have no repr; each signs, so that one can replace another.

    No `types` or no `accounts` means all of them.
    """

    name: str
    url: str
    secrets: tuple[bytes, ...]
    types: frozenset[str] = frozenset()
    accounts: frozenset[str] = frozenset()
    timeout_s: float = TIMEOUT_S
    disable_after_ms: int = DISABLE_AFTER_H * HOUR_MS

    def __repr__(self) -> str:
        return f"Endpoint(name={self.name!r}, url={self.url!r})"

    def wants(self, event: Outgoing) -> bool:
        """Return whether the event is an order event that passes the filters."""
        if event.topic != topics.ORDER_EVENT or (self.types and type_of(event) not in self.types):
            return False
        return not self.accounts or scopes.account_of(scope_of(event)) in self.accounts


def type_of(event: Outgoing) -> str:
    """Return the event's type without the first part and the version of the schema: `order.paid`."""
    named = dict(event.headers).get("ce_type", b"").decode("utf-8", "replace")
    return named.removeprefix(f"{TYPE_PREFIX}.").removesuffix(".v1")


def scope_of(event: Outgoing) -> str:
    """Return the scope of the event's order."""
    return event.key.decode("utf-8", "replace").partition(":")[0]


def secret(text: str) -> bytes:
    """Return the bytes of a secret in its written form: `whsec_` and base64.

    Raises:
        ValueError: it has another form or length; the message does not contain it.
    """
    encoded = text.strip()
    if not encoded.startswith(SECRET_PREFIX):
        raise ValueError(f"a secret begins with {SECRET_PREFIX}")
    try:
        decoded = base64.b64decode(encoded.removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"after {SECRET_PREFIX} a secret is base64") from None
    if not SECRET_BYTES_MIN <= len(decoded) <= SECRET_BYTES_MAX:
        raise ValueError(f"a secret has {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} bytes, and this one {len(decoded)}")
    return decoded


def parse(configuration: Mapping[str, Any], read_secret: Callable[[str], bytes]) -> dict[str, Endpoint]:
    """Return the endpoints under `[callbacks.*]`, by name. `read_secret` returns the secret in the file of that name.

    Raises:
        BadCallbacks: with all faults, not only the first.
    """
    tables = configuration.get("callbacks", {})
    faults = [f"unknown table [{name}]: only [callbacks.NAME] is read" for name in configuration if name != "callbacks"]
    if not isinstance(tables, Mapping):
        raise BadCallbacks([*faults, "callbacks must be tables [callbacks.NAME]"])
    if len(tables) > ENDPOINTS_MAX:
        faults.append(f"there are {len(tables)} endpoints, and {ENDPOINTS_MAX} are possible")
    endpoints = {}
    for name, table in tables.items():
        found: list[str] = []
        endpoint = _endpoint(name, table, read_secret, found)
        faults += [f"callback {name}: {fault}" for fault in found]
        if endpoint is not None:
            endpoints[name] = endpoint
    if faults:
        raise BadCallbacks(faults)
    return endpoints


def _endpoint(name: str, table: Any, read_secret: Callable[[str], bytes], faults: list[str]) -> Endpoint | None:
    if NAME.fullmatch(name) is None:
        faults.append("a name must be lower-case letters, digits and inner hyphens")
    if not isinstance(table, Mapping):
        faults.append("must be a table")
        return None
    faults += [f"unknown setting {key}" for key in sorted(table.keys() - _SETTINGS)]
    url = _url(table.get("url"), faults)
    secrets = _secrets(table.get("secret_files"), read_secret, faults)
    types = _texts("types", table.get("types", []), faults)
    if unknown := sorted(types - TYPES):
        faults.append(f"unknown types {', '.join(unknown)}: there are {', '.join(sorted(TYPES))}")
    accounts = _texts("accounts", table.get("accounts", []), faults)
    timeout_s = _number("timeout_s", table.get("timeout_s", TIMEOUT_S), 1, TIMEOUT_S_MAX, faults)
    hours = _number(
        "disable_after_hours", table.get("disable_after_hours", DISABLE_AFTER_H), 1, DISABLE_AFTER_H_MAX, faults
    )
    if faults:
        return None
    return Endpoint(
        name=name,
        url=url,
        secrets=secrets,
        types=types,
        accounts=accounts,
        timeout_s=timeout_s,
        disable_after_ms=int(hours * HOUR_MS),
    )


def _url(given: Any, faults: list[str]) -> str:
    """Return the URL. One with a user, a password or a fragment is refused: the first two are no way to sign."""
    if not isinstance(given, str) or not given.isascii() or not given.isprintable() or " " in given:
        faults.append("url must be a text in quotes, such as https://shop.example.com/callbacks")
        return ""
    try:
        parts = urlsplit(given)
        is_usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_usable = False
    if not is_usable or len(given) > URL_CHARACTERS_MAX:
        faults.append(f"url must be http or https, with a host, and at most {URL_CHARACTERS_MAX} characters")
    elif "@" in parts.netloc or parts.fragment:
        faults.append("url must have no user, password or fragment")
    return given


def _secrets(given: Any, read_secret: Callable[[str], bytes], faults: list[str]) -> tuple[bytes, ...]:
    if not isinstance(given, list) or not 1 <= len(given) <= SECRETS_MAX or not all(isinstance(f, str) for f in given):
        faults.append(f"secret_files must be a list of 1 to {SECRETS_MAX} files")
        return ()
    secrets = []
    for file in given:
        try:
            secrets.append(read_secret(file))
        except ValueError as error:
            faults.append(f"secret file {file}: {error}")
    return tuple(secrets)


def _texts(key: str, given: Any, faults: list[str]) -> frozenset[str]:
    if isinstance(given, list) and all(isinstance(each, str) for each in given):
        return frozenset(given)
    faults.append(f"{key} must be a list of texts in quotes")
    return frozenset()


def _number(key: str, given: Any, least: float, most: float, faults: list[str]) -> float:
    is_number = isinstance(given, int | float) and not isinstance(given, bool) and math.isfinite(given)
    if is_number and least <= given <= most:
        return float(given)
    faults.append(f"{key} must be a number from {least:g} to {most:g}")
    return least

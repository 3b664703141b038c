"""Options that several commands share, and the settings of commands that look at the cluster."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deploy import exits
from deploy.cli import launch

if TYPE_CHECKING:
    from deploy.cluster.settings import ClusterSettings

Accounts = Annotated[
    Path | None,
    typer.Option(
        readable=False, envvar="ALIPAY_NOTIFY_ACCOUNTS", help="The accounts file; key paths are relative to it."
    ),
]
Host = Annotated[str | None, typer.Option(envvar="ALIPAY_NOTIFY_HOST", help="Address of the public port [127.0.0.1].")]
Port = Annotated[
    int | None,
    typer.Option(min=0, max=65535, envvar="ALIPAY_NOTIFY_PORT", help="Public port; 0 is any free one [8080]."),
]
AdminHost = Annotated[
    str | None, typer.Option(envvar="ALIPAY_NOTIFY_ADMIN_HOST", help="Address of the admin port [127.0.0.1].")
]
AdminPort = Annotated[
    int | None,
    typer.Option(min=0, max=65535, envvar="ALIPAY_NOTIFY_ADMIN_PORT", help="Admin port; 0 is any free one [9464]."),
]
Kafka = Annotated[
    str | None, typer.Option(envvar="ALIPAY_NOTIFY_KAFKA", metavar="HOST:PORT,…", help="Kafka bootstrap brokers.")
]
Postgres = Annotated[
    str | None,
    typer.Option(envvar="ALIPAY_NOTIFY_POSTGRES", metavar="URL", help="The order store: postgresql://…"),
]
Redis = Annotated[
    str | None,
    typer.Option(
        envvar="ALIPAY_NOTIFY_REDIS", metavar="URL", help="Idempotency locks: redis://… Without it, no locks are used."
    ),
]

ACCOUNTS = "ALIPAY_NOTIFY_ACCOUNTS"


def load_settings(**given: Any) -> ClusterSettings:
    """Return the settings: the environment's, overridden by the given options; a fault ends the command.

    Commands for topics and tables need no accounts, so an accounts file does not have to exist here.
    """
    from deploy.cluster import settings
    from ingest.settings import BadSettings

    try:
        return settings.load({ACCOUNTS: "accounts.toml", **os.environ}, **given)
    except BadSettings as bad:
        launch.refuse("has wrong settings", with_hint(bad.faults), exits.WRONG_USAGE)


def with_hint(faults: list[str]) -> list[str]:
    """Return the faults, and where the settings of a local stack are, if one runs here and an address is missing."""
    from deploy.cluster import servers

    is_missing = any(f"{name} is not set" in fault for fault in faults for name in ("KAFKA", "POSTGRES"))
    if not is_missing or servers.of_stack(servers.STACK) is None:
        return faults
    return [*faults, f"a local stack runs here: `source {servers.STACK}/env` sets its addresses"]

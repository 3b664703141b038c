"""The options that several commands take, each said once: where servers are, and which ports are ours.

What commands that look at the cluster are told: the environment of its processes, with the options above it.

They need no accounts, so that whoever sets up topics and tables may do without those.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deploy import exits
from deploy.cli import launch

Accounts = Annotated[
    Path | None,
    typer.Option(readable=False, envvar="ALIPAY_NOTIFY_ACCOUNTS", help="accounts.toml; key paths are relative to it."),
]
Host = Annotated[str | None, typer.Option(envvar="ALIPAY_NOTIFY_HOST", help="Address of the public port [127.0.0.1].")]
Port = Annotated[
    int | None, typer.Option(min=0, max=65535, envvar="ALIPAY_NOTIFY_PORT", help="Public port, 0 is any [8080].")
]
AdminHost = Annotated[
    str | None, typer.Option(envvar="ALIPAY_NOTIFY_ADMIN_HOST", help="Address of the admin port [127.0.0.1].")
]
AdminPort = Annotated[
    int | None, typer.Option(min=0, max=65535, envvar="ALIPAY_NOTIFY_ADMIN_PORT", help="Admin port, 0 is any [9464].")
]
Kafka = Annotated[
    str | None, typer.Option(envvar="ALIPAY_NOTIFY_KAFKA", metavar="HOST:PORT,…", help="Brokers to ask first.")
]
Postgres = Annotated[
    str | None, typer.Option(envvar="ALIPAY_NOTIFY_POSTGRES", metavar="URL", help="The order store: postgresql://…")
]
Redis = Annotated[
    str | None, typer.Option(envvar="ALIPAY_NOTIFY_REDIS", metavar="URL", help="Claims: redis://…; without, no claims.")
]


if TYPE_CHECKING:
    from deploy.cluster.settings import ClusterSettings

ACCOUNTS = "ALIPAY_NOTIFY_ACCOUNTS"


def told(**given: Any) -> ClusterSettings:
    """The settings; every fault in them ends the command."""
    from deploy.cluster import settings
    from ingest.settings import BadSettings

    try:
        return settings.load({ACCOUNTS: "accounts.toml", **os.environ}, **given)
    except BadSettings as bad:
        launch.refuse("cannot do that as told", bad.faults, exits.WRONG_USAGE)

"""The options that several commands take, each said once: where servers are, and which ports are ours."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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

"""`alipay-notify load`: send notifications at a constant rate, then verify that each took effect exactly once.

This module declares and checks the options. `deploy.load` is imported when the command runs, so `--help` stays quick.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import typer

from deploy import exits
from deploy.cli import admin as admin_api
from deploy.cli import sandbox as sandbox_command
from deploy.cli import terminal
from schemas import topics

if TYPE_CHECKING:
    from deploy.load.corpus import Mix
    from deploy.load.generator import Target
    from deploy.load.origin import Origin
    from deploy.load.run import LoadPlan, Result

_EXTRA_OF = {"hdrh": "load", "aiokafka": "cluster"}
_RATE_MAX = 100_000
_REQUESTS_MAX = 5_000_000  # all signed requests stay in memory, about a kilobyte each

_HELP = """Send notifications at a constant rate, and verify the outcome of each.

    alipay-notify load --prepare .load
    ALIPAY_NOTIFY_ACCOUNTS=.load/merchant/accounts.toml alipay-notify up
    alipay-notify load --sandbox .load --admin http://127.0.0.1:9464 \\
        --rate 500 --duration 60s
    alipay-notify load --to http://127.0.0.1:8080/notify/shop-sg \\
        --accounts accounts.toml --key private.pem
    alipay-notify load --rate 3000 --processes 2 --retry --output json

--prepare creates keys, and accounts.toml for the engine under test. All requests are signed first. They become due at
the rate whether or not the receiver keeps up, and a latency counts from the moment its request was due. With --admin
the command checks that every acknowledged notification reached the order store and the events with exactly one effect.
With --retry unacknowledged notifications are sent again, so a run may span a restart.

Without --sandbox the keys are those of the sandbox that was started last in this directory.
"""

_EPILOG = "Exit codes: 0 no findings, 1 failed, 2 wrong usage, 3 findings."


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("load", help=_HELP, epilog=_EPILOG)(load)


def load(
    to: Annotated[
        str, typer.Option(metavar="URL", help="A receiver, or the whole notify URL of one account.")
    ] = sandbox_command.DEFAULT_NOTIFY,
    sandbox: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", envvar=sandbox_command.DIRECTORY_ENVIRONMENT, help="Sign with this sandbox's keys."
        ),
    ] = None,
    account: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Send only for this account; may be repeated.")
    ] = None,
    accounts: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The receiver's accounts.toml; requires --key.")
    ] = None,
    key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The private key (or MD5 key) of the account in --to.")
    ] = None,
    rate: Annotated[float, typer.Option(help="Requests a second.")] = 100.0,
    duration: Annotated[str, typer.Option(help="Length of the run: 60s, 5m, 1h.")] = "10s",
    duplicates: Annotated[float, typer.Option(min=0.0, max=1.0, help="Share of duplicates.")] = 0.15,
    lifecycles: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share of orders with several events, out of order.")
    ] = 0.3,
    forgeries: Annotated[float, typer.Option(min=0.0, max=1.0, help="Share of forgeries.")] = 0.02,
    processes: Annotated[int, typer.Option(min=1, max=64, help="Sender processes.")] = 1,
    connections: Annotated[int, typer.Option(min=1, max=20_000, help="Most connections in all.")] = 256,
    timeout: Annotated[str, typer.Option(help="Time limit for an answer.")] = "5s",
    retry: Annotated[bool, typer.Option("--retry", help="Send unacknowledged notifications again.")] = False,
    retry_for: Annotated[str, typer.Option(help="Time limit for retries after the last request.")] = "60s",
    admin: Annotated[
        str, typer.Option(metavar="URL", help="The admin port of `up` or `console`: verify orders and events.")
    ] = "",
    admin_token: admin_api.Token = "",
    kafka: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Read events from these brokers instead of the admin API.")
    ] = "",
    topic: Annotated[str, typer.Option(help="The topic of the order events.")] = topics.ORDER_EVENT,
    verify_within: Annotated[str, typer.Option(help="Time limit for the verification.")] = "2m",
    history: Annotated[Path | None, typer.Option(metavar="FILE", help="Append each attempt as a JSON line.")] = None,
    export: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the requests as JSON lines; send nothing.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Repeat the orders of this seed.")] = None,
    prepare: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Create keys and an accounts.toml here; send nothing.")
    ] = None,
    output: terminal.Output = "table",
) -> None:
    """Run a load."""
    if prepare is not None:
        _prepare(prepare, to)
        return
    import secrets

    try:
        from deploy.load.corpus import Mix
        from deploy.load.generator import LoadLimits
        from deploy.load.run import Checks, LoadPlan
    except ModuleNotFoundError as missing:
        _lacking(missing)
    base, name, target = _target(to)
    if kafka and not admin:
        raise typer.BadParameter("orders are verified through the admin API: give --admin too", param_hint="--kafka")
    if admin:
        _target(admin, option="--admin")
    plan = LoadPlan(
        to=to,
        target=target,
        host=urlsplit(base).netloc,
        origin=_origin(name, path=urlsplit(to).path, sandbox=sandbox, names=account, accounts=accounts, key=key),
        mix=_mix(Mix(duplicates=duplicates, lifecycles=lifecycles, forgeries=forgeries)),
        rate=_rate(rate),
        duration_s=_seconds(duration, "--duration"),
        processes=processes,
        limits=LoadLimits(
            connections=max(connections, processes),
            timeout_s=_seconds(timeout, "--timeout"),
            drain_s=_seconds(retry_for, "--retry-for") if retry else 2 * _seconds(timeout, "--timeout"),
        ),
        retry=retry,
        seed=secrets.randbits(32) if seed is None else seed,
        checks=Checks(
            admin=admin,
            admin_token=admin_token,
            kafka=_connection(kafka) if kafka else {},
            topic=topic,
            within_s=_seconds(verify_within, "--verify-within"),
        ),
        history=str(history or ""),
    )
    if plan.total > _REQUESTS_MAX:
        raise typer.BadParameter(
            f"{plan.total:,} requests do not fit into memory: at most {_REQUESTS_MAX:,}", param_hint="--duration"
        )
    if export is not None:
        _export(export, plan, base)
        return
    _end(_ran(plan), output)


def _prepare(directory: Path, to: str) -> None:
    from deploy.sandbox.world import World, WorldError

    base, _, _ = _target(to)
    gateway = f"http://127.0.0.1:{sandbox_command.DEFAULT_PORT}"
    try:
        world = World.create(directory, gateway_url=gateway, notify_base=base)
    except (OSError, WorldError) as error:
        terminal.fail(f"cannot write keys to {directory}: {error}")
    typer.echo(
        f"Start the engine with ALIPAY_NOTIFY_ACCOUNTS={world.accounts_file}, and load with --sandbox {directory}"
    )


def _connection(kafka: str) -> dict[str, Any]:
    """Return aiokafka's arguments for these brokers, with the certificates and password from the environment."""
    from deploy.cli import launch, options

    launch.need("aiokafka", extra="cluster")
    from deploy.cluster import connections
    from deploy.cluster.settings import UnreadableFile

    try:
        return connections.kafka(options.load_settings(kafka=kafka))
    except UnreadableFile as error:
        terminal.fail(str(error))


def _lacking(missing: ModuleNotFoundError) -> None:
    """Name the extra that has the missing library. If a module of our own is missing, raise the error again."""
    extra = _EXTRA_OF.get((missing.name or "").partition(".")[0])
    if extra is None:
        raise missing
    terminal.fail(f"{missing.name} is missing; install it with: pip install 'alipay-notify[{extra}]'")


def _target(url: str, *, option: str = "--to") -> tuple[str, str, Target]:
    """Return the address without its path, the account name in the path (or ""), and the host and port."""
    from deploy.load.generator import Target

    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if host is None or parts.scheme not in ("http", "https") or parts.query:
        raise typer.BadParameter(f"{url!r} is not an http or https URL", param_hint=option)
    tls = parts.scheme == "https"
    name = parts.path.rstrip("/").rpartition("/")[2]
    return f"{parts.scheme}://{parts.netloc}", name, Target(host=host, port=port or (443 if tls else 80), tls=tls)


def _origin(
    named: str, *, path: str, sandbox: Path | None, names: list[str] | None, accounts: Path | None, key: Path | None
) -> Origin:
    """Return the source of accounts and keys. A whole notify URL names the account, unless --account does."""
    from deploy.load import origin
    from deploy.load.origin import NoAccounts, Origin

    chosen = tuple(names or ([named] if named else []))
    if named and len(chosen) > 1:
        raise typer.BadParameter("several accounts cannot share one notify URL", param_hint="--account")
    if (key is None) != (accounts is None):
        raise typer.BadParameter("--key and --accounts go together", param_hint="--key")
    if key is not None and len(chosen) != 1:
        raise typer.BadParameter("name the key's account: --to …/notify/NAME, or --account NAME", param_hint="--key")
    if key is not None and sandbox is not None:
        raise typer.BadParameter("--sandbox and --key exclude each other", param_hint="--sandbox")
    found = Origin(
        names=chosen,
        sandbox="" if key is not None else str(sandbox or sandbox_command.started_last()),
        accounts_toml=str(accounts or ""),
        key=str(key or ""),
        notify_path=path if named else "",
    )
    try:
        origin.accounts(found)
    except NoAccounts as error:
        hint = "; `alipay-notify load --prepare DIR` creates keys" if not key and not sandbox else ""
        terminal.fail(f"{error}{hint}")
    return found


def _mix(mix: Mix) -> Mix:
    if mix.duplicates + mix.forgeries >= 1:
        raise typer.BadParameter("--duplicates and --forgeries together must be below 1", param_hint="--duplicates")
    return mix


def _rate(rate: float) -> float:
    if not 0 < rate <= _RATE_MAX:
        raise typer.BadParameter(f"must be above 0 and at most {_RATE_MAX:,}", param_hint="--rate")
    return rate


def _seconds(text: str, option: str) -> float:
    from deploy.sandbox import scenario
    from deploy.sandbox.scenario import ScenarioError

    try:
        seconds = scenario.duration(text).total_seconds()
    except (ScenarioError, OverflowError):
        seconds = 0.0
    if seconds <= 0:
        raise typer.BadParameter(f"{text!r} is not a duration; write 30s, 5m or 1h", param_hint=option)
    return seconds


def _export(path: Path, plan: LoadPlan, base: str) -> None:
    from datetime import UTC, datetime

    from deploy.load import corpus, files, origin
    from deploy.load.corpus import Share

    requests = corpus.make(
        Share(seed=plan.seed),
        total=plan.total,
        accounts=origin.accounts(plan.origin),
        mix=plan.mix,
        host=plan.host,
        now=datetime.now(UTC),
    )
    try:
        count = files.export_requests(path, requests, base=base)
    except OSError as error:
        terminal.fail(f"cannot write {path}: {error.strerror}")
    typer.echo(f"{count:,} requests written to {path}")


def _ran(plan: LoadPlan) -> Result:
    from deploy.load import run
    from deploy.load.api import UnreadableAnswer
    from deploy.load.senders import SenderFailed

    try:
        return run.run(plan)
    except ModuleNotFoundError as missing:
        _lacking(missing)
        raise
    except (SenderFailed, UnreadableAnswer) as error:
        terminal.fail(error)
    except KeyboardInterrupt:
        terminal.fail("interrupted; nothing was verified")


def _end(result: Result, output: str) -> None:
    from deploy.load import report

    for warning in report.warnings(result):
        terminal.note(warning)
    if output == "json":
        terminal.as_json(report.as_json(result))
    else:
        for label, value in report.facts(result):
            terminal.line(label, value)
        _print_findings(result)
    if not result.figures.ok:
        terminal.fail(
            f"no notification was acknowledged: check that a receiver runs at {result.plan.to} and has these accounts"
        )
    raise typer.Exit(exits.FOUND_WRONG if result.findings else exits.DONE)


def _print_findings(result: Result) -> None:
    from deploy.load import report

    if not result.findings:
        terminal.line("result", "ok" if report.passed(result) else "nothing was acknowledged")
        return
    counts = [f"{count:,} {name.replace('_', ' ')}" for name, count in report.totals(result.findings).items() if count]
    terminal.line("findings", ", ".join(counts))
    rows = [
        (one.kind.value.replace("_", " "), one.account, one.order, one.notification_id, one.detail)
        for one in result.findings[: report.SHOWN_MAX]
    ]
    terminal.table("", ("finding", "account", "order", "notification", "detail"), rows)

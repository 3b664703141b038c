"""`alipay-notify load`: notifications at a constant rate, and afterwards the proof that each took effect once.

Only options are declared and checked here; what runs is imported when the command runs, so that `--help` stays quick.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import typer

from deploy import exits
from deploy.cli import sandbox as sandbox_command
from deploy.cli import terminal
from schemas import topics

if TYPE_CHECKING:
    from deploy.load.corpus import Mix
    from deploy.load.generator import Target
    from deploy.load.origin import Origin
    from deploy.load.run import LoadPlan, Result

_EXTRA_OF = {"hdrh": "load", "aiokafka": "cluster"}
_BEYOND_REASON_PER_S = 100_000
_REQUESTS_MAX = 5_000_000  # a signed request is about a kilobyte, and all are kept

_HELP = """Send notifications at a constant rate, and check what became of each.

    alipay-notify load --prepare .load       (keys, and accounts.toml for the engine under test)
    ALIPAY_NOTIFY_ACCOUNTS=.load/merchant/accounts.toml alipay-notify up
    alipay-notify load --sandbox .load --admin http://127.0.0.1:9464 --rate 500 --duration 60s
    alipay-notify load --to http://127.0.0.1:8080/notify/shop-sg --accounts accounts.toml --key private.pem
    alipay-notify load --rate 3000 --processes 2 --retry --admin http://127.0.0.1:9464 --output json

All is signed beforehand. Requests fall due at the rate whether or not the receiver keeps up, and a latency counts from
the moment its request was due. With --admin every acknowledged notification has to have reached the order store and the
events, with exactly one effect. With --retry what was not acknowledged is sent again, so that a run may span a restart.

Without --sandbox the keys are those of the sandbox that was started last in this directory.
"""

_EPILOG = "Exit codes: 0 all as it has to be, 1 could not be done, 2 wrong usage, 3 something is not as it has to be."


def register(app: typer.Typer) -> None:
    """Adds the command to the program."""
    app.command("load", help=_HELP, epilog=_EPILOG)(load)


def load(
    to: Annotated[
        str, typer.Option(metavar="URL", help="A receiver, or one account's whole notify URL.")
    ] = sandbox_command.DEFAULT_NOTIFY,
    sandbox: Annotated[
        Path | None,
        typer.Option(metavar="DIR", envvar=sandbox_command.DIRECTORY_ENVIRONMENT, help="The sandbox whose keys sign."),
    ] = None,
    account: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only for this one; may be given again.")
    ] = None,
    accounts: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The receiver's accounts.toml; goes with --key.")
    ] = None,
    key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The private key (or the MD5 key) of the account in --to.")
    ] = None,
    rate: Annotated[float, typer.Option(help="Requests a second.")] = 100.0,
    duration: Annotated[str, typer.Option(help="For how long: 60s, 5m, 1h.")] = "10s",
    duplicates: Annotated[float, typer.Option(min=0.0, max=1.0, help="Share told again.")] = 0.15,
    lifecycles: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share of orders with more than one news, out of order.")
    ] = 0.3,
    forgeries: Annotated[float, typer.Option(min=0.0, max=1.0, help="Share forged.")] = 0.02,
    processes: Annotated[int, typer.Option(min=1, max=64, help="Sender processes.")] = 1,
    connections: Annotated[int, typer.Option(min=1, max=20_000, help="At most, of all processes.")] = 256,
    timeout: Annotated[str, typer.Option(help="How long to wait for an answer.")] = "5s",
    retry: Annotated[bool, typer.Option("--retry", help="Send again what was not acknowledged.")] = False,
    retry_for: Annotated[str, typer.Option(help="For how long after the last request.")] = "60s",
    admin: Annotated[
        str, typer.Option(metavar="URL", help="The admin API: look at what became of each notification.")
    ] = "",
    kafka: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Read events from these brokers, not from the admin API.")
    ] = "",
    topic: Annotated[str, typer.Option(help="The topic with the order events.")] = topics.ORDER_EVENT,
    verify_within: Annotated[str, typer.Option(help="How long what was acknowledged may take to settle.")] = "2m",
    history: Annotated[Path | None, typer.Option(metavar="FILE", help="Append each attempt, as JSON lines.")] = None,
    export: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the requests as JSON lines, and send nothing.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="The same orders again; else new ones.")] = None,
    prepare: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Make keys and an accounts.toml here, and send nothing.")
    ] = None,
    output: terminal.Output = "table",
) -> None:
    """Runs a load; the options are how."""
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
        raise typer.BadParameter(
            "the orders are looked at through the admin API: give --admin too", param_hint="--kafka"
        )
    if admin:
        _target(admin, option="--admin")
    plan = LoadPlan(
        to=to,
        target=target,
        host=urlsplit(base).netloc,
        origin=_origin(name, path=urlsplit(to).path, sandbox=sandbox, names=account, accounts=accounts, key=key),
        mixed=_mix(Mix(duplicates=duplicates, lifecycles=lifecycles, forgeries=forgeries)),
        rate=_rate(rate),
        duration_s=_seconds(duration, "--duration"),
        processes=processes,
        limits=LoadLimits(
            connections=max(connections, processes),
            timeout_s=_seconds(timeout, "--timeout"),
            drain_s=_seconds(retry_for, "--retry-for") if retry else 2 * _seconds(timeout, "--timeout"),
        ),
        repeat=retry,
        seed=secrets.randbits(32) if seed is None else seed,
        checks=Checks(
            admin=admin,
            kafka=_connection(kafka) if kafka else {},
            topic=topic,
            within_s=_seconds(verify_within, "--verify-within"),
        ),
        history=str(history or ""),
    )
    if plan.total > _REQUESTS_MAX:
        raise typer.BadParameter(f"{plan.total:,} requests are too many to sign and keep", param_hint="--duration")
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
        terminal.fail(f"{directory} cannot be prepared: {error}")
    typer.echo(f"ALIPAY_NOTIFY_ACCOUNTS={world.accounts_file} tells the engine; --sandbox {directory} the load.")


def _connection(kafka: str) -> dict[str, Any]:
    """These brokers, reached as the environment says that ours are: with its certificates and its password."""
    from deploy.cli import launch, options

    launch.need("aiokafka", extra="cluster")
    from deploy.cluster import connections
    from deploy.cluster.settings import UnreadableFile

    try:
        return connections.kafka(options.load_settings(kafka=kafka))
    except UnreadableFile as error:
        terminal.fail(str(error))


def _lacking(missing: ModuleNotFoundError) -> None:
    """Say which extra has the library; a module of our own that is missing is another trouble."""
    extra = _EXTRA_OF.get((missing.name or "").partition(".")[0])
    if extra is None:
        raise missing
    terminal.fail(f"{missing.name} is missing; what provides it: pip install 'alipay-notify[{extra}]'")


def _target(url: str, *, option: str = "--to") -> tuple[str, str, Target]:
    """The address without its path, the account that the path names if it names one, and where to connect."""
    from deploy.load.generator import Target

    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if host is None or parts.scheme not in ("http", "https") or parts.query:
        raise typer.BadParameter(f"{url!r} is no http or https URL", param_hint=option)
    tls = parts.scheme == "https"
    name = parts.path.rstrip("/").rpartition("/")[2]
    return f"{parts.scheme}://{parts.netloc}", name, Target(host=host, port=port or (443 if tls else 80), tls=tls)


def _origin(
    named: str, *, path: str, sandbox: Path | None, names: list[str] | None, accounts: Path | None, key: Path | None
) -> Origin:
    """Whose keys sign. A whole notify URL names the account, unless --account does."""
    from deploy.load import origin
    from deploy.load.origin import NoAccounts, Origin

    chosen = tuple(names or ([named] if named else []))
    if named and len(chosen) > 1:
        raise typer.BadParameter("several accounts cannot share one notify URL", param_hint="--account")
    if (key is None) != (accounts is None):
        raise typer.BadParameter("--key and --accounts go together", param_hint="--key")
    if key is not None and len(chosen) != 1:
        raise typer.BadParameter(
            "one account has to be named: --to …/notify/NAME, or --account NAME", param_hint="--key"
        )
    if key is not None and sandbox is not None:
        raise typer.BadParameter("either a sandbox's keys or your own", param_hint="--sandbox")
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
        terminal.fail(f"{error} `alipay-notify load --prepare DIR` makes one." if not key and not sandbox else error)
    return found


def _mix(mixed: Mix) -> Mix:
    if mixed.duplicates + mixed.forgeries >= 1:
        raise typer.BadParameter("leave a part of the requests for what is new", param_hint="--duplicates")
    return mixed


def _rate(rate: float) -> float:
    if not 0 < rate <= _BEYOND_REASON_PER_S:
        raise typer.BadParameter(f"above 0, and at most {_BEYOND_REASON_PER_S:,}", param_hint="--rate")
    return rate


def _seconds(text: str, option: str) -> float:
    from deploy.sandbox import scenario
    from deploy.sandbox.scenario import ScenarioError

    try:
        seconds = scenario.duration(text).total_seconds()
    except (ScenarioError, OverflowError):
        seconds = 0.0
    if seconds <= 0:
        raise typer.BadParameter(f"{text!r} is no duration; write 30s, 5m or 1h", param_hint=option)
    return seconds


def _export(path: Path, plan: LoadPlan, base: str) -> None:
    from datetime import UTC, datetime

    from deploy.load import corpus, files, origin
    from deploy.load.corpus import Share

    requests = corpus.make(
        Share(seed=plan.seed),
        total=plan.total,
        accounts=origin.accounts(plan.origin),
        mixed=plan.mixed,
        host=plan.host,
        now=datetime.now(UTC),
    )
    try:
        count = files.write(path, requests, base=base)
    except OSError as error:
        terminal.fail(f"{path} cannot be written: {error.strerror}")
    typer.echo(f"{count:,} requests are in {path}")


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
        terminal.fail("ended before it was over; nothing was judged")


def _end(result: Result, output: str) -> None:
    from deploy.load import report

    for warning in report.warnings(result):
        typer.echo(warning, err=True)
    if output == "json":
        terminal.as_json(report.stable(result))
    else:
        for label, value in report.facts(result):
            terminal.line(label, value)
        _print_findings(result)
    if not result.figures.ok:
        terminal.fail(f"Not one was acknowledged: is a receiver at {result.plan.to}, and does it know these keys?")
    raise typer.Exit(exits.FOUND_WRONG if result.findings else exits.DONE)


def _print_findings(result: Result) -> None:
    from deploy.load import report

    if not result.findings:
        terminal.line("result", "ok" if report.passed(result) else "nothing was acknowledged")
        return
    counts = [f"{count:,} {name.replace('_', ' ')}" for name, count in report.totals(result.findings).items() if count]
    terminal.line("wrong", ", ".join(counts))
    rows = [
        (one.what.value.replace("_", " "), one.account, one.order, one.notification_id, one.detail)
        for one in result.findings[: report.SHOWN_MAX]
    ]
    terminal.table("", ("what", "account", "order", "notification", "detail"), rows)

"""What a person is told once a stack runs: where everything is, and what to type next."""

import shutil
import sys
from pathlib import Path

from deploy.local.engine import Engine
from deploy.local.stack import Stack

COMMAND = "alipay-notify"
WIDTH = 10  # of the names on the left


def of(started: Stack, *, in_background: bool) -> str:
    """Lines that a terminal and a log both show whole; commands are whole lines, to be copied."""
    blocks = ["The stack is ready.", _places(started)]
    if started.engine is not None:
        blocks.append(_commands(started.engine))
    blocks.append(_end(started, in_background=in_background))
    return "\n" + "\n\n".join(block for block in blocks if block) + "\n"


def _places(started: Stack) -> str:
    told = started.addresses()
    public = told.get("public")
    places = {
        "public": f"{public}/notify/ACCOUNT" if public else "",
        "console": f"{told['console']}/" if "console" in told else "",
        "shop": f"{told['sandbox']}/shop" if "sandbox" in told else "",
        "prometheus": told.get("prometheus", ""),
        "haproxy": told.get("haproxy", ""),
        "kafka": told.get("kafka", ""),
        "redis": told.get("redis", ""),
        # Its password stands in a file that only its owner reads, and does not belong on screens.
        "postgres": f"127.0.0.1:{started.postgres.port}" if started.postgres else "",
        "accounts": _short(Path(told["accounts"])) if "accounts" in told else "",
        "logs": f"{_short(started.directory.path)}/log/",
        "addresses": f"{_short(started.directory.path)}/ready.json",
    }
    return "\n".join(f"  {name:<{WIDTH}}  {place}" for name, place in places.items() if place)


def _commands(engine: Engine) -> str:
    if not engine.public_url:
        return ""
    program, world = _called(), _short(engine.world.directory)
    lines = [f"  {program} trigger paid --dir {world} --to {engine.public_url}"]
    if engine.console is not None:
        admin = f"--admin {engine.console.admin_url}"
        lines.append(f"  {program} held list {admin}")
        # Events are looked at through the console; --kafka with the brokers' addresses reads them from their topic.
        lines.append(f"  {program} load --sandbox {world} --to {engine.public_url} {admin} --duration 30s")
    return "\n".join(lines)


def _end(started: Stack, *, in_background: bool) -> str:
    if not in_background:
        return "Ctrl-C ends it. What ends by itself is told of here."
    directory = _short(started.directory.path)
    where = "" if directory == ".stack" else f" --directory {directory}"
    stop = "make stack-down" if not where else f"{_short(Path(sys.executable))} -m deploy.local --down{where}"
    return f"`{stop}` ends it. What ends by itself is told of in {directory}/log/stack.log."


def _called() -> str:
    """How a person types our program's name here."""
    beside = Path(sys.executable).with_name(COMMAND)
    found = shutil.which(COMMAND)
    if not beside.exists() or (found is not None and Path(found) == beside):
        return COMMAND
    return _short(beside)


def _short(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)

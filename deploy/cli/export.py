"""`alipay-notify export DIR`: write the files that other programs read: dashboards, rules, manifests, configurations.

They are the files of this release, as the tests try them, so that an installed program needs no source tree.
"""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deploy.cli import terminal

if TYPE_CHECKING:
    from collections.abc import Iterator

DEPLOY = Path(__file__).parents[1]


class Part(StrEnum):
    """A folder of files for one program."""

    ALERTMANAGER = "alertmanager"
    ENVOY = "envoy"
    GRAFANA = "grafana"
    HAPROXY = "haproxy"
    KUBERNETES = "kubernetes"
    NGINX = "nginx"
    PROMETHEUS = "prometheus"
    RUNBOOKS = "runbooks"
    SYSTEMD = "systemd"


_HELP = """Write dashboards, alert rules, manifests and load balancer configurations into a folder.

Each part is a folder of its own: alertmanager, envoy, grafana, haproxy, kubernetes, nginx, prometheus, runbooks,
systemd. Files that are there already and differ are kept, and nothing is written, unless --force is given.

    alipay-notify export monitoring --only grafana --only prometheus
    alipay-notify export deployment --only kubernetes
    alipay-notify export . --only haproxy --force
"""
_EPILOG = "Exit codes: 0 done, 1 failed (a file differs, or cannot be written), 2 wrong usage."


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("export", help=_HELP, epilog=_EPILOG)(export)


def export(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the files; it is made if missing.")],
    only: Annotated[list[Part] | None, typer.Option(metavar="PART", help="This part; may be repeated [all].")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that differ.")] = False,
    output: terminal.Output = "table",
) -> None:
    """Write the parts, or nothing if a file that differs would be overwritten."""
    wanted = {path: content for part in dict.fromkeys(only or Part) for path, content in _files(part)}
    try:
        there = {path: (directory / path).read_bytes() for path in wanted if os.path.lexists(directory / path)}
        differ = [str(directory / path) for path, content in there.items() if content != wanted[path]]
        if differ and not force:
            terminal.fail_in_lines("These files are there and differ. Nothing was written; see --force:", differ)
        changed = [path for path in wanted if there.get(path) != wanted[path]]
        for path in changed:
            _write(directory / path, wanted[path])
    except OSError as error:
        terminal.fail(f"{error.filename}: {error.strerror}")
    _print(directory, changed, [path for path in wanted if path not in changed], output)


def _files(part: Part) -> Iterator[tuple[Path, bytes]]:
    """Yield each file of a part: its path below the folder of all parts, and its content."""
    for path in sorted((DEPLOY / part).rglob("*")):
        if path.is_file():
            yield path.relative_to(DEPLOY), path.read_bytes()


def _write(path: Path, content: bytes) -> None:
    """Replace a file. A reader sees the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.new")
    unfinished.write_bytes(content)
    unfinished.replace(path)


def _print(directory: Path, written: list[Path], same: list[Path], output: str) -> None:
    if output == "json":
        terminal.as_json({
            "written": [str(directory / path) for path in written],
            "unchanged": [str(directory / path) for path in same],
        })  # fmt: skip
        return
    for path in written:
        typer.echo(terminal.plain(directory / path))
    unchanged = f", {len(same)} were there already" if same else ""
    terminal.note(f"{len(written)} files written{unchanged}")

"""A real Prometheus on loopback, with the configuration that is shipped; its targets may change while it runs.

The very file is copied into the server's home, since it finds targets and rules beside itself. It says nothing of our
hurry: that stands in the targets, whose labels have the last word on how often each is asked.
"""

import shutil
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import msgspec
from msgspec import Struct

from deploy.local import ports, programs
from deploy.local.directory import Directory
from deploy.local.machine import Machine
from deploy.local.processes import Process, ProcessSpec

NAME = "prometheus"
PORT = 9090  # where people look for it
CONFIGURATION = Path(__file__).parents[1] / "prometheus" / "prometheus.yml"
READY_WITHIN_S = 30.0
EVERY = "2s"  # often enough for a person who watches a short run


class Prometheus(Struct, frozen=True, kw_only=True):
    """A server that answers queries."""

    port: int
    targets: Path
    process: Process

    @property
    def url(self) -> str:
        return f"http://{ports.LOOPBACK}:{self.port}"

    def scrape(self, jobs: Mapping[str, Sequence[str]]) -> None:
        """From now on, scrape these addresses, each under its job's name, and no others. It notices within seconds."""
        _write(self.targets, jobs)


@asynccontextmanager
async def running(
    directory: Directory,
    machine: Machine,
    *,
    jobs: Mapping[str, Sequence[str]],
    rules: Sequence[Path] = (),
    port: int | None = None,
    configuration: Path = CONFIGURATION,
) -> AsyncIterator[Prometheus]:
    """A server that scrapes each job's addresses (`host:port`, path /metrics) and evaluates the rule files.

    Raises:
        Missing: there is none to be had here.
        DidNotStart: it did not come up, as when a rule file is wrong.
    """
    program = await machine.find(programs.PROMETHEUS)
    port = port or ports.free(1)[0]
    home = directory.home(NAME)
    file, targets = _lay_out(home, configuration, rules)
    _write(targets, jobs)
    plan = ProcessSpec(
        name=NAME, argv=_command(program, file, port), environ=machine.environ, ready_within_s=READY_WITHIN_S
    )
    process = Process(directory, plan, healthy=partial(ports.is_ok, port, "/-/ready"))
    async with process.running():
        yield Prometheus(port=port, targets=targets, process=process)


def shipped_rules() -> tuple[Path, ...]:
    """The rule files that lie beside the configuration."""
    return tuple(sorted(CONFIGURATION.parent.glob("rules/*.yml")))


def _lay_out(home: Path, configuration: Path, rules: Sequence[Path]) -> tuple[Path, Path]:
    """The configuration in the home, the rules where it looks for them, and where it looks for targets."""
    for name in ("rules", "targets"):
        shutil.rmtree(home / name, ignore_errors=True)
        (home / name).mkdir()
    for rule in rules:
        shutil.copyfile(rule, home / "rules" / rule.with_suffix(".yml").name)
    file = home / "prometheus.yml"
    shutil.copyfile(configuration, file)
    return file, home / "targets" / "stack.json"


def _command(program: Path, file: Path, port: int) -> tuple[str, ...]:
    return (
        str(program),
        f"--config.file={file}",
        f"--storage.tsdb.path={file.with_name('files')}",
        f"--web.listen-address={ports.LOOPBACK}:{port}",
        "--log.level=warn",
    )


def _write(targets: Path, jobs: Mapping[str, Sequence[str]]) -> None:
    hurry = {"__scrape_interval__": EVERY, "__scrape_timeout__": EVERY}
    groups = [{"targets": list(addresses), "labels": {"job": job} | hurry} for job, addresses in jobs.items()]
    partial_file = targets.with_suffix(".partial")
    partial_file.write_bytes(msgspec.json.encode(groups))
    partial_file.replace(targets)  # it may be read at any moment, and must be whole

"""Run a real Prometheus on loopback with the shipped configuration and rules; its targets can change while it runs.

The configuration is copied to the server's directory, because it looks for rules and targets beside itself. Our short
scrape interval is not in it but in labels of the targets, which override the configuration's interval.
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
PORT = 9090  # Prometheus' usual port
CONFIGURATION = Path(__file__).parents[1] / "prometheus" / "prometheus.yml"
RULES, ALERTMANAGERS = "rules", "alertmanagers"  # directories beside the configuration
READY_WITHIN_S = 30.0
EVERY = "2s"  # the shipped interval is too long to watch a short run


class Prometheus(Struct, frozen=True, kw_only=True):
    """A server that answers queries."""

    port: int
    targets: Path
    process: Process

    @property
    def url(self) -> str:
        return f"http://{ports.LOOPBACK}:{self.port}"

    def scrape(self, jobs: Mapping[str, Sequence[str]]) -> None:
        """Scrape these addresses by job, and no others. Prometheus reads the change within seconds."""
        _write(self.targets, jobs)


@asynccontextmanager
async def running(
    directory: Directory,
    machine: Machine,
    *,
    jobs: Mapping[str, Sequence[str]],
    port: int | None = None,
    configuration: Path = CONFIGURATION,
    alertmanager: str = "",
    rules: Mapping[str, str] | None = None,
) -> AsyncIterator[Prometheus]:
    """Run a server that scrapes each job's addresses (`host:port`, path /metrics).

    It sends alerts to the Alertmanager at that address, if one is given. `rules` (texts by file name) replace the rules
    beside the configuration.

    Raises:
        Missing: Prometheus is not on this machine and cannot be installed.
        DidNotStart: it did not start.
    """
    program = await machine.find(programs.PROMETHEUS)
    port = port or ports.free(1)[0]
    home = directory.home(NAME)
    file, targets = _lay_out(home, configuration, rules)
    (home / ALERTMANAGERS / "stack.json").write_bytes(
        msgspec.json.encode([{"targets": [alertmanager] if alertmanager else []}])
    )
    _write(targets, jobs)
    spec = ProcessSpec(
        name=NAME, argv=_command(program, file, port), environ=machine.environ, ready_within_s=READY_WITHIN_S
    )
    process = Process(directory, spec, healthy=partial(ports.is_ok, port, "/-/ready"))
    async with process.running():
        yield Prometheus(port=port, targets=targets, process=process)


def _lay_out(home: Path, configuration: Path, rules: Mapping[str, str] | None = None) -> tuple[Path, Path]:
    """Copy configuration and rules to the server's directory. Return the paths of configuration and targets."""
    for name in ("targets", RULES, ALERTMANAGERS):
        shutil.rmtree(home / name, ignore_errors=True)
        (home / name).mkdir()
    if rules is None:
        rules = {file.name: file.read_text(encoding="utf-8") for file in (configuration.parent / RULES).glob("*.yml")}
    for name, text in rules.items():
        (home / RULES / name).write_text(text, encoding="utf-8")
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
    often = {"__scrape_interval__": EVERY, "__scrape_timeout__": EVERY}
    groups = [{"targets": list(addresses), "labels": {"job": job} | often} for job, addresses in jobs.items()]
    partial_file = targets.with_suffix(".partial")
    partial_file.write_bytes(msgspec.json.encode(groups))
    partial_file.replace(targets)  # atomic: Prometheus may read it at any moment

"""A real Prometheus on loopback that scrapes what it is told; the targets may change while it runs."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import msgspec
from msgspec import Struct

from deploy.local import ports
from deploy.local.directory import Directory
from deploy.local.machine import Machine, Wanted
from deploy.local.processes import Plan, Process

SERVER = Wanted(
    what="Prometheus",
    programs=("prometheus",),
    places=("/usr/local/bin", "/opt/homebrew/bin"),
    debian="prometheus",
)
NAME = "prometheus"
READY_WITHIN_S = 30.0
ASK_WITHIN_S = 2.0
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
    directory: Directory, machine: Machine, *, jobs: Mapping[str, Sequence[str]], rules: Sequence[Path] = ()
) -> AsyncIterator[Prometheus]:
    """A server that scrapes each job's addresses (`host:port`, path /metrics) and evaluates the rule files.

    Raises:
        Missing: there is none to be had here.
        DidNotStart: it did not come up, as when a rule file is wrong.
    """
    program = await machine.find(SERVER)
    (port,) = ports.free(1)
    home = directory.home(NAME)
    targets, file = home / "targets.json", home / "prometheus.yml"
    _write(targets, jobs)
    file.write_bytes(_configuration(targets, rules))
    plan = Plan(name=NAME, argv=_command(program, file, port), environ=machine.environ, ready_within_s=READY_WITHIN_S)
    process = Process(directory, plan, healthy=partial(is_ready, port))
    async with process.running():
        yield Prometheus(port=port, targets=targets, process=process)


async def is_ready(port: int) -> bool:
    """What its own probe says."""
    try:
        async with asyncio.timeout(ASK_WITHIN_S):
            reader, writer = await asyncio.open_connection(ports.LOOPBACK, port)
            try:
                writer.write(b"GET /-/ready HTTP/1.0\r\n\r\n")
                return b" 200 " in await reader.readline()
            finally:
                writer.close()
    except OSError:  # a time-out is one
        return False


def _command(program: Path, file: Path, port: int) -> tuple[str, ...]:
    return (
        str(program),
        f"--config.file={file}",
        f"--storage.tsdb.path={file.with_name('files')}",
        f"--web.listen-address={ports.LOOPBACK}:{port}",
        "--log.level=warn",
    )


def _configuration(targets: Path, rules: Sequence[Path]) -> bytes:
    """Its configuration, which may be JSON since that is YAML too."""
    return msgspec.json.encode(
        {
            "global": {"scrape_interval": EVERY, "evaluation_interval": EVERY},
            "rule_files": [str(path.resolve()) for path in rules],
            "scrape_configs": [
                {
                    "job_name": "alipay-notify",
                    "file_sd_configs": [{"files": [str(targets)], "refresh_interval": EVERY}],
                }
            ],
        }
    )


def _write(targets: Path, jobs: Mapping[str, Sequence[str]]) -> None:
    groups = [{"targets": list(addresses), "labels": {"job": job}} for job, addresses in jobs.items()]
    partial_file = targets.with_suffix(".partial.json")
    partial_file.write_bytes(msgspec.json.encode(groups))
    partial_file.replace(targets)  # it may be read at any moment, and must be whole

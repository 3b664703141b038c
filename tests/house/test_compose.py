"""The image and the compose file: linted, and in agreement with the program, its settings and the files they mount.

They are not started here: that needs a container engine.
"""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec

from deploy.cli.main import COMMANDS
from deploy.cluster.settings import ClusterSettings
from deploy.local import alertmanager, haproxy, prometheus
from deploy.local.kafka import jars
from deploy.monitoring import files as monitoring
from deploy.packaging import bill_of_materials
from ingest.settings import PREFIX
from tests.house.source import PACKAGES
from tests.support.paths import ROOT

COMPOSE = ROOT / "deploy" / "compose"
FILE, DOCKERFILE = COMPOSE / "compose.yaml", COMPOSE / "Dockerfile"
LONGEST_STOP_S = 29
OURS = ("ingest-1", "ingest-2", "worker-1", "worker-2", "console")


def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = whole()["services"]
    return found


def whole() -> dict[str, Any]:
    return read(FILE)


def instructions(stage: int = -1) -> list[tuple[str, str]]:
    """One stage of the Dockerfile, by its instructions' names."""
    text = re.sub(r"\\\n\s*", " ", DOCKERFILE.read_text(encoding="utf-8"))
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    starts = [number for number, line in enumerate(lines) if line.startswith("FROM ")]
    chosen = lines[starts[stage] :] if stage == -1 else lines[starts[stage] : starts[stage + 1]]
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in chosen)]


def the(name: str) -> str:
    (found,) = [rest for instruction, rest in instructions() if instruction == name]
    return found


def base_image() -> str:
    """The image that the build argument of both stages names, unless a build gives it with a digest."""
    (name, default) = re.findall(r"^ARG (PYTHON_IMAGE)=(\S+)$", DOCKERFILE.read_text(encoding="utf-8"), re.MULTILINE)[0]
    stages = [line.split()[0] for instruction, line in (*instructions(0), *instructions()) if instruction == "FROM"]
    assert stages == [f"${{{name}}}"] * 2
    return str(default)


def run(program: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a program that a wheel has installed beside Python."""
    argv = (Path(sys.executable).with_name(program), *arguments)
    return subprocess.run(argv, capture_output=True, text=True, check=False)


def test_hadolint_finds_no_fault_in_the_dockerfile() -> None:
    done = run("hadolint", DOCKERFILE)
    assert (done.returncode, done.stdout) == (0, "")


def test_compose_file_follows_the_specification() -> None:
    done = run("check-jsonschema", "--builtin-schema", "vendor.compose-spec", FILE)
    assert done.returncode == 0, done.stdout


def test_program_is_the_first_process_without_a_shell_before_it() -> None:
    assert msgspec.json.decode(the("ENTRYPOINT")) == ["alipay-notify"]
    assert msgspec.json.decode(the("CMD")) == ["--help"]
    assert msgspec.json.decode(the("HEALTHCHECK").partition("CMD ")[2])[0] == "python"
    assert the("STOPSIGNAL") == "SIGTERM"


def test_image_runs_as_a_user_that_can_change_nothing() -> None:
    user, _, group = the("USER").partition(":")
    assert user.isdigit()
    assert int(user) > 0
    assert int(group) > 0
    copies = [rest for name, rest in instructions() if name == "COPY"]
    assert copies == ["--from=build /opt/alipay-notify /opt/alipay-notify"]


def locked(path: Path) -> tuple[str, dict[str, str]]:
    """The text of a lock, and the versions of its packages by name."""
    text = path.read_text(encoding="utf-8")
    return text, dict(re.findall(r"^([a-z0-9.-]+)==([^\s;]+)", text, re.MULTILINE))


def test_image_installs_packages_locked_by_hash_with_time_zones() -> None:
    lock, names = locked(COMPOSE / "requirements.lock")
    assert {"aiokafka", "asyncpg", "redis", "tzdata", "uvloop"} <= names.keys()
    assert lock.count("--hash=sha256:") >= len(names)


def test_build_downloads_only_what_its_locks_name() -> None:
    """The tools of the build are those that the tests build the wheel with."""
    lock, tools = locked(COMPOSE / "build.lock")
    assert {"hatchling", "uv"} <= tools.keys()
    assert lock.count("--hash=sha256:") >= len(tools)
    _, tested = locked(ROOT / "requirements-dev.lock")
    assert tools == {name: tested[name] for name in tools}
    installs = [line for _, rest in instructions(0) for line in rest.split("&&") if "pip install" in line]
    assert [("--require-hashes -r" in line, "--no-deps --offline" in line) for line in installs] == [
        (True, False),
        (True, False),
        (False, True),
    ]


def test_bill_of_materials_has_every_locked_package_with_its_version_and_hashes() -> None:
    """Read from the lock by this test's own hand: a package begins a line, and its hashes follow."""
    locked: dict[tuple[str, str], set[str]] = {}
    for line in (COMPOSE / "requirements.lock").read_text(encoding="utf-8").splitlines():
        if found := re.match(r"([a-z0-9.-]+)==(\S+)", line):
            hashes = locked.setdefault((found[1], found[2]), set())
        elif found := re.search(r"--hash=sha256:([0-9a-f]{64})", line):
            hashes.add(found[1])
    bill = msgspec.json.decode(bill_of_materials.FILE.read_bytes())
    listed = {
        (each["name"], each["version"]): {one["content"] for one in each["externalReferences"][0]["hashes"]}
        for each in bill["components"]
    }
    assert listed == locked
    assert len(listed) == len(bill["components"])
    assert all(hashes for hashes in locked.values())
    assert (bill["bomFormat"], bill["metadata"]["component"]["name"]) == ("CycloneDX", "alipay-notify")


def test_bill_of_materials_is_current_and_is_in_the_image() -> None:
    assert bill_of_materials.written() == bill_of_materials.FILE.read_text(encoding="utf-8"), "run: make lock"
    name = bill_of_materials.FILE.relative_to(ROOT)
    assert ("COPY", f"{name} /opt/alipay-notify/share/") in instructions(0), "and the final stage has that directory"


def test_build_is_given_each_package_and_no_more() -> None:
    ignored = (COMPOSE / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    assert "**" in ignored
    for directory in PACKAGES:
        assert ("COPY", f"{directory}/ {directory}/") in instructions(0)
        assert f"!{directory}" in ignored


def test_every_image_has_a_version_of_its_own() -> None:
    images = {service["image"] for service in services().values()} - {"alipay-notify:local"}
    base, _, digest = base_image().partition("@sha256:")
    assert re.fullmatch(r"[0-9a-f]{64}", digest)
    images.add(base)
    assert [image for image in images if not re.fullmatch(r"[a-z/-]+:v?\d+\.\d+(\.\d+)?(-[a-z]+)*", image)] == []


def test_broker_has_the_version_that_is_tested() -> None:
    assert services()["kafka"]["image"].endswith(f":{jars.version()}")


def test_every_variable_is_a_setting_and_every_named_secret_is_given() -> None:
    for name in OURS:
        service = services()[name]
        ours = {key.removeprefix(PREFIX).lower() for key in service["environment"] if not key.startswith("OTEL_")}
        assert ours <= ClusterSettings.model_fields.keys()
        assert set(service["secrets"]) <= whole()["secrets"].keys()
        assert "admin-token" in service["secrets"], "the admin port is not on loopback there"


def test_workers_alone_send_callbacks_once_their_file_is_named() -> None:
    for name in OURS:
        service = services()[name]
        is_worker = name.startswith("worker-")
        assert ("./callbacks:/callbacks:ro" in service["volumes"]) == is_worker, name
        assert "./accounts:/accounts:ro" in service["volumes"], name
        if is_worker:
            # A variable without a value is the one of the shell, and is not set without it.
            assert service["environment"]["ALIPAY_NOTIFY_CALLBACKS"] is None
            assert service["environment"]["ALIPAY_NOTIFY_CALLBACK_NETWORKS"] is None
        else:
            assert not any("CALLBACK" in key for key in service["environment"]), name
    named = re.findall(r"ALIPAY_NOTIFY_CALLBACKS=(\S+)", FILE.read_text(encoding="utf-8"))
    assert named == ["/callbacks/callbacks.toml"]


def test_every_command_is_one_of_the_program() -> None:
    ours = {name: service["command"] for name, service in services().items() if "build" in service}
    assert {*OURS, "migrate", "topics"} == ours.keys()
    known = {*COMMANDS, "ingest", "worker", "console", "db", "topics"}
    assert {command[0] for command in ours.values()} <= known


def test_our_processes_are_confined_and_have_time_to_end() -> None:
    for name in OURS:
        service = services()[name]
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["restart"] == "unless-stopped", "with any exit code"
        assert int(service["stop_grace_period"].removesuffix("s")) > LONGEST_STOP_S, name
        assert service["depends_on"]["topics"] == {"condition": "service_completed_successfully"}, name


def test_tasks_wait_for_their_servers_and_the_rest_for_the_tasks() -> None:
    found = services()
    assert found["migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    assert found["topics"]["depends_on"] == {"kafka": {"condition": "service_healthy"}}
    assert found["worker-1"]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}
    for name in ("kafka", "redis", "postgres", "haproxy", "prometheus", "alertmanager", "grafana"):
        assert found[name]["healthcheck"]["test"][0] == "CMD"


def test_nothing_is_open_to_other_machines_and_no_port_is_taken_twice() -> None:
    open_ports = [port for service in services().values() for port in service.get("ports", [])]
    assert open_ports
    assert all(port.startswith("127.0.0.1:") for port in open_ports)
    assert len({port.split(":")[1] for port in open_ports}) == len(open_ports)


def test_haproxy_gets_the_variables_of_its_file() -> None:
    given = services()["haproxy"]["environment"]
    wanted = set(re.findall(r"\$\{([A-Z_0-9]+)", haproxy.CONFIGURATION.read_text(encoding="utf-8")))
    assert given.keys() <= wanted
    for number in (1, 2):
        address = services()[f"ingest-{number}"]["networks"]["inside"]["ipv4_address"]
        assert given[f"RECEIVER_{number}"] == f"{address}:8080"
        assert given[f"RECEIVER_{number}_ADMIN"] == f"{address}:9464"


def observing() -> list[str]:
    return [name for name, service in services().items() if service.get("profiles")]


def mounted(name: str) -> dict[str, Path]:
    """The files and directories of the tree that a service gets, by their place in its container."""
    mounts = [mount.split(":") for mount in services()[name].get("volumes", []) if mount[0] == "."]
    assert all(mode == ["ro"] for _, _, *mode in mounts), name
    return {inside: (COMPOSE / outside).resolve() for outside, inside, *_ in mounts}


def test_every_mounted_file_exists_and_prometheus_scrapes_every_process() -> None:
    for name in ("haproxy", *observing()):
        assert [path for path in mounted(name).values() if not path.exists()] == []
    assert set(mounted("haproxy").values()) == {haproxy.CONFIGURATION}
    assert set(mounted("alertmanager").values()) == {alertmanager.CONFIGURATION}
    assert set(mounted("prometheus").values()) == {
        prometheus.CONFIGURATION,
        prometheus.CONFIGURATION.with_name("rules"),
        COMPOSE / "targets",
        COMPOSE / "alertmanagers",
    }
    groups = msgspec.json.decode((COMPOSE / "targets" / "compose.json").read_bytes())
    scraped = {target.split(":")[0] for group in groups for target in group["targets"]}
    assert scraped == {*OURS, "haproxy"}
    (alerting,) = msgspec.json.decode((COMPOSE / "alertmanagers" / "compose.json").read_bytes())
    assert alerting["targets"] == ["alertmanager:9093"]


def test_what_observes_is_started_by_its_profile_alone_and_is_confined() -> None:
    assert observing() == ["prometheus", "alertmanager", "grafana", "collector"]
    for name in observing():
        service = services()[name]
        assert service["profiles"] == ["observability"]
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        kept = {mount.split(":")[0] for mount in service["volumes"] if mount[0] != "."}
        assert kept <= whole()["volumes"].keys()


def test_grafana_finds_its_prometheus_and_each_board() -> None:
    files = mounted("grafana")
    (provider,) = read(files["/etc/grafana/provisioning/dashboards"] / "alipay-notify.yaml")["providers"]
    boards = files[provider["options"]["path"]]
    assert {path.name for path in boards.iterdir()} == {path.name for path in monitoring.BOARDS.values()}
    (source,) = [
        each for path in files["/etc/grafana/provisioning/datasources"].iterdir() for each in read(path)["datasources"]
    ]
    assert (source["type"], source["url"], source["isDefault"]) == ("prometheus", "http://prometheus:9090", True)
    scrape_interval = read(prometheus.CONFIGURATION)["global"]["scrape_interval"]
    assert source["jsonData"]["timeInterval"] == scrape_interval
    signs_in = {key: value for key, value in services()["grafana"]["environment"].items() if "AUTH" in key}
    assert signs_in == {
        "GF_AUTH_ANONYMOUS_ENABLED": "true",
        "GF_AUTH_ANONYMOUS_ORG_ROLE": "Viewer",
        "GF_AUTH_BASIC_ENABLED": "false",
        "GF_AUTH_DISABLE_LOGIN_FORM": "true",
    }


def test_traces_go_to_the_collector_when_they_are_on() -> None:
    (place, path), *_ = mounted("collector").items()
    assert services()["collector"]["command"] == [f"--config={place}"]
    collector = read(path)
    (port,) = [each["endpoint"].rpartition(":")[2] for each in collector["receivers"]["otlp"]["protocols"].values()]
    (pipeline,) = collector["service"]["pipelines"].values()
    for kind in ("receivers", "processors", "exporters"):
        assert set(pipeline[kind]) == collector[kind].keys(), kind
    for name in OURS:
        given = services()[name]["environment"]
        assert given["OTEL_EXPORTER_OTLP_ENDPOINT"] == f"http://collector:{port}"
        assert given["ALIPAY_NOTIFY_TRACES"] == "${ALIPAY_NOTIFY_TRACES:-false}", "off without the profile"


def read(path: Path) -> dict[str, Any]:
    return msgspec.yaml.decode(path.read_bytes(), type=dict[str, Any])

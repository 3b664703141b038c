"""The manifests for Kubernetes: rendered, valid, and in agreement with the program, its settings and files.

They are not applied here: that needs a cluster.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from typer.testing import CliRunner

from deploy.cli import main
from deploy.cluster import topics
from deploy.cluster.settings import ClusterSettings
from deploy.monitoring import files
from ingest.settings import PREFIX
from schemas.form import BODY_BYTES_MAX
from schemas.topics import NOTIFICATION
from tests.benchmarks import capacity
from tests.support import kubernetes
from tests.support.kubernetes import NEWEST, OLDEST, Resource
from tests.support.paths import ROOT
from workers.admin.guard import PROBES

LONGEST_STOP_S = 29
MERCHANT_KEYS = "alipay-notify-merchant-keys"
ROLES = {"receiver": "ingest", "worker": "worker", "console": "console"}


@pytest.fixture(scope="module")
def overlay(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return kubernetes.installation(tmp_path_factory.mktemp("kubernetes"))


@pytest.fixture(scope="module")
def resources(overlay: Path) -> list[Resource]:
    return kubernetes.rendered(overlay)


@pytest.fixture(scope="module")
def tasks(overlay: Path) -> list[Resource]:
    return kubernetes.rendered(overlay / "tasks")


def of_kind(resources: list[Resource], kind: str) -> dict[str, Resource]:
    return {each["metadata"]["name"]: each for each in resources if each["kind"] == kind}


def pods(resources: list[Resource]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The pod template of each deployment and job, by the name of its container."""
    for each in resources:
        if each["kind"] in ("Deployment", "Job"):
            template = each["spec"]["template"]
            (container,) = template["spec"]["containers"]
            yield container["name"], template


def container(template: dict[str, Any]) -> dict[str, Any]:
    (found,) = template["spec"]["containers"]
    return dict(found)


def environment(resources: list[Resource], template: dict[str, Any]) -> dict[str, str]:
    """The variables that a container gets, from its config maps and its own list."""
    maps = of_kind(resources, "ConfigMap")
    given: dict[str, str] = {}
    for source in container(template).get("envFrom", ()):
        given |= maps[source["configMapRef"]["name"]]["data"]
    return given | {each["name"]: each["value"] for each in container(template).get("env", ())}


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_every_resource_fits_its_schema(resources: list[Resource], tasks: list[Resource], version: str) -> None:
    assert {"Deployment", "ServiceMonitor", "PrometheusRule", "ScaledObject", "NetworkPolicy", "Ingress"} <= {
        each["kind"] for each in resources
    }
    for each in (*resources, *tasks):
        kubernetes.check(each, version)


@pytest.mark.parametrize("kind", ["Deployment", "ServiceMonitor", "PrometheusRule", "ScaledObject", "NetworkPolicy"])
def test_field_that_the_schema_lacks_is_noticed(resources: list[Resource], kind: str) -> None:
    wrong, *_ = of_kind(resources, kind).values()
    wrong = wrong | {"spec": wrong["spec"] | {"replica": 2}}
    with pytest.raises(jsonschema.ValidationError, match="replica"):
        kubernetes.check(wrong, NEWEST)


def test_every_command_is_one_of_the_program(resources: list[Resource], tasks: list[Resource]) -> None:
    commands = {name: container(template)["args"] for name, template in (*pods(resources), *pods(tasks))}
    assert {name: commands[name] for name in ROLES} == {name: [command] for name, command in ROLES.items()}
    for arguments in commands.values():
        words = [each for each in arguments if not each.startswith(("-", "/"))]
        done = CliRunner().invoke(main.application(), [*words, "--help"], env={"COLUMNS": "220"})
        assert done.exit_code == 0
        assert all(option in done.output for option in arguments if option.startswith("-")), arguments


def test_every_variable_is_a_setting(resources: list[Resource]) -> None:
    known = {PREFIX + name.upper() for name in ClusterSettings.model_fields}
    for name, template in pods(resources):
        assert set(environment(resources, template)) <= known, name


def test_every_named_file_is_in_a_mounted_secret(resources: list[Resource]) -> None:
    secrets = of_kind(resources, "Secret")
    for name, template in pods(resources):
        volumes = {each["name"]: each for each in template["spec"]["volumes"]}
        mounted = {
            f"{mount['mountPath']}/{key}"
            for mount in container(template)["volumeMounts"]
            for secret in secrets_of(volumes[mount["name"]])
            if secret in secrets or not secret.endswith(MERCHANT_KEYS)
            for key in secrets[secret]["data"]
        }
        given = environment(resources, template)
        named = {value for key, value in given.items() if key.endswith("_FILE") or key == "ALIPAY_NOTIFY_ACCOUNTS"}
        assert named <= mounted, name
        assert not any("subPath" in mount for mount in container(template)["volumeMounts"]), "it would stay the old one"


def secrets_of(volume: dict[str, Any]) -> list[str]:
    """The secrets whose files are in a volume."""
    if "secret" in volume:
        return [volume["secret"]["secretName"]]
    return [each["secret"]["name"] for each in volume.get("projected", {}).get("sources", ())]


def test_keys_that_sign_for_the_merchant_reach_workers_and_consoles_alone(resources: list[Resource]) -> None:
    """An installation without `queries` and Requests has no such secret, and starts."""
    found = {}
    for name, template in pods(resources):
        (volume,) = [each for each in template["spec"]["volumes"] if each["name"] == "accounts"]
        found[name] = secrets_of(volume)
        assert all(
            each["secret"].get("optional", False) == each["secret"]["name"].endswith(MERCHANT_KEYS)
            for each in volume.get("projected", {}).get("sources", ())
        )
    both = ["alipay-notify-accounts", MERCHANT_KEYS]
    assert found == {"receiver": both[:1], "worker": both, "console": both}


def test_workers_alone_get_the_endpoints_of_callbacks_if_they_are_wished(
    resources: list[Resource], tmp_path: Path
) -> None:
    assert "callbacks" not in str(dict(pods(resources)))
    wished = kubernetes.rendered(kubernetes.with_callbacks(tmp_path))
    for name, template in pods(wished):
        assert ("callbacks" in str(template)) == (name == "worker")
    worker = dict(pods(wished))["worker"]
    named = Path(environment(wished, worker)["ALIPAY_NOTIFY_CALLBACKS"])
    (mount,) = [each for each in container(worker)["volumeMounts"] if each["name"] == "callbacks"]
    assert mount == {"name": "callbacks", "mountPath": str(named.parent), "readOnly": True}
    (volume,) = [each for each in worker["spec"]["volumes"] if each["name"] == "callbacks"]
    # Its name has no hash: a changed secret reaches running workers.
    secret = of_kind(wished, "Secret")[volume["secret"]["secretName"]]
    assert set(secret["data"]) == {named.name, "shop.secret"}
    test_every_variable_is_a_setting(wished)
    for each in wished:
        kubernetes.check(each, NEWEST)


def test_receivers_get_no_access_to_the_database(resources: list[Resource]) -> None:
    given = dict(pods(resources))
    assert "postgres-address" in str(environment(resources, given["worker"]))
    assert "database" not in str(given["receiver"])


def test_secrets_that_are_reloaded_keep_their_names(resources: list[Resource]) -> None:
    assert set(of_kind(resources, "Secret")) == {"alipay-notify", "alipay-notify-accounts", "alipay-notify-database"}


def test_pods_can_do_nothing_but_their_work(resources: list[Resource], tasks: list[Resource]) -> None:
    for name, template in (*pods(resources), *pods(tasks)):
        spec, own = template["spec"], container(template)
        assert spec["automountServiceAccountToken"] is False, name
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert own["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"mountPath": "/tmp", "name": "tmp"} in own["volumeMounts"]
        assert "memory" in own["resources"]["limits"]
        assert "cpu" not in own["resources"]["limits"], "throttling delays acknowledgements"


def test_requests_and_scales_are_those_of_the_capacity_page(resources: list[Resource]) -> None:
    published = capacity.published()
    share = published.assumptions.used_at_peak
    for name in ("receiver", "worker"):
        assert container(dict(pods(resources))[name])["resources"]["requests"]["cpu"] == f"{share * 1000:.0f}m", name
    largest = max(capacity.capacity(rate, published).receivers for rate in capacity.RATES if rate <= 100_000)
    (scaler,) = of_kind(resources, "HorizontalPodAutoscaler").values()
    assert (scaler["spec"]["minReplicas"], scaler["spec"]["maxReplicas"]) == (capacity.LEAST, largest)
    (scaled,) = of_kind(resources, "ScaledObject").values()
    assert scaled["spec"]["minReplicaCount"] == capacity.LEAST
    # "A second of work for one worker", between what is planned and what a whole core does.
    core_per_s = 1_000_000 / published.figures.worker_us
    assert share * core_per_s <= int(scaled["spec"]["triggers"][0]["metadata"]["lagThreshold"]) <= core_per_s


def test_user_is_that_of_the_image(resources: list[Resource], tasks: list[Resource]) -> None:
    image = (ROOT / "deploy" / "compose" / "Dockerfile").read_text(encoding="utf-8")
    for _, template in (*pods(resources), *pods(tasks)):
        context = template["spec"]["securityContext"]
        assert f"USER {context['runAsUser']}:{context['runAsGroup']}\n" in image
        assert context["fsGroup"] == context["runAsGroup"], "the files of secrets belong to this group"


def test_probes_ask_the_admin_port(resources: list[Resource]) -> None:
    for name, template in pods(resources):
        ports = {each["name"]: each["containerPort"] for each in container(template)["ports"]}
        assert ports["admin"] == ClusterSettings.model_fields["admin_port"].default
        for probe, path in (("startupProbe", "/readyz"), ("readinessProbe", "/readyz"), ("livenessProbe", "/livez")):
            assert container(template)[probe]["httpGet"] == {"path": path, "port": "admin"}, name
            assert path in PROBES


def test_stop_takes_less_than_the_grace_period(resources: list[Resource]) -> None:
    for name, template in pods(resources):
        asleep_s = container(template).get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        assert template["spec"]["terminationGracePeriodSeconds"] == 45
        assert asleep_s + LONGEST_STOP_S < 45, name
    assert container(dict(pods(resources))["receiver"])["lifecycle"]["preStop"] == {"sleep": {"seconds": 5}}


def test_no_receiver_or_worker_is_missing_during_a_roll_out(resources: list[Resource]) -> None:
    for each in of_kind(resources, "Deployment").values():
        assert each["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
        assert "replicas" not in each["spec"] or each["metadata"]["name"] == "alipay-notify-console", "scalers count"
    budgets = of_kind(resources, "PodDisruptionBudget")
    assert set(budgets) == {"alipay-notify-receiver", "alipay-notify-worker"}
    assert {each["spec"]["maxUnavailable"] for each in budgets.values()} == {1}


def test_every_selector_finds_the_pods_of_its_role(resources: list[Resource]) -> None:
    labels = {name: template["metadata"]["labels"] for name, template in pods(resources)}
    found = partial(_selected, labels)
    for kind in ("Deployment", "PodDisruptionBudget", "Service"):
        for name, each in of_kind(resources, kind).items():
            selector = each["spec"]["selector"]
            assert found(selector.get("matchLabels", selector)) == {role_of(name)}, (kind, name)
    for name, template in pods(resources):
        for spread in template["spec"]["topologySpreadConstraints"]:
            assert found(spread["labelSelector"]["matchLabels"]) == {name}
    policies = of_kind(resources, "NetworkPolicy")
    selected = {name: found(each["spec"]["podSelector"]["matchLabels"]) for name, each in policies.items()}
    assert selected == {
        "alipay-notify": set(ROLES),
        "alipay-notify-admin": set(ROLES),
        "alipay-notify-public": {"receiver"},
        "alipay-notify-console": {"console"},
    }


def role_of(name: str) -> str:
    """The role that a resource is about, by its name."""
    return name.removeprefix("alipay-notify-").removesuffix("-pods")


def _selected(labels: dict[str, dict[str, str]], selector: dict[str, str]) -> set[str]:
    assert selector, "an empty selector takes all pods of the namespace"
    return {name for name, own in labels.items() if selector.items() <= own.items()}


def test_only_those_named_may_connect(resources: list[Resource]) -> None:
    policies = of_kind(resources, "NetworkPolicy")
    assert "ingress" not in policies["alipay-notify"]["spec"], "by default, none may"
    for name in ("alipay-notify-public", "alipay-notify-admin", "alipay-notify-console"):
        (rule,) = policies[name]["spec"]["ingress"]
        assert rule["from"]
        assert [port["port"] for port in rule["ports"]] == ["public" if name.endswith("public") else "admin"]


def test_every_service_port_is_one_of_its_pods(resources: list[Resource]) -> None:
    declared = {name: {each["name"] for each in container(pod)["ports"]} for name, pod in pods(resources)}
    for name, each in of_kind(resources, "Service").items():
        wanted = {port["targetPort"] for port in each["spec"]["ports"]}
        assert wanted == ({"admin"} if name.endswith("-pods") else declared[role_of(name)])


def test_console_asks_every_pod_of_receivers_and_workers(resources: list[Resource]) -> None:
    given = environment(resources, dict(pods(resources))["console"])
    services = of_kind(resources, "Service")
    asked = [peer.partition(":") for peer in given["ALIPAY_NOTIFY_PEERS"].split(",")]
    assert {role_of(name) for name, _, _ in asked} == {"receiver", "worker"}
    for name, _, port in asked:
        spec = services[name]["spec"]
        assert spec["clusterIP"] == "None", "its name leads to the pods themselves"
        assert spec["publishNotReadyAddresses"], "also to one that is not ready"
        assert port in {str(each["port"]) for each in spec["ports"]}


def test_every_role_is_scraped(resources: list[Resource]) -> None:
    services = {
        name: each["metadata"]["labels"]
        for name, each in of_kind(resources, "Service").items()
        if not name.endswith("-pods")
    }
    monitors = of_kind(resources, "ServiceMonitor")
    assert set(monitors) == set(services)
    for name, each in monitors.items():
        assert each["spec"]["selector"]["matchLabels"].items() <= services[name].items()
        assert services[name][each["spec"]["jobLabel"]] == name.removeprefix("alipay-notify-")
        assert [endpoint["port"] for endpoint in each["spec"]["endpoints"]] == ["admin"]


def test_rules_are_the_shipped_ones(resources: list[Resource]) -> None:
    (rule,) = of_kind(resources, "PrometheusRule").values()
    shipped = [msgspec.yaml.decode(path.read_bytes())["groups"] for path in (files.RECORDINGS, files.ALERTS)]
    assert rule["spec"]["groups"] == [group for groups in shipped for group in groups]


def test_scaler_of_workers_knows_group_and_topic_and_stops_at_the_partitions(resources: list[Resource]) -> None:
    (scaler,) = of_kind(resources, "ScaledObject").values()
    (trigger,) = scaler["spec"]["triggers"]
    fields = ClusterSettings.model_fields
    assert trigger["metadata"]["consumerGroup"] == fields["group"].default
    (log,) = topics.wanted(only=[NOTIFICATION])
    assert (trigger["metadata"]["topic"], scaler["spec"]["maxReplicaCount"]) == (log.name, log.partitions)
    worker = dict(pods(resources))["worker"]
    assert trigger["metadata"]["bootstrapServers"] == environment(resources, worker)["ALIPAY_NOTIFY_KAFKA"]
    assert scaler["spec"]["scaleTargetRef"]["name"] in of_kind(resources, "Deployment")


def test_balancer_takes_notifications_alone_and_every_body_that_a_receiver_takes(resources: list[Resource]) -> None:
    (ingress,) = of_kind(resources, "Ingress").values()
    (rule,) = ingress["spec"]["rules"]
    (path,) = rule["http"]["paths"]
    assert (path["path"], path["backend"]["service"]["port"]) == ("/notify/", {"name": "public"})
    size = ingress["metadata"]["annotations"]["nginx.ingress.kubernetes.io/proxy-body-size"]
    assert int(size.removesuffix("k")) << 10 >= BODY_BYTES_MAX


def test_boards_are_labelled_for_the_sidecar_of_grafana() -> None:
    boards = kubernetes.rendered(ROOT / "deploy" / "grafana")
    assert {next(iter(each["data"])) for each in boards} == {path.name for path in files.BOARDS.values()}
    for each in boards:
        assert each["metadata"]["labels"] == {"grafana_dashboard": "1"}
        assert len(msgspec.json.encode(each)) < 1 << 18, "kubectl keeps it in an annotation"

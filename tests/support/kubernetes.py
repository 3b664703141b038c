"""The shipped manifests for Kubernetes as kustomize renders them, and the schemas that they have to fit.

kustomize is the machine's, or kubectl's, or built by Go. Schemas of custom resources come from the modules of their
operators, by Go's proxy.
"""

import json
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import msgspec
from jsonschema import Draft202012Validator

from tests.support.paths import ROOT

SECRETS = ("secrets/admin-token", "secrets/receipt-key", "secrets/postgres-address")
CALLBACKS = ("callbacks/callbacks.toml", "callbacks/shop.secret")
ACCOUNTS = ("accounts/accounts.toml", "accounts/alipay.pem")
OLDEST, NEWEST = "1.30", "1.37"
KUSTOMIZE = "sigs.k8s.io/kustomize/kustomize/v5@v5.7.1"
PROMETHEUS_OPERATOR = "github.com/prometheus-operator/prometheus-operator@v0.85.0"
CUSTOM = {  # by kind: the operator's module, and the file of its definition
    "ServiceMonitor": (PROMETHEUS_OPERATOR, "jsonnet/prometheus-operator/servicemonitors-crd.json"),
    "PrometheusRule": (PROMETHEUS_OPERATOR, "jsonnet/prometheus-operator/prometheusrules-crd.json"),
    "ScaledObject": ("github.com/kedacore/keda/v2@v2.17.2", "config/crd/bases/keda.sh_scaledobjects.yaml"),
}

Resource = dict[str, Any]


def installation(directory: Path) -> Path:
    """Copy the manifests, with the secrets of an installation; return the directory of the example overlay."""
    shutil.copytree(ROOT / "deploy" / "kubernetes", directory / "kubernetes")
    overlay = directory / "kubernetes" / "overlays" / "example"
    for name in (*SECRETS, *ACCOUNTS):
        file = overlay / "servers" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"{name} of a test\n", encoding="utf-8")
    return overlay


def _in_use(found: re.Match[str]) -> str:
    """Return an entry of a list without the signs that make it a comment."""
    return f"  {found[1]}{found[2].replace('  #   ', '    ')}"


def with_callbacks(directory: Path) -> Path:
    """Return the example overlay of an installation, with the lines in use that are there for callbacks."""
    overlay = installation(directory)
    for name in CALLBACKS:
        file = overlay / "servers" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"{name} of a test\n", encoding="utf-8")
    for file in (overlay / "kustomization.yaml", overlay / "servers" / "kustomization.yaml"):
        text = file.read_text(encoding="utf-8")
        used = re.sub(r"^  # (?=- .*callbacks)(.*\n)((?:  #   .*\n)*)", _in_use, text, flags=re.MULTILINE)
        assert used != text
        file.write_text(used, encoding="utf-8")
    return overlay


def rendered(directory: Path) -> list[Resource]:
    """Return what `kubectl apply -k` would send."""
    done = subprocess.run([*_kustomize(), str(directory)], capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    return [msgspec.yaml.decode(each, type=Resource) for each in done.stdout.split("\n---\n")]


@cache
def _kustomize() -> tuple[str, ...]:
    for program, command in (("kustomize", "build"), ("kubectl", "kustomize")):
        if found := shutil.which(program):
            return (found, command)
    return (_go(), "run", KUSTOMIZE, "build")


def _go() -> str:
    found = shutil.which("go")
    assert found, "Go is needed: install it from https://go.dev/dl, or Debian's package golang-go"
    return found


def check(resource: Resource, version: str) -> None:
    """Check a resource by the schema of its kind; fields that the schema lacks are faults too."""
    if resource["kind"] in CUSTOM:
        Draft202012Validator(_custom(resource["kind"], resource["apiVersion"])).validate(resource)
    else:
        kubernetes_validate.validate(resource, version, strict=True)


@cache
def _custom(kind: str, api_version: str) -> Resource:
    module, path = CUSTOM[kind]
    argv = [_go(), "mod", "download", "-json", module]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    text = (Path(json.loads(done.stdout)["Dir"]) / path).read_bytes()
    definition = msgspec.yaml.decode(text, type=Resource)["spec"]
    (schema,) = [
        each["schema"]["openAPIV3Schema"]
        for each in definition["versions"]
        if api_version == f"{definition['group']}/{each['name']}"
    ]
    found: Resource = _closed(schema)
    return found


def _closed(schema: Any) -> Any:
    """Refuse fields that are not declared, as the server's strict validation does, except where any are allowed."""
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(value) for key, value in schema.items()}
    properties = schema.get("properties")
    if isinstance(properties, dict) and "type" in schema and "x-kubernetes-preserve-unknown-fields" not in schema:
        is_whole = set(properties) == {"apiVersion", "kind", "metadata", "spec", "status"}
        if not is_whole and "additionalProperties" not in schema:
            closed["additionalProperties"] = False
    return closed

"""The custom resources of the Kubernetes manifests, against the definitions that their operators publish."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

FOLDER = Path(__file__).resolve().parents[2] / "deploy/kubernetes"
# Go modules, which hold the definitions as files; they come by Go's own download and are kept in its cache.
DEFINITIONS = {
    "ServiceMonitor": (
        "github.com/prometheus-operator/prometheus-operator@v0.79.2",
        "example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml",
    ),
    "ScaledObject": ("github.com/kedacore/keda/v2@v2.16.0", "config/crd/bases/keda.sh_scaledobjects.yaml"),
}


def custom_resources() -> Iterator[dict[str, Any]]:
    for path in sorted(FOLDER.glob("*.yaml")):
        for body in yaml.safe_load_all(path.read_text()):
            if body["kind"] in DEFINITIONS:
                yield body


RESOURCES = list(custom_resources())


def strict(schema: Any) -> Any:
    """The same schema, refusing fields that it does not name, where Kubernetes would drop them without a word."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: strict(part) for key, part in schema.items()}
    if "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
        made.setdefault("additionalProperties", False)
    return made


@pytest.fixture(scope="module")
def definitions(tmp_path_factory) -> dict[str, dict[str, Any]]:
    """Custom resource definitions by kind."""
    found = {}
    for kind, (module, path) in DEFINITIONS.items():
        command = ["go", "mod", "download", "-json", module]
        folder = tmp_path_factory.mktemp(kind)  # outside of any module
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        found[kind] = yaml.safe_load((Path(json.loads(done.stdout)["Dir"]) / path).read_text())
    return found


def schema_of(definition: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
    group, version = body["apiVersion"].split("/")
    assert (definition["spec"]["group"], definition["spec"]["names"]["kind"]) == (group, body["kind"])
    (found,) = (each for each in definition["spec"]["versions"] if each["name"] == version)
    assert found["served"]
    return strict(found["schema"]["openAPIV3Schema"])


def test_there_is_one_of_each_kind():
    assert {body["kind"] for body in RESOURCES} == set(DEFINITIONS)


@pytest.mark.parametrize("body", RESOURCES, ids=lambda body: f"{body['kind']}-{body['metadata']['name']}")
def test_a_custom_resource_is_what_its_operator_takes(definitions, body):
    schema = schema_of(definitions[body["kind"]], body)
    jsonschema.validate(body, schema)
    with pytest.raises(jsonschema.ValidationError, match="Additional properties"):
        jsonschema.validate({**body, "spec": {**body["spec"], "replicaz": 1}}, schema)
    for name in body["spec"]:
        lacking = {**body, "spec": {key: value for key, value in body["spec"].items() if key != name}}
        if name in schema["properties"]["spec"].get("required", ()):
            with pytest.raises(jsonschema.ValidationError, match="required"):
                jsonschema.validate(lacking, schema)

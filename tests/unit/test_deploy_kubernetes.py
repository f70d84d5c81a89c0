"""The Kubernetes manifests: valid for Kubernetes' own schemas, and true to the program."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from dwcp_stream.cli.main import COMMANDS
from dwcp_stream.settings import Settings
from dwcp_stream.settings_docs import options
from dwcp_stream.streams import load_streams
from topologies.names import app_id

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy/kubernetes"
STREAMS = load_streams(ROOT / "config/streams")

CUSTOM = ("ServiceMonitor", "ScaledObject")
"""Kinds that are no part of Kubernetes: tests/integration/test_deploy_schemas.py checks them."""


def documents() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every object of the files that the kustomization names, with its name."""
    kustomization = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
    for name in kustomization["resources"]:
        for body in yaml.safe_load_all((FOLDER / name).read_text()):
            yield f"{name}/{body['kind']}/{body['metadata']['name']}", body


OBJECTS = dict(documents())
WORKLOADS = {name: body for name, body in OBJECTS.items() if body["kind"] in ("Deployment", "Job")}


def container(body: dict[str, Any]) -> dict[str, Any]:
    """The one container of a workload."""
    (found,) = body["spec"]["template"]["spec"]["containers"]
    return found


@pytest.mark.parametrize("name", [name for name, body in OBJECTS.items() if body["kind"] not in CUSTOM])
def test_every_object_is_valid(name):
    kubernetes_validate.validate(OBJECTS[name], "1.31", strict=True)


def test_the_checks_refuse_what_is_wrong():
    deployment = next(body for body in OBJECTS.values() if body["kind"] == "Deployment")
    wrong = {**deployment, "spec": {**deployment["spec"], "replicaz": 2}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, "1.31", strict=True)


def test_every_file_is_named_by_the_kustomization():
    named = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["resources"]
    assert {*named, "kustomization.yaml"} == {path.name for path in FOLDER.glob("*.yaml")}


@pytest.mark.parametrize("name", WORKLOADS)
def test_no_workload_may_do_more_than_it_needs(name):
    pod = WORKLOADS[name]["spec"]["template"]["spec"]
    secured = container(WORKLOADS[name])["securityContext"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["automountServiceAccountToken"] is False
    assert secured["readOnlyRootFilesystem"] is True
    assert secured["allowPrivilegeEscalation"] is False
    assert secured["capabilities"] == {"drop": ["ALL"]}
    assert container(WORKLOADS[name])["resources"]["limits"]["memory"]


def test_selectors_find_their_pods_and_no_others():
    pods = {name: body["spec"]["template"]["metadata"]["labels"] for name, body in WORKLOADS.items()}
    for name, body in OBJECTS.items():
        if body["kind"] in ("Deployment", "PodDisruptionBudget"):
            wanted = body["spec"]["selector"]["matchLabels"].items()
            found = [pod.partition("/")[2] for pod, labels in pods.items() if wanted <= labels.items()]
            assert found == [f"Deployment/{body['metadata']['name']}"], name


def test_there_is_a_worker_for_every_stream_at_its_port_scaled_by_its_lag():
    settings = Settings()
    first = settings.http.port
    workers = {body["metadata"]["name"]: body for name, body in OBJECTS.items() if "Deployment/dwcp-worker" in name}
    scaled = {body["metadata"]["name"]: body["spec"] for body in OBJECTS.values() if body["kind"] == "ScaledObject"}
    budgets = {body["metadata"]["name"] for body in OBJECTS.values() if body["kind"] == "PodDisruptionBudget"}
    assert workers.keys() == scaled.keys() == budgets == {f"dwcp-worker-{stream}" for stream in STREAMS}
    for number, stream in enumerate(sorted(STREAMS)):
        body = container(workers[f"dwcp-worker-{stream}"])
        assert body["args"] == ["worker", stream]
        assert body["ports"][0]["containerPort"] == first + number
        assert "replicas" not in workers[f"dwcp-worker-{stream}"]["spec"]  # KEDA's to say
        assert all(stream in body[probe]["exec"]["command"] for probe in ("livenessProbe", "readinessProbe"))
        ((trigger),) = scaled[f"dwcp-worker-{stream}"]["triggers"]
        assert trigger["metadata"]["consumerGroup"] == app_id(settings, STREAMS[stream])
        assert trigger["metadata"]["topic"] == STREAMS[stream].topic
        assert scaled[f"dwcp-worker-{stream}"]["maxReplicaCount"] == settings.topics.partitions


def test_the_other_services_run_commands_that_exist_at_their_ports():
    settings = Settings()
    ports = {"trainer": settings.trainer.port, "alert-sink": settings.sinks.port}
    for command, port in ports.items():
        body = container(OBJECTS[f"{command}.yaml/Deployment/dwcp-{command}"])
        assert body["args"] == [command]
        assert command in COMMANDS
        assert body["ports"] == [{"name": "http", "containerPort": port}]


def test_every_variable_is_one_of_a_setting_and_no_secret_is_in_a_file():
    known = {option.variable: option for option in options()}
    text = "".join(path.read_text() for path in FOLDER.glob("*.yaml"))
    assert set(re.findall(r"DWCP_\w+", text)) <= known.keys()
    config = next(body for body in OBJECTS.values() if body["kind"] == "ConfigMap")
    assert all(known[variable].kind != "secret" for variable in config["data"])


def test_the_names_of_the_jobs_are_those_that_the_rules_look_for():
    jobs = {
        job["job_name"]
        for job in yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())["scrape_configs"]
    }
    components = {
        body["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/component"]
        for body in OBJECTS.values()
        if body["kind"] == "Deployment"
    }
    assert {f"dwcp-{component}" for component in components} <= jobs

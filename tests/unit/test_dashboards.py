"""Dashboards and rules: current files, metrics and labels of the catalogue, a heading of the runbook for each alert."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from dwcp_stream.telemetry.catalogue import CATALOGUE, Spec

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy/grafana/dashboards"
SPECS = {spec.name: spec for spec in CATALOGUE}
RULES = {
    path.stem: [rule for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]]
    for path in sorted((ROOT / "deploy/prometheus/rules").glob("*.yml"))
}
RECORDED = {rule["record"] for rule in RULES["recording"]}
ADDED = {"instance", "job", "le"}
"""Labels that Prometheus or a histogram add."""


def panels(board: dict[str, Any]) -> list[dict[str, Any]]:
    """The panels that show something."""
    return [panel for panel in board["panels"] if panel["type"] != "row"]


BOARDS = {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}
PANEL_EXPRESSIONS = {
    f"{name}: {panel['title']} {target['refId']}": target["expr"]
    for name, board in BOARDS.items()
    for panel in panels(board)
    for target in panel["targets"]
}
RULE_EXPRESSIONS = {rule.get("alert") or rule["record"]: rule["expr"] for rules in RULES.values() for rule in rules}
EXPRESSIONS = {**PANEL_EXPRESSIONS, **RULE_EXPRESSIONS}


def spec_of(series: str) -> Spec | None:
    """The metric of a series' name; a histogram's parts are its own."""
    stem = re.sub(r"_(bucket|sum|count)$", "", series)
    return SPECS.get(series) or (SPECS[stem] if stem in SPECS and SPECS[stem].kind == "histogram" else None)


def series_of(expression: str) -> list[str]:
    """Names of the series in an expression that are ours, without those of recording rules."""
    bare = re.sub(r"[a-z_]+:dwcp_\w+(:\w+)?", "", expression)
    return re.findall(r"\bdwcp_\w+", bare)


def test_the_committed_dashboards_are_what_the_script_makes(tmp_path):
    subprocess.run([sys.executable, str(ROOT / "scripts/dashboards"), str(tmp_path)], check=True)
    made = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert made == {path.name: path.read_text() for path in FOLDER.iterdir()}, "run scripts/dashboards"


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_every_series_is_in_the_catalogue_and_has_the_labels_that_are_used(name):
    expression = EXPRESSIONS[name]
    found = series_of(expression)
    assert found or re.search(r"\bup\b|:dwcp_", expression)
    recorded = set(re.findall(r"[a-z_]+:dwcp_\w+:\w+", expression))
    assert recorded <= RECORDED
    labels: set[str] = set(ADDED)
    for series in found:
        spec = spec_of(series)
        assert spec is not None, f"{series} is not in the catalogue"
        assert spec.kind != "counter" or re.search(rf"(rate|increase)\({series}\b", expression), f"{series} as it is"
        labels |= set(spec.labels)
    for one in recorded:
        labels |= set(one.partition(":")[0].split("_")) | {"outcome"}
    used = {name for group in re.findall(r"\b(?:by|on) \(([^)]*)\)", expression) for name in group.split(", ")}
    used |= set(re.findall(r"[{,](\w+)(?:=|!=|=~)", expression))
    assert used <= labels, used - labels


@pytest.mark.parametrize("name", BOARDS)
def test_a_dashboard_is_one_that_grafana_can_be_given(name):
    board = BOARDS[name]
    assert board["uid"] == f"dwcp-{name}"
    assert [variable["name"] for variable in board["templating"]["list"]] == ["datasource", "stream"]
    assert board["schemaVersion"] >= 36
    places = []
    for panel in panels(board):
        grid = panel["gridPos"]
        assert 0 <= grid["x"] <= grid["x"] + grid["w"] <= 24, panel["title"]
        places += [
            (x, y) for x in range(grid["x"], grid["x"] + grid["w"]) for y in range(grid["y"], grid["y"] + grid["h"])
        ]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert panel["options"]
        assert panel["targets"]
    assert len(places) == len(set(places)), "panels lie over each other"
    titles = [panel["title"] for panel in panels(board)]
    assert len(titles) == len(set(titles))


def test_every_metric_is_on_a_dashboard_or_in_a_rule():
    shown = {
        spec.name
        for expression in EXPRESSIONS.values()
        for series in series_of(expression)
        if (spec := spec_of(series))
    }
    apart = {
        "dwcp_alert_transitions_total",  # `dwcp_anomalies_detected_total` and `dwcp_alerts_firing` show the same
        "dwcp_anomaly_confidence",
        "dwcp_pba_prediction_latency_ms",  # its twin in seconds is shown
    }
    assert SPECS.keys() - shown == apart


def test_the_provisioning_finds_the_dashboards_and_the_data_source():
    provisioning = ROOT / "deploy/grafana/provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yml").read_text())["datasources"]
    (provider,) = yaml.safe_load((provisioning / "dashboards/dwcp.yml").read_text())["providers"]
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    mounts = dict(volume.split(":")[:2] for volume in compose["grafana"]["volumes"])
    assert mounts["./deploy/grafana/dashboards"] == provider["options"]["path"]
    assert source["url"] == "http://prometheus:9090"
    assert "prometheus" in compose


def test_every_alert_has_a_summary_a_severity_and_a_heading_in_the_runbook():
    headings = re.findall(r"^## (\w+)$", (ROOT / "docs/runbook.md").read_text(), re.MULTILINE)
    names = [rule["alert"] for rule in RULES["alerts"]]
    assert [name for name in headings if name.startswith("Dwcp")] == names
    for rule in RULES["alerts"]:
        assert rule["annotations"]["runbook_url"] == f"docs/runbook.md#{rule['alert'].lower()}"
        assert rule["annotations"]["summary"]
        assert rule["labels"]["severity"] in ("warning", "critical")


def test_every_alert_has_a_test_in_which_it_fires_and_one_in_which_it_does_not():
    cases: dict[str, list[bool]] = {}
    for test in yaml.safe_load((ROOT / "deploy/prometheus/tests/alerts.yml").read_text())["tests"]:
        for case in test["alert_rule_test"]:
            cases.setdefault(case["alertname"], []).append(bool(case.get("exp_alerts")))
    assert {name: sorted(found) for name, found in cases.items()} == {
        rule["alert"]: [False, True] for rule in RULES["alerts"]
    }


def test_the_panels_file_names_each_dashboard():
    assert tomllib.loads((ROOT / "deploy/grafana/panels.toml").read_text()).keys() == BOARDS.keys()

"""The files of deploy/ and docker-compose.yml, by the programs that read them: promtool, amtool, docker-compose."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import yaml

from tests.integration.monitoring import ROOT, program
from tests.unit.test_dashboards import PANEL_EXPRESSIONS

RULES = sorted((ROOT / "deploy/prometheus/rules").glob("*.yml"))


def run(*command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ, **variables}
    )


def test_rules_and_configurations_are_valid():
    done = run(program("promtool"), "check", "rules", "--lint-fatal", *map(str, RULES))
    assert done.returncode == 0, done.stdout + done.stderr
    done = run(program("promtool"), "check", "config", "--syntax-only", "deploy/prometheus/prometheus.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    done = run(program("amtool"), "check-config", "deploy/alertmanager/alertmanager.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_expression_of_a_panel_is_one(tmp_path: Path):
    def checked(expressions: list[str]) -> subprocess.CompletedProcess[str]:
        rules = [{"record": f"panel:expression:{n}", "expr": e} for n, e in enumerate(expressions)]
        path = tmp_path / "panels.yml"
        path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
        return run(program("promtool"), "check", "rules", str(path))

    given = [expression.replace("$stream", ".*") for expression in PANEL_EXPRESSIONS.values()]
    done = checked(given)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(given)} rules found" in done.stdout
    assert checked([*given, "sum(dwcp_samples_total"]).returncode != 0


def test_every_alert_fires_when_it_should_and_only_then(tmp_path: Path):
    done = run(program("promtool"), "test", "rules", "deploy/prometheus/tests/alerts.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_tests_of_the_rules_notice_a_changed_rule(tmp_path: Path):
    shutil.copytree(ROOT / "deploy/prometheus", tmp_path / "prometheus")
    alerts = tmp_path / "prometheus/rules/alerts.yml"
    alerts.write_text(alerts.read_text().replace("dwcp_sink_up == 0", "dwcp_sink_up == 2"))
    cases = tmp_path / "prometheus/tests/alerts.yml"
    body = yaml.safe_load(cases.read_text())
    cases.write_text(yaml.safe_dump(body | {"tests": [t for t in body["tests"] if t["name"] == "DwcpSinkDown"]}))
    done = run(program("promtool"), "test", "rules", str(cases))
    assert done.returncode != 0
    assert "DwcpSinkDown" in done.stdout + done.stderr


def test_compose_reads_its_file_and_asks_for_secrets():
    compose = shutil.which("docker-compose")
    assert compose, "docker-compose is missing. Type: scripts/system-packages compose"
    given = {"DWCP_HTTP__TOKEN": "0" * 32, "GRAFANA_PASSWORD": "0" * 32}
    done = run(compose, "-f", "docker-compose.yml", "config", **given)
    assert done.returncode == 0, done.stderr
    services = yaml.safe_load(done.stdout)["services"]
    assert services.keys() >= {"kafka", "daemon", "trainer", "alert-sink", "prometheus", "alertmanager", "grafana"}
    for name, service in services.items():
        for volume in service.get("volumes", []):
            source = str(volume["source"] if isinstance(volume, dict) else volume).split(":")[0]
            if source.startswith("/"):
                assert Path(source).exists(), f"{name} mounts {source}"
    for name in given:
        done = run(compose, "-f", "docker-compose.yml", "config", **{**given, name: ""})
        assert done.returncode != 0
        assert name in done.stderr

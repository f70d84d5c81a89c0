"""A real Prometheus scrapes a worker, a trainer and an alert sink; its rules tell a real Alertmanager of a fault."""

from __future__ import annotations

import json
import urllib.parse
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.harness import wait_until
from tests.integration.monitoring import ROOT, Service, alertmanager, daemon, prometheus, told
from tests.integration.probe import Telemetry
from tests.integration.workers import Site
from tests.kafka.broker import free_port
from tests.unit.sink_cases import Receiver
from tests.unit.test_dashboards import EXPRESSIONS, series_of, spec_of

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

NEEDS_FORECASTS = ("dwcp_forecast", "dwcp_persistence", "dwcp_interval", "dwcp_realised", "dwcp_pba_p", "dwcp_pba_s")
"""The probe's model forecasts nothing."""
NEEDS_A_COLLECTOR = ("dwcp_scrape", "dwcp_collect")
NEEDS_AN_EVENT = {
    "dwcp_dead_letters_total", "dwcp_errors_total", "dwcp_hole_records_total", "dwcp_chunk_refetches_total",
    "dwcp_checkpoint_failures_total", "dwcp_pba_retrain_total", "dwcp_pba_confidence", "dwcp_drift_events_total",
    "dwcp_drift_state", "dwcp_decisions_total", "dwcp_training_duration_seconds", "dwcp_trainer_unreadable_total",
    "dwcp_control_commands_total",
}  # fmt: skip
"""Series that come with the first failure, drift, decision or command."""


def without_waiting(directory: Path) -> list[Path]:
    """The shipped rules, with alerts that fire at once: how long they wait is tested by promtool."""
    made = []
    for path in sorted((ROOT / "deploy/prometheus/rules").glob("*.yml")):
        rules = yaml.safe_load(path.read_text())
        for group in rules["groups"]:
            for rule in group["rules"]:
                rule.pop("for", None)
        made.append(directory / path.name)
        made[-1].write_text(yaml.safe_dump(rules))
    return made


async def query(server: Service, expression: str) -> list[dict[str, Any]]:
    """Result of an instant query; AssertionError with Prometheus' words if it refuses."""
    answer = await server.get("/api/v1/query?" + urllib.parse.urlencode({"query": expression}))
    assert answer is not None, expression
    assert answer["status"] == "success", (expression, answer)
    return answer["data"]["result"]


async def test_metrics_rules_and_a_worker_that_goes_away(site: Site, tmp_path: Path) -> None:
    await site.create()
    run = await site.run()
    await site.write(Telemetry(20, 60))
    ports = {name: free_port() for name in ("worker", "trainer", "alert-sink")}
    async with Receiver() as people, Receiver() as hook:
        environment = {
            **run.environment,
            "DWCP_HTTP__PORT": str(ports["worker"]),
            "DWCP_TRAINER__PORT": str(ports["trainer"]),
            "DWCP_SINKS__PORT": str(ports["alert-sink"]),
            "DWCP_SINKS__WEBHOOKS": json.dumps([{"name": "hook", "url": hook.url}]),
        }
        logs = {name: tmp_path / f"{name}.log" for name in ports}
        jobs = {f"dwcp-{name}": [port] for name, port in ports.items()}
        with (
            daemon(["worker", "probe"], logs["worker"], ports["worker"], environment) as worker,
            daemon(["trainer"], logs["trainer"], ports["trainer"], environment) as trainer,
            daemon(["alert-sink"], logs["alert-sink"], ports["alert-sink"], environment) as sink,
        ):
            for service in (worker, trainer, sink):
                await service.up("/metrics")
            with (
                alertmanager(tmp_path / "am", people.url) as manager,
                prometheus(tmp_path / "prometheus", jobs, manager.port, without_waiting(tmp_path)) as server,
            ):
                await manager.up("/api/v2/status")
                await server.up("/-/ready")

                async def all_up() -> bool:
                    return [one["value"][1] for one in await query(server, 'up{job=~"dwcp-.*"}')] == ["1"] * 3

                await wait_until(all_up, lambda: server.log.read_text()[-2000:], every=0.2)
                await wait_until(lambda: len(hook.bodies) >= 40, lambda: sink.log.read_text()[-2000:], every=0.1)

                wanted = {spec.name for e in EXPRESSIONS.values() for s in series_of(e) if (spec := spec_of(s))}

                async def missing() -> set[str]:
                    described = (await server.get("/api/v1/targets/metadata"))["data"]
                    return {n.removesuffix("_total") for n in wanted} - {
                        one["metric"].removesuffix("_total") for one in described
                    }

                assert await missing() == set()
                quiet = {
                    name for name in wanted if name.startswith(NEEDS_FORECASTS + NEEDS_A_COLLECTOR)
                } | NEEDS_AN_EVENT

                async def absent() -> set[str]:
                    names = (await server.get("/api/v1/label/__name__/values"))["data"]
                    there = {spec.name for name in names if (spec := spec_of(name))}
                    return wanted - quiet - there

                async def complete() -> bool:
                    return not await absent()

                await wait_until(complete, "all series of a healthy daemon", every=0.3)
                for expression in EXPRESSIONS.values():
                    await query(server, expression.replace("$stream", ".*"))

                gone = f"127.0.0.1:{worker.port}"

                def heard() -> Counter[str]:
                    found = [
                        (status, labels["alertname"], labels.get("instance")) for status, labels in told(people.bodies)
                    ]
                    return Counter(status for status, *what in found if what == ["DwcpTargetDown", gone])

                assert heard() == {}
                worker.kill()
                await wait_until(lambda: heard() == {"firing": 1}, lambda: str(heard()))
                worker.start()
                await wait_until(lambda: heard()["resolved"] == 1, lambda: str(heard()))
                assert heard() == {"firing": 1, "resolved": 1}

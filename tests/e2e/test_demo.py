"""The demo as a user runs it: embedded broker, three workers, recorded and simulated telemetry."""

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow
SECONDS = 20
RUN_ROWS = 585


@pytest.fixture(scope="module")
def result():
    done = subprocess.run(
        [sys.executable, "-m", "dwcp_stream", "demo", "--seconds", str(SECONDS), "--json"],
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_sample_is_accounted_for(result):
    assert set(result["accounted"]) == {"scored", "warming_up", "duplicate", "late", "invalid"}
    assert sum(result["accounted"].values()) == result["samples_in"] > 5000
    assert result["accounted"]["invalid"] == 0
    assert result["streams"]["consensus"]["sent"] == RUN_ROWS


def test_alerts_are_as_published(result):
    alerts = result["alerts"]
    assert {"consensus", "node", "link"} >= {a["stream"] for a in alerts} >= {"consensus", "node"}
    assert len({a["id"] for a in alerts}) == len(alerts)
    for alert in alerts:
        assert alert["labels"]["alertname"]
        assert alert["startsAt"]
        assert ("endsAt" in alert) == (alert["action"] == "resolved")


def test_predictions_drift_and_latency_are_reported(result):
    assert result["predictions"] > 1000
    assert isinstance(result["drift_events"], int)
    assert result["accuracy_messages"] > 0
    assert 0 < result["latency_seconds"]["p50"] <= result["latency_seconds"]["p99"]


@pytest.mark.full
def test_a_fault_in_a_live_cluster_raises_an_alert():
    """A real etcd cluster; its leader is lost once the windows are full."""
    command = ["demo", "--live", "--seconds", "75", "--inject", "leader_lost@45", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "dwcp_stream", *command], capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert sum(found["accounted"].values()) == found["samples_in"] >= 70
    assert found["accounted"]["invalid"] == 0
    (fault,) = found["faults"]
    assert (fault["kind"], fault["error"]) == ("leader_lost", "")
    assert fault["first_alert_after_seconds"] is not None

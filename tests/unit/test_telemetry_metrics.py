"""The catalogue's rules, and the metrics made from it."""

from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from dwcp_stream.events import Accuracy
from dwcp_stream.telemetry.catalogue import CATALOGUE, LABELS, OUTCOMES, Spec, markdown
from dwcp_stream.telemetry.metrics import Metrics

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = {
    "dwcp_pba_prediction_accuracy",
    "dwcp_pba_prediction_latency_ms",
    "dwcp_pba_model_version",
    "dwcp_pba_confidence",
    "dwcp_pba_retrain_total",
    "dwcp_pba_predictions_total",
    "dwcp_pba_sample_count",
    "dwcp_anomalies_detected_total",
    "dwcp_anomaly_confidence",
    "dwcp_anomaly_detection_latency_seconds",
    "dwcp_metrics_processed_total",
}
PART = Accuracy(
    stream="link", model="lstm", version=2, arm="champion", horizon=6, target="rtt", partition=0, bucket_start="",
    bucket_end="", event_time="", n=10, abs_error=5.0, sq_error=4.0, error=-2.0, ape=1.0, ape_n=9, persistence_n=10,
    persistence_abs_error=10.0, paired_abs_error=5.0, pinball=3.0, covered=8, covered_raw=7, missed=1,
)  # fmt: skip


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(CollectorRegistry())


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


@pytest.mark.parametrize("spec", CATALOGUE, ids=lambda spec: spec.name)
def test_every_metric_keeps_the_rules(spec: Spec):
    assert spec.name.startswith("dwcp_")
    assert (spec.kind == "counter") == spec.name.endswith("_total")
    assert (spec.unit == "seconds") == spec.name.endswith("_seconds")
    assert set(spec.labels) <= set(LABELS)
    assert spec.help.endswith(".")
    assert (spec.kind == "histogram") == bool(spec.buckets)
    assert list(spec.buckets) == sorted(set(spec.buckets))


def test_names_are_unique_and_hold_those_of_the_reference():
    names = [spec.name for spec in CATALOGUE]
    assert len(names) == len(set(names))
    assert set(names) >= REFERENCE


def test_no_label_can_hold_an_entity():
    assert not {"entity", "key", "cluster_id", "node_id", "peer_id", "group_id", "offset"} & set(LABELS)
    assert {label for spec in CATALOGUE for label in spec.labels} == set(LABELS)


def test_the_page_is_current():
    assert (ROOT / "docs/metrics.md").read_text() == "\n".join(markdown()) + "\n", "run `make docs`"


def test_outcomes_are_those_of_the_windows():
    from dwcp_stream.windows.outcome import Outcome  # noqa: PLC0415  # the one test that needs the windows

    assert tuple(outcome.name.lower() for outcome in Outcome)[: len(OUTCOMES)] == OUTCOMES


def test_two_registries_do_not_meet(metrics):
    other = Metrics(CollectorRegistry())
    metrics.error("node", "model", "processing")
    labels = {"stream": "node", "error_type": "model", "stage": "processing"}
    assert value(metrics, "dwcp_errors_total", **labels) == 1
    assert value(other, "dwcp_errors_total", **labels) is None


def test_samples_are_counted_by_outcome_and_together(metrics):
    metrics.samples("node", [5, 4, 3, 2, 1], replayed=7)
    metrics.samples("node", [1, 0, 0, 0, 0])
    counted = {name: value(metrics, "dwcp_samples_total", stream="node", outcome=name) for name in OUTCOMES}
    assert counted == {"scored": 6, "warming_up": 4, "duplicate": 3, "late": 2, "invalid": 1}
    assert value(metrics, "dwcp_metrics_processed_total", stream="node") == 16
    assert value(metrics, "dwcp_samples_replayed_total", stream="node") == 7
    with pytest.raises(ValueError, match="zip"):
        metrics.samples("node", [1, 2])


def test_lag_is_never_negative(metrics):
    metrics.lag("node", 2, 10, 30)
    assert value(metrics, "dwcp_consumer_lag", stream="node", partition="2") == 20
    metrics.lag("node", 2, 31, 30)
    assert value(metrics, "dwcp_consumer_lag", stream="node", partition="2") == 0


def test_a_revoked_partition_leaves_no_series_and_the_others_stay(metrics):
    for partition in (1, 2):
        metrics.lag("node", partition, 1, 2)
        metrics.state("node", partition, entities=3, grid_fill=0.5, watermark=9.0)
        metrics.firing("node", partition, "node-gbt", 4)
        metrics.checkpoint("node", partition, seconds=0.1, entities=3, size=100, now=1e9)
    metrics.revoked("node", 1)
    left = {
        (family.name, sample.labels["partition"])
        for family in text_string_to_metric_families(generate_latest(metrics.registry).decode())
        for sample in family.samples
        if "partition" in sample.labels
    }
    assert {partition for _, partition in left} == {"2"}
    assert {name for name, _ in left} == {spec.name for spec in CATALOGUE if "partition" in spec.labels}
    assert value(metrics, "dwcp_checkpoint_entities_total", stream="node") == 6


def test_an_alert_counts_when_it_begins_and_its_end_only_as_a_transition(metrics):
    for action in ("firing", "escalated", "resolved"):
        metrics.alert("node", "gbt", action, "critical", "cpu_usage", 3.0)
    labels = {"stream": "node", "metric_name": "cpu_usage", "model_type": "gbt"}
    assert value(metrics, "dwcp_anomalies_detected_total", severity="critical", **labels) == 2
    assert value(metrics, "dwcp_anomaly_confidence", **labels) == 3.0
    assert value(metrics, "dwcp_alert_transitions_total", stream="node", model="gbt", action="resolved") == 1


def test_drift_shows_the_worst_partition_and_counts_changes(metrics):
    def shown() -> tuple[float | None, float | None]:
        labels = {"stream": "node", "model": "gbt", "detector": "adwin"}
        return value(metrics, "dwcp_drift_state", **labels), value(metrics, "dwcp_drift_events_total", **labels)

    metrics.drift("node", "gbt", "adwin", "stable", partition=0)
    assert shown() == (0, 0)
    metrics.drift("node", "gbt", "adwin", "drifted", partition=1)
    assert shown() == (2, 1)
    metrics.drift("node", "gbt", "adwin", "drifted", partition=1)
    metrics.drift("node", "gbt", "adwin", "warning", partition=0)
    assert shown() == (2, 2)
    metrics.revoked("node", 1)
    assert shown() == (1, 2)
    metrics.drift("node", "gbt", "adwin", "stable", partition=0)
    assert shown() == (0, 3)


def test_both_units_of_the_scoring_time(metrics):
    metrics.scoring("link", "lstm", 0.004)
    assert value(metrics, "dwcp_pba_prediction_latency_seconds_sum", stream="link", model="lstm") == 0.004
    assert value(metrics, "dwcp_pba_prediction_latency_ms_sum", stream="link", model="lstm") == 4.0
    assert value(metrics, "dwcp_pba_prediction_latency_ms_bucket", stream="link", model="lstm", le="2.0") == 0
    assert value(metrics, "dwcp_pba_prediction_latency_ms_bucket", stream="link", model="lstm", le="5.0") == 1


def test_every_method_makes_series_that_prometheus_can_read(metrics):
    metrics.samples("node", [1, 1, 1, 1, 1])
    metrics.payloads("node", unknown_fields=2, key_mismatches=3)
    metrics.dead_letters("node", {"undecodable": 2})
    metrics.outputs("node", {"anomalies": 2})
    metrics.error("node", "state", "receiving")
    metrics.timings("node", {"decode": 0.1})
    metrics.scoring("node", "gbt", 0.1)
    metrics.lag("node", 0, 1, 2)
    metrics.state("node", 0, entities=1, grid_fill=1.0, watermark=1.0)
    metrics.firing("node", 0, "gbt", 1)
    metrics.hole("node", refetched=True, offsets=5)
    metrics.hole("node", refetched=False, offsets=5)
    metrics.checkpoint("node", 0, seconds=1.0, entities=2, size=3, now=4.0)
    metrics.checkpoint_failed("node")
    metrics.recovery("node", seconds=1.0, entities=2)
    metrics.assigned("node", 4)
    metrics.model("node", "gbt", 3)
    metrics.swapped("node", "gbt", 4)
    metrics.refused("node", "gbt")
    metrics.command("node", "applied")
    metrics.realised(PART)
    metrics.alert("node", "gbt", "firing", "warning", "x", 1.5)
    metrics.detection_latency("node", -0.1)
    metrics.drift("node", "gbt", "adwin", "drifted")
    metrics.ready("node", {"assigned": True, "models": False})
    metrics.prediction("node", "gbt", 5, 0.75)
    target = ("link", "lstm", "6", "jitter_ms")
    metrics.set("dwcp_realised_error", 1.0, *target, "mae")
    metrics.set("dwcp_interval_coverage", 0.8, *target)
    metrics.count("dwcp_forecasts_missed_total", 2, *target)
    metrics.set("dwcp_pba_prediction_accuracy", 0.9, "link", "lstm")
    metrics.set("dwcp_pba_sample_count", 12, "link", "lstm")
    metrics.retrain("link", "lstm")
    metrics.decision("link", "lstm", "promoted")
    metrics.training("link", "lstm", 12.0)
    metrics.leads(leads=True)
    metrics.unreadable("feedback", 2)
    for name in ("dwcp_sink_up", "dwcp_sink_firing", "dwcp_sink_lag"):
        metrics.set(name, 1, "chat")
    for name in ("dwcp_sink_sent_total", "dwcp_sink_retries_total"):
        metrics.count(name, 1, "chat")
    metrics.count("dwcp_sink_dropped_total", 1, "chat", "refused")
    metrics.count("dwcp_sink_skipped_total", 1, "chat", "stale")
    metrics.observe("dwcp_sink_delay_seconds", 0.2, "chat")
    metrics.count("dwcp_scrapes_total", 1, "node", "read")
    metrics.observe("dwcp_scrape_duration_seconds", 0.1, "node")
    metrics.count("dwcp_collected_total", 1, "node", "sent")
    metrics.set("dwcp_collect_waiting", 0, "node")
    families = {
        family.name
        for family in text_string_to_metric_families(generate_latest(metrics.registry).decode())
        if family.samples and not family.name.endswith("_created")
    }
    assert families == {spec.name.removesuffix("_total") for spec in CATALOGUE}
    assert value(metrics, "dwcp_drift_state", stream="node", model="gbt", detector="adwin") == 2
    assert value(metrics, "dwcp_pba_model_version", stream="node", model="gbt") == 4
    assert value(metrics, "dwcp_model_swaps_total", stream="node", model="gbt") == 1
    assert value(metrics, "dwcp_model_refusals_total", stream="node", model="gbt") == 1
    assert value(metrics, "dwcp_hole_records_total", stream="node") == 5
    assert value(metrics, "dwcp_decisions_total", stream="link", model="lstm", decision="promoted") == 1
    assert value(metrics, "dwcp_trainer_leads") == 1
    assert value(metrics, "dwcp_trainer_unreadable_total", topic="feedback") == 2
    assert value(metrics, "dwcp_ready", stream="node", condition="models") == 0
    assert value(metrics, "dwcp_anomaly_detection_latency_seconds_sum", stream="node") == 0


def test_realised_errors_are_sums_that_give_an_error_over_any_time(metrics):
    labels = {
        "stream": "link", "model": "lstm", "model_version": "2", "arm": "champion", "horizon": "6", "target": "rtt",
    }  # fmt: skip
    metrics.realised(PART)
    metrics.realised(PART)
    assert value(metrics, "dwcp_forecasts_realised_total", **labels) == 20
    assert value(metrics, "dwcp_forecast_absolute_error_total", **labels) == 10.0
    assert value(metrics, "dwcp_persistence_error_total", **labels) == 20.0
    assert value(metrics, "dwcp_forecast_covered_total", **labels) == 16
    assert value(metrics, "dwcp_forecast_error_sum", **labels) == -4.0

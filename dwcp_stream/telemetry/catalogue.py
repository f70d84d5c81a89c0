"""The one list of metrics: the metrics, docs/metrics.md and the checks of dashboards come from it.

Names that the reference system used are kept. Where its metric had no label, so that two models overwrote
each other, `stream` and `model` were added. Labels are bounded: never an entity, key or offset.
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple

OUTCOMES = ("scored", "warming_up", "duplicate", "late", "invalid")
"""What a sample can end as, in the order of `windows.Outcome`."""

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
MILLISECONDS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)  # the reference's buckets

LABELS = {
    "action": "firing, escalated or resolved",
    "arm": "champion, challenger or shadow",
    "condition": "assigned, recovered, models, partitions, rights or control",
    "detector": "adwin, page_hinkley or psi",
    "error_type": "the bounded word of an error, as in logs and dead-letter headers",
    "horizon": "steps ahead, as in the stream's definition",
    "metric_name": "field that contributed most to an alert; the alert's name when there is no explanation",
    "model": "name of a model",
    "model_version": "version of the model that made the forecast",
    "model_type": "name of a model (the reference's label for it)",
    "outcome": "of a sample: scored, warming_up, duplicate, late or invalid; of a command: applied, failed, ignored,"
    " past, or why it was refused: unsigned, unknown_key, bad_signature, malformed, foreign, untimed, expired,"
    " replayed; of a page: read, unreachable, refused or malformed; of a collected sample: sent, dropped, unchanged or"
    " incomplete",
    "partition": "number of a partition of the stream's topic",
    "severity": "warning, critical or emergency",
    "stage": "of an error: receiving, processing, sending; of a chunk: the step that took the time",
    "stat": "mae, rmse, bias, mape or skill",
    "stream": "name of a stream",
    "target": "predicted field",
    "reason": "refused, gave_up or unreadable",
    "sink": "name of a webhook, or alertmanager-HOST-PORT",
    "decision": "trained, rejected, failed, shadowed, challenged, promoted, dropped or rolled_back",
    "topic": "name of one of the daemon's topics, without its prefix",
    "verdict": "repeat, stale (old and over), untold (the end of what was not told) or below (not severe enough)",
    "version": "version of the program",
}


class Spec(NamedTuple):
    """One metric.

    Parameters
    ----------
    name
        Full name, with its unit and `_total` where they belong.
    kind
        Prometheus type.
    unit
        Unit of its value: a name such as seconds, or what is counted.
    labels
        Label names, each a key of `LABELS`.
    help
        One sentence.
    buckets
        Upper bounds of a histogram's buckets.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    unit: str
    labels: tuple[str, ...]
    help: str
    buckets: tuple[float, ...] = ()


S, SM, SP = ("stream",), ("stream", "model"), ("stream", "partition")
SMHT = ("stream", "model", "horizon", "target")
REALISED = ("stream", "model", "model_version", "arm", "horizon", "target")

CATALOGUE: tuple[Spec, ...] = (
    # Accounting: every sample ends in exactly one outcome.
    Spec("dwcp_samples_total", "counter", "samples", (*S, "outcome"), "Samples by what became of them."),
    Spec(
        "dwcp_samples_replayed_total",
        "counter",
        "samples",
        S,
        "Samples read again after a crash; they changed nothing.",
    ),
    Spec("dwcp_metrics_processed_total", "counter", "samples", S, "Samples processed, all outcomes together."),
    Spec(
        "dwcp_dead_letters_total",
        "counter",
        "records",
        (*S, "error_type"),
        "Records sent to the dead-letter topic.",
    ),
    Spec(
        "dwcp_unknown_fields_total",
        "counter",
        "fields",
        S,
        "Fields in payloads that the stream does not define.",
    ),
    Spec(
        "dwcp_key_mismatches_total",
        "counter",
        "records",
        S,
        "Records whose key is missing or is not their entity.",
    ),
    Spec("dwcp_outputs_total", "counter", "records", (*S, "topic"), "Records published."),
    Spec("dwcp_errors_total", "counter", "errors", (*S, "error_type", "stage"), "Errors by type and stage."),
    # The way through the daemon.
    Spec(
        "dwcp_chunk_processing_seconds",
        "histogram",
        "seconds",
        (*S, "stage"),
        "Time one chunk took in one step.",
        SECONDS,
    ),
    Spec(
        "dwcp_consumer_lag",
        "gauge",
        "records",
        SP,
        "Records between the position and the end of the partition.",
    ),
    Spec("dwcp_position", "gauge", "offset", SP, "Offset of the next record to be read."),
    Spec("dwcp_watermark_timestamp_seconds", "gauge", "seconds", SP, "Event time the partition has reached."),
    Spec("dwcp_entities", "gauge", "entities", SP, "Entities with state in the partition."),
    Spec("dwcp_grid_fill_ratio", "gauge", "ratio", SP, "Share of the windows' rows that hold a sample."),
    Spec(
        "dwcp_chunk_refetches_total",
        "counter",
        "chunks",
        S,
        "Chunks fetched again because offsets were missing.",
    ),
    Spec(
        "dwcp_hole_records_total",
        "counter",
        "offsets",
        S,
        "Offsets that were still missing and were accepted as a hole.",
    ),
    # State.
    Spec(
        "dwcp_checkpoint_duration_seconds",
        "histogram",
        "seconds",
        S,
        "Time from copy to committed offsets.",
        SECONDS,
    ),
    Spec("dwcp_checkpoint_entities_total", "counter", "entities", S, "Entity snapshots written by checkpoints."),
    Spec("dwcp_checkpoint_bytes_total", "counter", "bytes", S, "Bytes of the snapshots written by checkpoints."),
    Spec("dwcp_checkpoint_failures_total", "counter", "checkpoints", S, "Checkpoints that committed nothing."),
    Spec("dwcp_checkpoint_timestamp_seconds", "gauge", "seconds", SP, "When the last checkpoint was committed."),
    Spec(
        "dwcp_recovery_duration_seconds",
        "histogram",
        "seconds",
        S,
        "Time a recovery of assigned state took.",
        SECONDS,
    ),
    Spec("dwcp_recovery_entities_total", "counter", "entities", S, "Entities restored from the changelog."),
    Spec("dwcp_rebalances_total", "counter", "rebalances", S, "Changes of the assignment of partitions."),
    Spec("dwcp_partitions_assigned", "gauge", "partitions", S, "Partitions this worker has."),
    # Alerts.
    Spec(
        "dwcp_anomalies_detected_total",
        "counter",
        "alerts",
        (*S, "metric_name", "severity", "model_type"),
        "Alerts that began or rose in severity.",
    ),
    Spec(
        "dwcp_anomaly_confidence",
        "gauge",
        "score",
        (*S, "metric_name", "model_type"),
        "Score of the last such alert.",
    ),
    Spec(
        "dwcp_anomaly_detection_latency_seconds",
        "histogram",
        "seconds",
        S,
        "From the record timestamp of the telling sample to the alert's hand-over to the producer.",
        SECONDS,
    ),
    Spec("dwcp_alert_transitions_total", "counter", "transitions", (*SM, "action"), "Alerts by transition."),
    Spec("dwcp_alerts_firing", "gauge", "alerts", (*SP, "model"), "Alerts that are firing now."),
    # Models and forecasts.
    Spec("dwcp_pba_predictions_total", "counter", "predictions", SM, "Predictions published."),
    Spec(
        "dwcp_pba_prediction_latency_ms",
        "histogram",
        "milliseconds",
        SM,
        "Time to score one batch.",
        MILLISECONDS,
    ),
    Spec("dwcp_pba_prediction_latency_seconds", "histogram", "seconds", SM, "Time to score one batch.", SECONDS),
    Spec(
        "dwcp_pba_prediction_accuracy",
        "gauge",
        "ratio",
        SM,
        "One minus the MAPE of the last bucket, at least 0.",
    ),
    Spec("dwcp_pba_confidence", "gauge", "ratio", SM, "Confidence of the last prediction seen, 0 to 1."),
    Spec("dwcp_pba_model_version", "gauge", "version", SM, "Version of the model that scores."),
    Spec("dwcp_model_swaps_total", "counter", "swaps", SM, "Partitions that moved to another version of a model."),
    Spec(
        "dwcp_model_refusals_total",
        "counter",
        "versions",
        SM,
        "Versions that were to be loaded and were refused; the one before serves.",
    ),
    Spec("dwcp_pba_retrain_total", "counter", "requests", SM, "Retrainings asked for."),
    Spec("dwcp_pba_sample_count", "gauge", "samples", SM, "Realised forecasts in the last accuracy bucket."),
    Spec(
        "dwcp_realised_error",
        "gauge",
        "target's unit; ratio for mape and skill",
        (*SMHT, "stat"),
        "Forecast errors of the last bucket.",
    ),
    Spec(
        "dwcp_interval_coverage",
        "gauge",
        "ratio",
        SMHT,
        "Share of actuals between q10 and q90 in the last bucket.",
    ),
    Spec("dwcp_forecasts_missed_total", "counter", "forecasts", SMHT, "Forecasts whose actual never came."),
    # Sums and counts, so that errors over any time are ratios of increases: docs/operations.md has them.
    Spec("dwcp_forecasts_realised_total", "counter", "forecasts", REALISED, "Forecasts whose actual came."),
    Spec("dwcp_forecast_covered_total", "counter", "forecasts", REALISED, "Actuals in the corrected interval."),
    Spec("dwcp_forecast_covered_raw_total", "counter", "forecasts", REALISED, "Actuals in the model's own interval."),
    Spec("dwcp_forecast_absolute_error_total", "counter", "target's unit", REALISED, "Absolute errors, summed."),
    Spec("dwcp_forecast_squared_error_total", "counter", "square of the unit", REALISED, "Squared errors, summed."),
    Spec(
        "dwcp_forecast_error_sum", "gauge", "target's unit", REALISED, "Forecast minus actual, summed since the start."
    ),
    Spec(
        "dwcp_forecast_pinball_total", "counter", "target's unit", REALISED, "Pinball losses of q10, q50, q90, summed."
    ),
    Spec("dwcp_forecast_relative_error_total", "counter", "ratio", REALISED, "Absolute error over actual, summed."),
    Spec("dwcp_forecasts_relative_total", "counter", "forecasts", REALISED, "Forecasts whose actual was not 0."),
    Spec(
        "dwcp_forecast_paired_error_total",
        "counter",
        "target's unit",
        REALISED,
        "Absolute errors, summed where the value at the time of issue was known.",
    ),
    Spec(
        "dwcp_persistence_error_total",
        "counter",
        "target's unit",
        REALISED,
        "What repeating that value would have had there.",
    ),
    # Commands.
    Spec(
        "dwcp_control_commands_total",
        "counter",
        "records",
        (*S, "outcome"),
        "Records of the control topic by what became of them.",
    ),
    # Drift.
    Spec("dwcp_drift_state", "gauge", "state", (*SM, "detector"), "0 stable, 1 warning, 2 drifted."),
    Spec(
        "dwcp_drift_events_total",
        "counter",
        "events",
        (*SM, "detector"),
        "Changes of a drift detector's state.",
    ),
    # The process.
    Spec("dwcp_ready", "gauge", "boolean", (*S, "condition"), "1 where a condition of readiness is met."),
    Spec("dwcp_build_info", "gauge", "boolean", ("version",), "Always 1; the program's version is a label."),
    # The collector.
    Spec("dwcp_scrapes_total", "counter", "pages", (*S, "outcome"), "Pages asked of exporters, by what became of it."),
    Spec("dwcp_scrape_duration_seconds", "histogram", "seconds", S, "Time to get and parse a page.", SECONDS),
    Spec(
        "dwcp_collected_total",
        "counter",
        "samples",
        (*S, "outcome"),
        "Samples made of pages, by what became of them.",
    ),
    Spec("dwcp_collect_waiting", "gauge", "samples", S, "Samples that wait for a broker to take them."),
    # The trainer.
    Spec("dwcp_decisions_total", "counter", "decisions", (*SM, "decision"), "What the trainer decided."),
    Spec(
        "dwcp_training_duration_seconds",
        "histogram",
        "seconds",
        SM,
        "Time from the beginning of a training to its outcome.",
        (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0),
    ),
    Spec("dwcp_trainer_leads", "gauge", "1", (), "1 while this trainer decides, 0 while it stands by."),
    Spec(
        "dwcp_trainer_unreadable_total",
        "counter",
        "records",
        ("topic",),
        "Records of the daemon's topics that are not what they should be.",
    ),
    # Alert sinks.
    Spec("dwcp_sink_up", "gauge", "boolean", ("sink",), "1 if the sink took the last request, 0 if it did not."),
    Spec("dwcp_sink_sent_total", "counter", "alerts", ("sink",), "Alerts that a sink took, also those sent again."),
    Spec("dwcp_sink_retries_total", "counter", "requests", ("sink",), "Requests that failed and are sent again."),
    Spec("dwcp_sink_dropped_total", "counter", "alerts", ("sink", "reason"), "Alerts that a sink will never get."),
    Spec(
        "dwcp_sink_skipped_total",
        "counter",
        "transitions",
        ("sink", "verdict"),
        "Transitions that were not to be told.",
    ),
    Spec("dwcp_sink_firing", "gauge", "alerts", ("sink",), "Alerts that the sink takes for firing."),
    Spec("dwcp_sink_lag", "gauge", "records", ("sink",), "Records of the alerts' topic that are not delivered yet."),
    Spec(
        "dwcp_sink_delay_seconds",
        "histogram",
        "seconds",
        ("sink",),
        "From a transition's record timestamp until the sink had it.",
        (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 3600.0),
    ),
)


def markdown() -> Iterator[str]:
    """Yield the lines of docs/metrics.md."""
    yield "# Metrics"
    yield ""
    yield "Made by `make docs`; a test checks that it is current."
    yield "Served at `/metrics` of each worker, the trainer, the alert sink and `collect` as text for Prometheus. A"
    yield "histogram has the series `_bucket`, `_sum` and `_count`. No label ever holds an entity."
    yield ""
    yield "| metric | type | unit | labels | meaning |"
    yield "|---|---|---|---|---|"
    for spec in CATALOGUE:
        labels = ", ".join(f"`{label}`" for label in spec.labels)
        yield f"| `{spec.name}` | {spec.kind} | {spec.unit} | {labels} | {spec.help} |"
    yield ""
    yield "## Labels"
    yield ""
    yield "| label | values |"
    yield "|---|---|"
    for label, values in LABELS.items():
        yield f"| `{label}` | {values} |"

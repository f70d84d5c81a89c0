"""The metrics of one process, made from the catalogue in a registry that the caller passes in."""

from collections.abc import Mapping, Sequence
from importlib.metadata import version

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from dwcp_stream.events import Accuracy
from dwcp_stream.telemetry.catalogue import CATALOGUE, OUTCOMES, Spec

REALISED_SUMS = {
    "dwcp_forecasts_realised_total": "n",
    "dwcp_forecast_covered_total": "covered",
    "dwcp_forecast_covered_raw_total": "covered_raw",
    "dwcp_forecast_absolute_error_total": "abs_error",
    "dwcp_forecast_squared_error_total": "sq_error",
    "dwcp_forecast_pinball_total": "pinball",
    "dwcp_forecast_relative_error_total": "ape",
    "dwcp_forecasts_relative_total": "ape_n",
    "dwcp_forecast_paired_error_total": "paired_abs_error",
    "dwcp_persistence_error_total": "persistence_abs_error",
}
"""Counters of realised errors, and which sum of `Accuracy` each adds up."""
DRIFT_STATES = {"stable": 0, "warning": 1, "drifted": 2}


def create(spec: Spec, registry: CollectorRegistry) -> Counter | Gauge | Histogram:
    """Make one metric of the catalogue in a registry."""
    if spec.kind == "histogram":
        return Histogram(spec.name, spec.help, spec.labels, registry=registry, buckets=spec.buckets)
    kind = Counter if spec.kind == "counter" else Gauge
    return kind(spec.name, spec.help, spec.labels, registry=registry)


class Metrics:
    """What the shell calls after a chunk, a checkpoint, a rebalance. No method takes an entity.

    Parameters
    ----------
    registry
        Where the metrics live; a new one per process (and per test), never the library's global one.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self._counters: dict[str, Counter] = {}
        self._gauges: dict[str, Gauge] = {}
        self._histograms: dict[str, Histogram] = {}
        self._drift: dict[tuple[str, str, str], dict[int, str]] = {}  # states by partition
        for spec in CATALOGUE:
            metric = create(spec, registry)
            if isinstance(metric, Counter):
                self._counters[spec.name] = metric
            elif isinstance(metric, Gauge):
                self._gauges[spec.name] = metric
            else:
                self._histograms[spec.name] = metric
        self.set("dwcp_build_info", 1, version("dwcp-stream"))

    def count(self, name: str, amount: float, *labels: str) -> None:
        """Add to a counter of the catalogue; zero creates the series, so that a rate starts at 0."""
        counter = self._counters[name]
        (counter.labels(*labels) if labels else counter).inc(amount)

    def set(self, name: str, value: float, *labels: str) -> None:
        """Set a gauge of the catalogue."""
        gauge = self._gauges[name]
        (gauge.labels(*labels) if labels else gauge).set(value)

    def observe(self, name: str, value: float, *labels: str) -> None:
        """Add an observation to a histogram of the catalogue."""
        histogram = self._histograms[name]
        (histogram.labels(*labels) if labels else histogram).observe(value)

    def samples(self, stream: str, counts: Sequence[int], replayed: int = 0) -> None:
        """Count a chunk's samples: `counts` by outcome, in the order of `OUTCOMES`."""
        for outcome, number in zip(OUTCOMES, counts, strict=True):
            self.count("dwcp_samples_total", int(number), stream, outcome)
        self.count("dwcp_metrics_processed_total", int(sum(counts)), stream)
        self.count("dwcp_samples_replayed_total", replayed, stream)

    def payloads(self, stream: str, *, unknown_fields: int, key_mismatches: int) -> None:
        """Count what was odd about a chunk's payloads."""
        self.count("dwcp_unknown_fields_total", unknown_fields, stream)
        self.count("dwcp_key_mismatches_total", key_mismatches, stream)

    def dead_letters(self, stream: str, error_types: Mapping[str, int]) -> None:
        """Count dead letters by error type."""
        for error_type, number in error_types.items():
            self.count("dwcp_dead_letters_total", number, stream, error_type)

    def outputs(self, stream: str, topics: Mapping[str, int]) -> None:
        """Count records handed to the producer, by topic without its prefix."""
        for topic, number in topics.items():
            self.count("dwcp_outputs_total", number, stream, topic)

    def error(self, stream: str, error_type: str, stage: str) -> None:
        """Count an error by its bounded words."""
        self.count("dwcp_errors_total", 1, stream, error_type, stage)

    def timings(self, stream: str, seconds: Mapping[str, float]) -> None:
        """Record how long a chunk took in each step."""
        for stage, value in seconds.items():
            self.observe("dwcp_chunk_processing_seconds", value, stream, stage)

    def scoring(self, stream: str, model: str, seconds: float) -> None:
        """Record how long one batch took in a model, in both units (the reference's is milliseconds)."""
        self.observe("dwcp_pba_prediction_latency_seconds", seconds, stream, model)
        self.observe("dwcp_pba_prediction_latency_ms", seconds * 1000, stream, model)

    def lag(self, stream: str, partition: int, position: int, high_watermark: int) -> None:
        """Record where a partition is; both are offsets of the next record."""
        self.set("dwcp_position", position, stream, str(partition))
        self.set("dwcp_consumer_lag", max(0, high_watermark - position), stream, str(partition))

    def state(self, stream: str, partition: int, *, entities: int, grid_fill: float, watermark: float) -> None:
        """Record the size of a partition's state, its fill (0 to 1) and the event time it has reached."""
        self.set("dwcp_entities", entities, stream, str(partition))
        self.set("dwcp_grid_fill_ratio", grid_fill, stream, str(partition))
        self.set("dwcp_watermark_timestamp_seconds", watermark, stream, str(partition))

    def firing(self, stream: str, partition: int, model: str, number: int) -> None:
        """Record how many alerts of a model are firing in a partition."""
        self.set("dwcp_alerts_firing", number, stream, str(partition), model)

    def hole(self, stream: str, *, refetched: bool, offsets: int) -> None:
        """Count a hole: fetched again the first time, accepted with its offsets the second."""
        if refetched:
            self.count("dwcp_chunk_refetches_total", 1, stream)
        else:
            self.count("dwcp_hole_records_total", offsets, stream)

    def checkpoint(self, stream: str, partition: int, *, seconds: float, entities: int, size: int, now: float) -> None:
        """Record a committed checkpoint: duration, entities and bytes written, and when (epoch seconds)."""
        self.observe("dwcp_checkpoint_duration_seconds", seconds, stream)
        self.count("dwcp_checkpoint_entities_total", entities, stream)
        self.count("dwcp_checkpoint_bytes_total", size, stream)
        self.set("dwcp_checkpoint_timestamp_seconds", now, stream, str(partition))

    def checkpoint_failed(self, stream: str) -> None:
        """Count a checkpoint that committed nothing."""
        self.count("dwcp_checkpoint_failures_total", 1, stream)

    def recovery(self, stream: str, *, seconds: float, entities: int) -> None:
        """Record a finished recovery."""
        self.observe("dwcp_recovery_duration_seconds", seconds, stream)
        self.count("dwcp_recovery_entities_total", entities, stream)

    def assigned(self, stream: str, partitions: int) -> None:
        """Record a rebalance and the number of partitions held after it."""
        self.count("dwcp_rebalances_total", 1, stream)
        self.set("dwcp_partitions_assigned", partitions, stream)

    def revoked(self, stream: str, partition: int) -> None:
        """Drop the series of a partition that another worker reports from now on."""
        wanted = {"stream": stream, "partition": str(partition)}
        for spec in CATALOGUE:
            if "partition" in spec.labels:
                self._gauges[spec.name].remove_by_labels(wanted)
        for (of, model, detector), states in self._drift.items():
            if of == stream and states.pop(partition, "") != "":
                self._show_drift(stream, model, detector)

    def model(self, stream: str, model: str, number: int) -> None:
        """Record which version of a model scores."""
        self.set("dwcp_pba_model_version", number, stream, model)
        for counter in ("dwcp_model_swaps_total", "dwcp_model_refusals_total"):
            self.count(counter, 0, stream, model)

    def swapped(self, stream: str, model: str, number: int) -> None:
        """Count a partition that moved to another version of a model."""
        self.count("dwcp_model_swaps_total", 1, stream, model)
        self.model(stream, model, number)

    def refused(self, stream: str, model: str) -> None:
        """Count a version that could not be used."""
        self.count("dwcp_model_refusals_total", 1, stream, model)

    def realised(self, part: Accuracy) -> None:
        """Add a part of a bucket of realised errors to the sums."""
        labels = (part.stream, part.model, str(part.version), part.arm, str(part.horizon), part.target)
        for name, source in REALISED_SUMS.items():
            self.count(name, getattr(part, source), *labels)
        self._gauges["dwcp_forecast_error_sum"].labels(*labels).inc(part.error)

    def command(self, stream: str, outcome: str, number: int = 1) -> None:
        """Count a record of the control topic; 0 creates the series."""
        self.count("dwcp_control_commands_total", number, stream, outcome)

    def alert(  # its words in the order in which an alert gets them
        self, stream: str, model: str, action: str, severity: str, field: str, score: float
    ) -> None:
        """Count a transition; `field` is the top contributing field, or the alert's name."""
        self.count("dwcp_alert_transitions_total", 1, stream, model, action)
        if action != "resolved":
            self.count("dwcp_anomalies_detected_total", 1, stream, field, severity, model)
            self.set("dwcp_anomaly_confidence", score, stream, field, model)

    def detection_latency(self, stream: str, seconds: float) -> None:
        """Record the time from the telling record's timestamp to the alert's hand-over."""
        self.observe("dwcp_anomaly_detection_latency_seconds", max(0.0, seconds), stream)

    def drift(self, stream: str, model: str, detector: str, state: str, partition: int = 0) -> None:
        """Record a detector's state: stable, warning or drifted.

        The gauge shows the worst of the partitions; an event is counted when the state of one changes.
        """
        states = self._drift.setdefault((stream, model, detector), {})
        changed = state != states.get(partition, "stable")
        states[partition] = state
        self._show_drift(stream, model, detector)
        self.count("dwcp_drift_events_total", int(changed), stream, model, detector)

    def _show_drift(self, stream: str, model: str, detector: str) -> None:
        states = self._drift[stream, model, detector].values()
        worst = max((DRIFT_STATES[state] for state in states), default=0)
        self.set("dwcp_drift_state", worst, stream, model, detector)

    def prediction(self, stream: str, model: str, number: int, confidence: float | None = None) -> None:
        """Count predictions and record the confidence of the last one, if it was looked at."""
        self.count("dwcp_pba_predictions_total", number, stream, model)
        if confidence is not None:
            self.set("dwcp_pba_confidence", confidence, stream, model)

    def retrain(self, stream: str, model: str) -> None:
        """Count a request for training."""
        self.count("dwcp_pba_retrain_total", 1, stream, model)

    def ready(self, stream: str, conditions: Mapping[str, bool]) -> None:
        """Record the conditions of readiness."""
        for name, met in conditions.items():
            self.set("dwcp_ready", float(met), stream, name)

    def decision(self, stream: str, model: str, word: str) -> None:
        """Count a decision of the trainer."""
        self.count("dwcp_decisions_total", 1, stream, model, word)

    def training(self, stream: str, model: str, seconds: float) -> None:
        """Record how long a training took."""
        self.observe("dwcp_training_duration_seconds", seconds, stream, model)

    def leads(self, *, leads: bool) -> None:
        """Record whether this trainer decides."""
        self.set("dwcp_trainer_leads", float(leads))

    def unreadable(self, topic: str, number: int) -> None:
        """Count records of the daemon's topics that are not what they should be."""
        self.count("dwcp_trainer_unreadable_total", number, topic)

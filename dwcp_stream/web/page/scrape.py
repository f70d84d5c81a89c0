"""What the page shows of a stream's workers: accounting, lag, latency and readiness, from their metrics."""

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

OUTCOMES = ("scored", "warming_up", "duplicate", "late", "invalid")
LATENCY = "dwcp_anomaly_detection_latency_seconds"
SUMMED = {
    "dwcp_consumer_lag": "lag",
    "dwcp_entities": "entities",
    "dwcp_alerts_firing": "firing",
    "dwcp_dead_letters_total": "dead_letters",
    "dwcp_errors_total": "errors",
    "dwcp_samples_replayed_total": "replayed",
    "dwcp_partitions_assigned": "partitions",
    "dwcp_pba_predictions_total": "predictions",
    "dwcp_checkpoint_failures_total": "checkpoint_failures",
}
OLDEST = {"dwcp_watermark_timestamp_seconds": "watermark", "dwcp_checkpoint_timestamp_seconds": "checkpoint"}


def stream_numbers(texts: Sequence[str]) -> dict[str, Any]:
    """Put the metrics of all workers of a stream together.

    Parameters
    ----------
    texts
        Answers to GET /metrics, in the text format of Prometheus.

    Returns
    -------
    dict
        ``outcomes`` (samples by what became of them), sums by the names of `SUMMED`, ``watermark`` and ``checkpoint``
        (the oldest of the partitions', epoch seconds, None if there is none), ``not_ready`` (conditions that are not
        met), ``latency`` (p50 and p99 of detection latency since the workers started, seconds, None without alerts).

    Raises
    ------
    ValueError
        If a text is not in that format.
    """
    outcomes: dict[str, int] = dict.fromkeys(OUTCOMES, 0)
    sums: dict[str, float] = dict.fromkeys(SUMMED.values(), 0.0)
    oldest: dict[str, float | None] = dict.fromkeys(OLDEST.values(), None)
    buckets: dict[float, float] = defaultdict(float)
    not_ready: set[str] = set()
    for text in texts:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                name, value = sample.name, sample.value
                if name == "dwcp_samples_total":
                    outcomes[sample.labels["outcome"]] += int(value)
                elif name in SUMMED and math.isfinite(value):
                    sums[SUMMED[name]] += value
                elif name in OLDEST and value > 0:
                    before = oldest[OLDEST[name]]
                    oldest[OLDEST[name]] = value if before is None else min(before, value)
                elif name == "dwcp_ready" and not value:
                    not_ready.add(sample.labels["condition"])
                elif name == f"{LATENCY}_bucket":
                    buckets[float(sample.labels["le"])] += value
    latency = {"p50": quantile(buckets, 0.5), "p99": quantile(buckets, 0.99)}
    counts = {name: int(value) for name, value in sums.items()}
    return {"outcomes": outcomes, **counts, **oldest, "not_ready": sorted(not_ready), "latency": latency}


def quantile(buckets: dict[float, float], q: float) -> float | None:
    """Return a quantile of a histogram's cumulative counts by upper bound, linear within its bucket; None if empty."""
    bounds = sorted(buckets)
    total = buckets[bounds[-1]] if bounds else 0.0
    if not total:
        return None
    lower = below = 0.0
    for bound in bounds:
        if buckets[bound] >= q * total:
            if math.isinf(bound):
                return lower
            inside = buckets[bound] - below
            return lower + (bound - lower) * ((q * total - below) / inside if inside else 1.0)
        lower, below = bound, buckets[bound]
    return lower

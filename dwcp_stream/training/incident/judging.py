"""Figures of an incident model and of its baselines, all from rows that the judged scores had not seen."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score, roc_curve

from dwcp_stream.training.incident.data import IncidentData

Bools = NDArray[np.bool_]
Floats = NDArray[np.floating[Any]]

BINS: Final = 10


@dataclass(frozen=True)
class Judgement:
    """Scores of rows, the alarms that a threshold from other rows made of them, and numbers."""

    scores: Floats
    alarm: Bools
    numbers: dict[str, Any]


def judge(data: IncidentData, rows: NDArray[np.int64], scores: Floats, alarm: Bools) -> Judgement:
    """Judge scores [K] and alarms [K] of labelled rows (positions in `data`).

    Returns
    -------
    Judgement
        `roc_auc`, `average_precision`, `recall_at_5_percent_fpr` (threshold from these rows: it compares, and was
        not to be had beforehand), `recall`, `false_positive_rate` and `precision` of the alarms, `incidents`,
        `incidents_found`, `delay_median_seconds` from an incident's first row to the first alarm in it.
    """
    label = data.incident[rows]
    false_rate, recall, _ = roc_curve(label, scores)
    event = data.event[rows]
    found, first_alarm = np.unique(np.where(alarm, event, -1), return_index=True)
    first_alarm, found = first_alarm[found >= 0], found[found >= 0]
    events, first = np.unique(event, return_index=True)
    first, events = first[events >= 0], events[events >= 0]
    ts = data.grid.ts[data.ends[rows]]
    delay = ts[first_alarm] - ts[first[np.searchsorted(events, found)]]
    numbers = {
        "roc_auc": float(roc_auc_score(label, scores)),
        "average_precision": float(average_precision_score(label, scores)),
        "recall_at_5_percent_fpr": float(np.interp(0.05, false_rate, recall)),
        "recall": float(alarm[label].mean()),
        "false_positive_rate": float(alarm[~label].mean()),
        "precision": float(label[alarm].mean()) if alarm.any() else float("nan"),
        "incidents": len(events),
        "incidents_found": len(found),
        "delay_median_seconds": float(np.median(delay)) if len(delay) else float("nan"),
    }
    return Judgement(scores, alarm, numbers)


def reliability(label: Bools, probability: Floats) -> dict[str, Any]:
    """Compare mean probability and share of incidents in ten bins of as many rows each; also Brier's score."""
    order = np.argsort(probability, kind="stable")
    bins = [part for part in np.array_split(order, BINS) if len(part)]
    base = float(label.mean())
    return {
        "said": [float(probability[part].mean()) for part in bins],
        "came": [float(label[part].mean()) for part in bins],
        "brier": float(brier_score_loss(label, np.clip(probability, 0.0, 1.0))),
        "brier_of_the_base_rate": base * (1.0 - base),
    }


def plain_table(judged: Mapping[str, Judgement]) -> list[tuple[Any, ...]]:
    """Rows of the report's table, one per contender."""
    return [
        (
            name,
            each.numbers["roc_auc"],
            each.numbers["average_precision"],
            each.numbers["recall_at_5_percent_fpr"],
            each.numbers["recall"],
            f"{each.numbers['false_positive_rate']:.2%}",
            f"{each.numbers['incidents_found']} of {each.numbers['incidents']}",
            each.numbers["delay_median_seconds"],
        )
        for name, each in judged.items()
    ]

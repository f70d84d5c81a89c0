"""How good a model is: ranking, events and false alarms, and the errors of forecasts.

Events, not points, are what an operator counts: an event is found if any scored row inside it is over the
threshold; a false alarm is a run of rows over it in quiet time, runs closer than `merge` rows being one.
Point-adjusted scores are not offered: random noise does well on them.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

Floats = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]
QUANTILES = (0.1, 0.5, 0.9)


@dataclass(frozen=True)
class Detection:
    """What a detector did on labelled time.

    Attributes
    ----------
    events, found
        Labelled events with at least one scored row, and how many of them were found.
    false_alarms
        Runs of alarm in quiet time.
    quiet_hours
        Scored quiet time.
    false_alarms_per_hour
        Their ratio; NaN without quiet time.
    quiet_in_alarm
        Share of quiet rows in alarm.
    delay_median, delay_max
        Seconds from an event's beginning to its first row in alarm, over the found ones.
    roc_auc, average_precision
        Per row, quiet against labelled rows; NaN if there is only one of the two.
    """

    events: int
    found: int
    false_alarms: int
    quiet_hours: float
    false_alarms_per_hour: float
    quiet_in_alarm: float
    delay_median: float
    delay_max: float
    roc_auc: float
    average_precision: float

    def plain(self) -> dict[str, float | None]:
        """Plain numbers, rounded to six digits; None for NaN."""
        return plain(asdict(self))


def plain(numbers: dict[str, Any]) -> dict[str, Any]:
    """Round floats for a manifest, None for NaN, also in dictionaries and lists within."""
    result: dict[str, Any] = {}
    for key, value in numbers.items():
        if isinstance(value, dict):
            result[key] = plain(value)
        elif isinstance(value, list):
            result[key] = [plain({"": each})[""] for each in value]
        elif isinstance(value, float | np.floating):
            result[key] = float(f"{value:.6g}") if np.isfinite(value) else None
        else:
            result[key] = value
    return result


def detection(
    scores: Floats,
    ts: Floats,
    event: NDArray[np.int64],
    quiet: Mask,
    *,
    threshold: float = 1.0,
    starts: Floats | None = None,
    step: float = 1.0,
    merge: int = 10,
    group: NDArray[np.int64] | None = None,
) -> Detection:
    """Judge scores against labelled events.

    Parameters
    ----------
    scores
        [N], rows of one entity in time order (`group` tells entities apart); NaN counts as no alarm.
    ts
        [N] epoch seconds.
    event
        [N] number of the event that the row belongs to, -1 for none.
    quiet
        [N] rows that count as quiet time (leave recovery out of both).
    threshold
        Alarm is a score over it.
    starts
        Exact beginning of each event in epoch seconds; default its first row.
    step
        Seconds per row.
    merge
        Alarm runs in quiet time less than this many rows apart are one false alarm.
    group
        [N] entity of each row; runs do not reach over entities.
    """
    alarm = np.nan_to_num(scores, nan=-np.inf) > threshold
    numbers, first = np.unique(event, return_index=True)
    numbers, first = numbers[numbers >= 0], first[numbers >= 0]
    found, alarmed = np.unique(np.where(alarm, event, -1), return_index=True)
    found, alarmed = found[found >= 0], alarmed[found >= 0]
    begins = ts[first] if starts is None else starts[numbers]
    delays = ts[alarmed] - begins[np.searchsorted(numbers, found)]
    false = count_runs(np.flatnonzero(alarm & quiet), merge, group)
    hours = float(quiet.sum()) * step / 3600.0
    labelled = event >= 0
    both = (labelled | quiet) & np.isfinite(scores)
    ranked = bool(labelled[both].any() and not labelled[both].all())
    return Detection(
        events=len(numbers),
        found=len(delays),
        false_alarms=false,
        quiet_hours=hours,
        false_alarms_per_hour=false / hours if hours else float("nan"),
        quiet_in_alarm=float(alarm[quiet].mean()) if quiet.any() else float("nan"),
        delay_median=float(np.median(delays)) if len(delays) else float("nan"),
        delay_max=float(delays.max()) if len(delays) else float("nan"),
        roc_auc=float(roc_auc_score(labelled[both], scores[both])) if ranked else float("nan"),
        average_precision=(float(average_precision_score(labelled[both], scores[both])) if ranked else float("nan")),
    )


def count_runs(rows: NDArray[np.int64], merge: int, group: NDArray[np.int64] | None = None) -> int:
    """Count runs among sorted row numbers: a gap of `merge` rows or another entity begins a new one."""
    if not len(rows):
        return 0
    new = np.diff(rows) >= merge
    if group is not None:
        new |= np.diff(group[rows]) != 0
    return 1 + int(new.sum())


def number_events(label: Floats, group: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
    """Give each run of label 1 a number, -1 elsewhere (a NaN label is none)."""
    on = np.nan_to_num(label) > 0
    begins = on & ~np.concatenate([[False], on[:-1]])
    if group is not None:
        begins |= on & np.concatenate([[True], group[1:] != group[:-1]])
    return np.where(on, np.cumsum(begins) - 1, -1)


def best_threshold(
    scores: Floats,
    event: NDArray[np.int64],
    quiet: Mask,
    *,
    merge: int = 10,
    group: NDArray[np.int64] | None = None,
) -> float:
    """Choose the threshold with the most events found less false alarms, on validation data only.

    One false alarm weighs as much as one event missed, and one that goes on counts again every `merge` rows: else an
    alarm that never ends would be a single one. A range of thresholds usually ties: its geometric
    middle is taken, because it is farthest from both ends. Without events: 5 % over the largest quiet score.
    Arguments are those of `detection`.
    """
    known = scores[np.isfinite(scores) & ((event >= 0) | quiet)]
    if not (event >= 0).any():
        return float(1.05 * known.max())
    tried = np.unique(np.quantile(known, 1.0 - np.geomspace(0.5, 0.5 / len(known), 200)))
    tried = tried[tried > 0]
    gains = []
    for threshold in tried:
        alarm = np.nan_to_num(scores, nan=-np.inf) > threshold
        found = len(np.unique(event[alarm & (event >= 0)]))
        false = np.flatnonzero(alarm & quiet)
        gains.append(found - max(count_runs(false, merge, group), len(false) / merge))
    best = tried[np.asarray(gains) == max(gains)]
    return float(np.sqrt(best[0] * best[-1]))


def budget_threshold(
    scores: Floats,
    quiet: Mask,
    budget: int,
    *,
    merge: int = 10,
    group: NDArray[np.int64] | None = None,
) -> float:
    """Choose the lowest threshold with at most `budget` false alarms, on validation data only.

    Lower thresholds can merge alarms into fewer, so the search goes down from the largest quiet score and
    stops at the first that breaks the budget. Arguments are those of `detection`.
    """
    known = np.sort(scores[np.isfinite(scores) & quiet])[::-1]
    chosen = float(known[0])
    for count in np.unique(np.geomspace(1, len(known), 400).astype(np.int64)):
        threshold = float(known[count - 1])
        alarm = np.nan_to_num(scores, nan=-np.inf) > threshold
        if count_runs(np.flatnonzero(alarm & quiet), merge, group) > budget:
            break
        chosen = threshold
    return chosen


def pinball(actual: Floats, quantiles: Floats, levels: tuple[float, ...] = QUANTILES) -> float:
    """Mean quantile loss over levels and known actuals (Koenker and Bassett 1978).

    Parameters
    ----------
    actual
        [N], NaN = unknown.
    quantiles
        [N, Q] forecasts at `levels`.
    """
    error = actual[:, None] - quantiles
    level = np.asarray(levels)
    return float(np.nanmean(np.maximum(level * error, (level - 1.0) * error)))


def coverage(actual: Floats, low: Floats, high: Floats) -> float:
    """Share of known actuals inside [low, high]."""
    known = np.isfinite(actual)
    return float(((actual >= low) & (actual <= high))[known].mean())


def mae(actual: Floats, forecast: Floats) -> float:
    """Mean absolute error over rows where both are known."""
    return float(np.nanmean(np.abs(actual - forecast)))


def skill(error: float, reference: float) -> float:
    """Share of the reference's error that is saved: 1 - error / reference; NaN if the reference is 0."""
    return 1.0 - error / reference if reference else float("nan")

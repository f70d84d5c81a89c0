"""Figures for a model card, found in a manifest's metrics whatever trainer wrote them.

Two shapes are known. Numbers with `baselines` beside them, by name: a mapping of the same numbers, or one number, which
then is the mean absolute error. And numbers by detector, the model's own under `model`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

NAMES: Final = {
    "average_precision": ("average precision", 1),
    "roc_auc": ("ROC AUC", 1),
    "vus_pr": ("VUS-PR", 1),
    "recall_at_5_percent_fpr": ("recall at 5 % FPR", 1),
    "mae": ("mean absolute error", -1),
    "found": ("share of events found", 1),
    "incident_recall": ("share of incidents found", 1),
    "false_alarms_per_hour": ("false alarms an hour", -1),
    "false_alarms_per_node_day": ("false alarms a node and day", -1),
}
"""Figures that a card shows: what they are called, and whether more is better."""
TRADED: Final = frozenset({"found", "incident_recall", "false_alarms_per_hour", "false_alarms_per_node_day"})
"""Figures that a threshold trades for each other: by one alone nothing is good or bad."""
AIMED, ALLOWED = 0.8, 0.05
"""Share of actuals that an interval of q10 to q90 should hold, and how far off is worth a word."""


@dataclass(frozen=True)
class Figure:
    """One figure of the model beside the others'.

    Attributes
    ----------
    where, name
        On what it was measured, and what it is.
    own, rule, best
        The model's, that of the first other (trainers put the simple rule first), and the best of the others.
    best_name
        Whose that is.
    gain
        How much better the model is, as a share of the best other's distance from perfect; negative: worse. None for a
        figure that is traded for another.
    """

    where: str
    name: str
    own: float
    rule: float | None
    best: float
    best_name: str
    gain: float | None


@dataclass(frozen=True)
class Groups:
    """Shares found of parts of the data: the largest and the smallest, with the parts' names."""

    where: str
    best: tuple[str, float]
    worst: tuple[str, float]


def figures(metrics: Mapping[str, Any]) -> list[Figure]:
    """Find the figures that have something beside them, in the order of the metrics."""
    found = []
    for where, own, others in _compared(metrics):
        for key, (name, sign) in NAMES.items():
            values = {n: value for n, v in others.items() if (value := _number(v, key)) is not None}
            mine = _number(own, key)
            if mine is None or not values:
                continue
            best = max(values, key=lambda n: sign * values[n])
            its = values[best]
            room = 1.0 - its if sign > 0 else its
            gain = None if key in TRADED else sign * (mine - its) / max(room, 1e-12)
            found.append(Figure(where, name, mine, next(iter(values.values())), its, best, gain))
    return found


def _number(numbers: Mapping[str, Any], key: str) -> float | None:
    """Return a figure as a number; events found as a share of the events."""
    value = numbers.get(key)
    if not isinstance(value, int | float):
        return None
    if key != "found":
        return float(value)
    events = numbers.get("events")
    return value / events if isinstance(events, int) and events else None


def groups(metrics: Mapping[str, Any]) -> list[Groups]:
    """Find what is split up by something (`by_...`: name -> numbers with `recall`), if its parts differ."""
    found = []
    for path, node in _nodes(metrics):
        shares = {
            str(name): float(part["recall"])
            for name, part in node.items()
            if isinstance(part, Mapping) and isinstance(part.get("recall"), int | float)
        }
        if path and path[-1].startswith("by_") and len(shares) > 1 and "baselines" not in path:
            best, worst = max(shares, key=lambda n: shares[n]), min(shares, key=lambda n: shares[n])
            if shares[best] > shares[worst]:
                what = path[-1].removeprefix("by_").replace("_", " ")
                found.append(Groups(f"found, by {what}", (best, shares[best]), (worst, shares[worst])))
    return found


def misses(metrics: Mapping[str, Any]) -> list[str]:
    """Say where an interval holds too few or too many of the actuals."""
    said = []
    for path, node in _nodes(metrics):
        value = node.get("coverage")
        if isinstance(value, int | float) and abs(float(value) - AIMED) > ALLOWED:
            said.append(f"{_said(path)}: the interval covers {float(value):.0%}, not {AIMED:.0%}.")
    return said


def _compared(metrics: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any], dict[str, Mapping[str, Any]]]]:
    """Yield what was judged, the model's numbers, and the others' by name."""
    for path, node in _nodes(metrics):
        beside = node.get("baselines")
        if isinstance(beside, Mapping):
            yield _said(path), node, {n: v if isinstance(v, Mapping) else {"mae": v} for n, v in beside.items()}
        own = node.get("model")
        others = {n: v for n, v in node.items() if n != "model"}
        if isinstance(own, Mapping) and others and all(isinstance(v, Mapping) for v in others.values()):
            yield _said(path), own, others
        elif isinstance(own, int | float) and path and path[-1] in NAMES:
            key = path[-1]
            yield _said(path[:-1]), {key: own}, {n: {key: v} for n, v in others.items()}


def _nodes(node: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
    if isinstance(node, Mapping):
        yield path, node
        for key, inner in node.items():
            yield from _nodes(inner, (*path, str(key)))


def _said(path: tuple[str, ...]) -> str:
    # a part with a + is a target and its horizon; the target is a field's name
    parts = [part.replace("+", " +") if "+" in part else part.replace("_", " ") for part in path]
    return ", ".join(parts) or "test rows"

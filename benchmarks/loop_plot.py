"""Draws realised error over time, with the loop and without it, and the decisions."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

MARKS = {
    "trained": ("tab:gray", "candidate trained"), "challenged": ("tab:olive", "serves a share"),
    "promoted": ("tab:green", "promoted"), "rolled_back": ("tab:red", "rolled back"),
    "rejected": ("tab:pink", "candidate rejected"),
}  # fmt: skip


def draw(found: dict[str, Any], path: Path) -> None:
    """Write the picture."""
    figure = Figure(figsize=(10, 4.5), layout="constrained")
    axes = figure.subplots()
    for name, colour in (("without", "tab:orange"), ("with", "tab:blue")):
        points = found["curves"][name]
        times = [datetime.fromtimestamp(at, UTC) for at, _ in points]
        axes.plot(times, [value for _, value in points], color=colour, label=f"{name} the loop")
    for text in found["changes"]:
        at = datetime.strptime(text, "%Y-%m-%d %H:%M").replace(tzinfo=UTC)
        axes.axvline(at, color="black", linewidth=2, label="the stream changes")
    for text in found["promoted_by_somebody"]:
        at = datetime.strptime(text, "%Y-%m-%d %H:%M").replace(tzinfo=UTC)
        axes.axvline(at, color="black", linestyle=":", linewidth=2, label="somebody promotes a bad version")
    for decision in found["decisions"]:
        if decision["decision"] in MARKS:
            colour, label = MARKS[decision["decision"]]
            axes.axvline(datetime.fromisoformat(decision["time"]), color=colour, linestyle="--", label=label)
    axes.axhline(1.0, color="lightgray", zorder=0)
    handles, labels = axes.get_legend_handles_labels()
    first = dict(zip(labels[::-1], handles[::-1], strict=True))
    axes.legend(first.values(), first.keys(), fontsize=8, ncols=2)
    axes.set_ylabel("realised MAE / MAE of repeating the last value")
    axes.set_title(f"{found['series']}: {found['samples']} samples")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})

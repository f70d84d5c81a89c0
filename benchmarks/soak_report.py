"""What a soak's figures say: trends with their intervals, a verdict, a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt

WARM_UP = 0.25
"""Share of the run that is left out: arrays still double, caches still fill, the first entities still expire."""
BLOCKS = 12
T_95 = 2.228
"""Two-sided 95 % quantile of Student's t for the 10 degrees of freedom that a line through 12 means leaves."""
MEMORY_SHARE, STATE_SHARE = 0.03, 0.25


class Trend(NamedTuple):
    """Slope of a figure per hour with its 95 % interval, and its mean; all after the warm-up."""

    slope: float
    low: float
    high: float
    mean: float

    def grown(self, hours: float) -> float:
        """By which share of its mean the figure has certainly grown in so many hours; 0 if it may be flat."""
        return max(0.0, self.low) * hours / self.mean if self.mean else 0.0


def trend(seconds: Sequence[float], values: Sequence[float]) -> Trend:
    """Fit a line through the means of twelve blocks, which depend on each other far less than single readings do.

    Parameters
    ----------
    seconds, values
        Readings in order of time.
    """
    t, v = np.asarray(seconds, float), np.asarray(values, float)
    keep = t >= t[0] + WARM_UP * (t[-1] - t[0])
    t, v = t[keep], v[keep]
    if len(t) < BLOCKS:
        raise ValueError(f"{len(t)} readings after the warm-up are too few for a trend; at least {BLOCKS}")
    x = np.array([part.mean() for part in np.array_split(t, BLOCKS)]) / 3600.0
    y = np.array([part.mean() for part in np.array_split(v, BLOCKS)])
    around = x - x.mean()
    slope = float((around * y).sum() / (around**2).sum())
    rest = y - y.mean() - slope * around
    error = math.sqrt(float((rest**2).sum()) / (BLOCKS - 2) / float((around**2).sum()))
    return Trend(slope, slope - T_95 * error, slope + T_95 * error, float(v.mean()))


def peaks(values: Sequence[float]) -> tuple[float, float]:
    """Largest value of the middle third and of the last third of a run."""
    third = len(values) // 3
    return max(values[third : 2 * third]), max(values[2 * third :])


def judge(rows: Sequence[dict[str, Any]], rate: float) -> dict[str, Any]:
    """Say whether memory, lag and the state topic stayed within bounds.

    Parameters
    ----------
    rows
        Readings, with `t`, `rss`, `lag`, `state_bytes`, `blocks`.
    rate
        Records a second that were sent.

    Returns
    -------
    dict
        Trends, and `verdict`: `flat_memory`, `lag_returns`, `state_bounded`.
    """
    t = [row["t"] for row in rows]
    hours = (t[-1] - t[0]) * (1 - WARM_UP) / 3600
    memory = trend(t, [row["rss"] for row in rows])
    blocks = trend(t, [row["blocks"] for row in rows])
    lag = [row["lag"] for row in rows]
    before, after = peaks([row["state_bytes"] for row in rows])
    verdict = {
        "flat_memory": memory.grown(hours) <= MEMORY_SHARE,
        "lag_returns": min(lag[-len(lag) // 4 :]) <= rate and max(lag[-len(lag) // 4 :]) <= 10 * rate,
        "state_bounded": after <= (1 + STATE_SHARE) * before,
    }
    return {
        "hours_judged": hours,
        "memory_bytes_per_hour": memory._asdict(),
        "blocks_per_hour": blocks._asdict(),
        "lag": {"median": float(np.median(lag)), "largest": max(lag)},
        "state_bytes": {"middle_third": before, "last_third": after},
        "verdict": verdict,
    }


def draw(rows: Sequence[dict[str, Any]], found: dict[str, Any], path: Path) -> None:
    """Draw memory, lag, state topic and entities over time."""
    minutes = [row["t"] / 60 for row in rows]
    panels = (
        ("memory of the worker, MiB", [row["rss"] / 2**20 for row in rows]),
        ("lag, records", [row["lag"] for row in rows]),
        ("state topic on disk, MiB", [row["state_bytes"] / 2**20 for row in rows]),
        ("live entities", [row["entities"] for row in rows]),
    )
    mpl.use("agg")
    figure, axes = plt.subplots(4, 1, figsize=(9, 9), sharex=True, layout="constrained")
    for axis, (title, values) in zip(axes, panels, strict=True):
        axis.plot(minutes, values, linewidth=1.2)
        axis.set_ylim(bottom=0)
        axis.set_title(title, loc="left", fontsize=10)
        axis.axvspan(minutes[0], minutes[0] + WARM_UP * (minutes[-1] - minutes[0]), color="0.93")
        axis.grid(alpha=0.3)
    memory = found["memory_bytes_per_hour"]
    axes[0].annotate(
        f"{memory['slope'] / 2**20:+.1f} MiB an hour (95 %: {memory['low'] / 2**20:+.1f} to "
        f"{memory['high'] / 2**20:+.1f}), after the shaded warm-up",
        (0.99, 0.06), xycoords="axes fraction", ha="right", fontsize=9,
    )  # fmt: skip
    axes[-1].set_xlabel("minutes")
    figure.savefig(path, dpi=100)
    plt.close(figure)

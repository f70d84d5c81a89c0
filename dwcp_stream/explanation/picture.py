"""The picture of an explanation: fields over the window, what was expected of them, and the score over time."""

import io
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np

from dwcp_stream.explanation.explain import Explanation
from dwcp_stream.streams import StreamDefinition

SHOWN: Final = 4
"""Fields that are drawn."""
QUIET: Final = (2.5, 97.5)
"""Percentiles, of quiet verdicts, of what the model misses by: the band around what it expects."""


def draw(found: Explanation, stream: StreamDefinition, kind: str = "png") -> bytes:
    """Return the picture of an explanation.

    Parameters
    ----------
    kind
        `png` or `svg`.

    Raises
    ------
    ImportError
        matplotlib is not installed (extra `train`).
    """
    from matplotlib.figure import Figure  # noqa: PLC0415  half a second, and only pictures need it

    names = shown_fields(found, stream)
    figure = Figure(figsize=(9, 1.9 * (len(names) + 1)), layout="constrained")
    axes = np.atleast_1d(figure.subplots(len(names) + 1, 1, sharex=True))
    times = [datetime.fromtimestamp(seen.ts, UTC) for seen in found.trail]
    for name, axis in zip(names, axes, strict=False):
        _field(axis, found, stream, name, times)
    scores = axes[-1]
    scores.plot(times, [float(seen.score) for seen in found.trail], color="black", linewidth=1.2, label="score")
    scores.axhline(found.threshold, color="tab:red", linewidth=1.0, label="threshold")
    scores.set_ylabel("score")
    scores.legend(loc="upper left", fontsize=8)
    figure.suptitle(f"{found.model} version {found.version} on {found.stream} {found.entity}, {found.at}", fontsize=10)
    content = io.BytesIO()
    figure.savefig(content, format=kind, dpi=120)
    return content.getvalue()


def save(found: Explanation, stream: StreamDefinition, path: Path) -> None:
    """Write the picture to a file; one whose name ends in .svg is an SVG, any other a PNG."""
    path.write_bytes(draw(found, stream, "svg" if path.suffix.lower() == ".svg" else "png"))


def shown_fields(found: Explanation, stream: StreamDefinition) -> list[str]:
    """Return the fields worth drawing: what contributed most, then what is the smallest change; no words."""
    weighed = sorted(found.contribution, key=lambda name: -found.contribution[name])
    order = dict.fromkeys([*weighed, *(change.field for change in found.changes)])
    return [name for name in order if not stream.fields[stream.field_index(name)].coded][:SHOWN]


def _field(axis: Any, found: Explanation, stream: StreamDefinition, name: str, times: list[datetime]) -> None:
    at = stream.field_index(name)
    values = np.array([seen.window[-1, at] for seen in found.trail], np.float64)
    axis.plot(times, values, color="black", linewidth=1.2, label="measured")
    column = list(found.window).index(name)
    expected = np.array(
        [np.nan if seen.expected is None else seen.expected[column] for seen in found.trail], np.float64
    )
    quiet = np.array([seen.score < found.threshold for seen in found.trail], bool)
    missed = (values - expected)[quiet & np.isfinite(values - expected)]
    if np.isfinite(expected).any():
        axis.plot(times, expected, color="tab:blue", linewidth=1.0, label="expected")
    if len(missed) > 1:
        low, high = np.percentile(missed, QUIET)
        axis.fill_between(times, expected + low, expected + high, color="tab:blue", alpha=0.2, label="usual misses")
    change = next((c for c in found.changes if c.field == name), None)
    if change is not None and change.needed is not None and times:
        axis.plot([times[-1]], [change.needed], "o", color="tab:green", markersize=4, label="enough")
    unit = stream.fields[at].unit
    axis.set_ylabel(name if unit == "1" else f"{name}\n[{unit}]", fontsize=8)
    axis.legend(loc="upper left", fontsize=7)

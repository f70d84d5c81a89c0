"""Reports: Markdown text with tables, and plots as PNG bytes."""

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Number = float | int | str | None


def table(header: Sequence[str], rows: Sequence[Sequence[Number]]) -> str:
    """Format a Markdown table; floats get three significant digits, None and NaN a dash."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(_cell(c) for c in row) + " |" for row in rows]
    return "\n".join(lines)


def document(title: str, sections: Mapping[str, str]) -> str:
    """Assemble a report: a title, then sections in order (an empty heading: no heading)."""
    parts = [f"# {title}"]
    for heading, text in sections.items():
        parts += ([f"## {heading}"] if heading else []) + [text.strip()]
    return "\n\n".join(parts) + "\n"


def line_plot(
    title: str,
    x: NDArray[Any],
    lines: Mapping[str, NDArray[Any]],
    *,
    xlabel: str,
    ylabel: str,
    log: bool = False,
) -> bytes:
    """Plot lines over a common axis."""
    figure, axes = _axes(title, xlabel, ylabel)
    for name, y in lines.items():
        axes.plot(x, y, label=name, linewidth=1.2)
    if log:
        axes.set_yscale("log")
    axes.legend(fontsize=8)
    return _png(figure)


def curve_plot(
    title: str, lines: Mapping[str, tuple[NDArray[Any], NDArray[Any]]], *, xlabel: str, ylabel: str
) -> bytes:
    """Plot lines, each with an axis of its own, in the unit square."""
    figure, axes = _axes(title, xlabel, ylabel)
    for name, (x, y) in lines.items():
        axes.plot(x, y, label=name, linewidth=1.2)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    axes.legend(fontsize=8)
    return _png(figure)


def score_plot(
    title: str,
    seconds: NDArray[Any],
    score: NDArray[Any],
    label: NDArray[Any],
    *,
    aside: NDArray[Any] | None = None,
) -> bytes:
    """Plot a score over time with its threshold at 1; labelled time is red, rows left aside are grey."""
    figure, axes = _axes(title, "seconds", "score (threshold 1)")
    top = max(2.0, float(np.nanmax(score)) * 1.1)
    axes.fill_between(seconds, 0, top, where=label > 0, color="tab:red", alpha=0.2, step="mid", label="fault")
    if aside is not None:
        axes.fill_between(seconds, 0, top, where=aside > 0, color="0.7", alpha=0.4, step="mid", label="recovery")
    axes.plot(seconds, score, linewidth=1.0, color="tab:blue")
    axes.axhline(1.0, color="black", linewidth=0.8, linestyle="--")
    axes.set_ylim(0, top)
    axes.legend(fontsize=8, loc="upper right")
    return _png(figure)


def bar_plot(title: str, groups: Sequence[str], bars: Mapping[str, Sequence[float]], *, ylabel: str) -> bytes:
    """Plot bars side by side for each group."""
    figure, axes = _axes(title, "", ylabel)
    width = 0.8 / max(len(bars), 1)
    for i, (name, heights) in enumerate(bars.items()):
        axes.bar(np.arange(len(groups)) + i * width, heights, width, label=name)
    axes.set_xticks(np.arange(len(groups)) + 0.4 - width / 2, groups, fontsize=8)
    axes.legend(fontsize=8)
    return _png(figure)


def band_plot(
    title: str,
    x: NDArray[Any],
    actual: NDArray[Any],
    band: tuple[NDArray[Any], NDArray[Any], NDArray[Any]],
    *,
    xlabel: str,
    ylabel: str,
) -> bytes:
    """Plot actual values over a forecast's (low, median, high)."""
    low, middle, high = band
    figure, axes = _axes(title, xlabel, ylabel)
    axes.fill_between(x, low, high, alpha=0.3, label="q10 to q90")
    axes.plot(x, middle, linewidth=1.0, label="q50")
    axes.plot(x, actual, linewidth=0.9, color="black", label="actual")
    axes.legend(fontsize=8)
    return _png(figure)


def _axes(title: str, xlabel: str, ylabel: str) -> tuple[Any, Any]:
    from matplotlib.figure import Figure  # noqa: PLC0415 - half a second, and only reports need it

    figure = Figure(figsize=(8, 3.2), dpi=80, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(xlabel, fontsize=8)
    axes.set_ylabel(ylabel, fontsize=8)
    axes.grid(alpha=0.3)
    return figure, axes


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    # without the program's version in the file the same plot gives the same bytes
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _cell(value: Number) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    if isinstance(value, float | np.floating):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    return str(value)

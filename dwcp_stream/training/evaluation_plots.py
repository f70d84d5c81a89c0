"""Pictures of an evaluation: curves of detectors, what a probability is worth, forecasts beside what came."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.calibration import calibration_curve
from sklearn.metrics import precision_recall_curve, roc_curve

from dwcp_stream.training.dataset import Floats, Grid, Ints
from dwcp_stream.training.labels import Labelled, Mask
from dwcp_stream.training.report import band_plot, curve_plot, score_plot

SHOWN = 600
"""Rows of the time plots."""
BINS = 10


def detector_plots(
    data: Labelled, judged: Mask, scores: Mapping[str, Floats], probability: Floats | None
) -> dict[str, bytes]:
    """Plot ROC and precision over recall of every detector, the first one's score over time, and its reliability.

    Parameters
    ----------
    data, judged
        Labels of the rows, and [R] which of them count.
    scores
        [R] by detector, 1.0 at the threshold, NaN where a row is not scored; the model's own first.
    probability
        [R] of an incident, if the model gives one.

    Returns
    -------
    dict
        PNG by file name; no curves where the rows are not of both kinds.
    """
    name, first = next(iter(scores.items()))
    counted = judged & data.scored & (data.quiet | (data.event >= 0)) & np.isfinite(first)
    label = data.event[counted] >= 0
    plots = {"score.png": _score(data, name, first)}
    if not 0 < label.sum() < len(label):
        return plots
    known = {n: np.nan_to_num(s[counted], nan=0.0, posinf=1e30) for n, s in scores.items()}
    rates = {n: roc_curve(label, s)[:2] for n, s in known.items()}
    plots["roc.png"] = curve_plot("ROC", rates, xlabel="quiet rows in alarm", ylabel="faulty rows found")
    precise = {n: precision_recall_curve(label, s)[1::-1] for n, s in known.items()}
    plots["pr.png"] = curve_plot("Precision and recall", precise, xlabel="recall", ylabel="precision")
    if probability is not None:
        said = np.clip(np.nan_to_num(probability[counted]), 0.0, 1.0)
        came, mean = calibration_curve(label, said, n_bins=BINS, strategy="quantile")
        lines = {"the model": (mean, came), "ideal": (np.array([0.0, 1.0]), np.array([0.0, 1.0]))}
        plots["reliability.png"] = curve_plot("Reliability", lines, xlabel="probability said", ylabel="share that came")
    return plots


def _score(data: Labelled, name: str, score: Floats) -> bytes:
    """Plot the score around the first event, or the newest rows without one."""
    rows = np.flatnonzero(data.scored)
    group = data.group[rows]
    events = np.flatnonzero(data.event[rows] >= 0)
    middle = int(events[0]) if len(events) else len(rows) - 1
    own = np.flatnonzero(group == group[middle])
    begin = max(int(np.searchsorted(own, middle)) - SHOWN // 3, 0)
    chosen = rows[own[begin : begin + SHOWN]]
    seconds = data.grid.ts[chosen] - data.grid.ts[chosen[0]]
    title = f"{name}: {data.grid.entities[data.grid.entity[chosen[0]]]}"
    return score_plot(title, seconds, np.nan_to_num(score[chosen], posinf=0.0), (data.event[chosen] >= 0).astype(float))


def forecast_plots(
    grid: Grid, ends: Ints, quantiles: Floats, horizons: Sequence[int], targets: Sequence[str]
) -> dict[str, bytes]:
    """Plot the forecasts [N, H, Y, 3] of the first entity's newest windows beside what came, for each horizon."""
    own = np.flatnonzero(grid.entity[ends] == grid.entity[ends[0]])[-SHOWN:]
    rows = ends[own]
    plots = {}
    for y, target in enumerate(targets):
        actual: NDArray[np.floating] = grid.values[:, grid.stream.field_index(target)]
        for h, horizon in enumerate(horizons):
            low, middle, high = np.moveaxis(quantiles[own, h, y], -1, 0)
            plots[f"forecast-{target}-{horizon}.png"] = band_plot(
                f"{target}, {horizon} rows ahead: {grid.entities[grid.entity[rows[0]]]}",
                grid.ts[rows + horizon] - grid.ts[rows[0]],
                actual[rows + horizon],
                (low, middle, high),
                xlabel="seconds",
                ylabel=target,
            )
    return plots

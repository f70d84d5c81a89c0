"""Which rows peers are fitted on, and peers of a detector fitted on them.

The rows are those of files of their own, or the first half of each entity's rows in each file; then only the second
halves are judged, the model's scores as well.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dwcp_stream.errors import PayloadError
from dwcp_stream.training.anomaly.tail import RATE
from dwcp_stream.training.dataset import Grid, Ints
from dwcp_stream.training.incident.data import IncidentData
from dwcp_stream.training.labels import Labelled, labelled
from dwcp_stream.training.peers import anomaly
from dwcp_stream.training.peers.incident import fit_peers

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
MOST_ROWS: Final = 20_000
"""Rows that an anomaly detector is fitted on, evenly spaced."""


@dataclass(frozen=True)
class Fitting:
    """Rows to fit peers on.

    Attributes
    ----------
    grid, rows
        The grid, and [N] rows in it whose windows would be scored.
    said
        Which rows these are, in words.
    judged
        [R] rows of the judged grid that count.
    """

    grid: Grid
    rows: Ints
    said: str
    judged: Mask


def own_files(train: Grid, names: str, grid: Grid) -> Fitting:
    """Fit on files of their own; every row of `grid` counts."""
    return Fitting(train, train.ends(), f"fitted on {names}", np.ones(len(grid.ts), bool))


def first_halves(grid: Grid) -> Fitting:
    """Fit on the first half of each entity's rows in each file; the second halves count."""
    group = grid.source * (len(grid.entities) + 1) + grid.entity
    early = np.zeros(len(grid.ts), bool)
    for number in np.unique(group):
        filled = np.flatnonzero((group == number) & grid.filled)
        early[filled[: len(filled) // 2]] = True
    ends = grid.ends()
    said = "fitted on the first half of each entity's rows in each file; all figures are of the second halves"
    return Fitting(grid, ends[early[ends]], said, ~early)


def fit_detectors(fitting: Fitting, data: Labelled, label: str, task: str, seed: int) -> tuple[dict[str, Any], str]:
    """Fit the peers of an anomaly or incident model, and score the rows that count.

    Parameters
    ----------
    fitting, data
        Rows to fit on, and the grid to judge on.
    label
        Column of the labels. Anomaly detectors leave labelled rows of theirs out.
    task
        `anomaly` or `incident`.
    seed
        Of what is random in them.

    Returns
    -------
    tuple
        Scores [R] by name, 1.0 at the threshold, NaN where a row does not count; and what is missing, in words.
    """
    rows = np.flatnonzero(data.scored & fitting.judged)
    try:
        if task == "incident":
            return _classifiers(fitting, data, label, rows, seed), ""
        return _detectors(fitting, data, label, rows), ", ".join(f"{m} is not installed" for m in anomaly.missing())
    except PayloadError as error:
        return {}, f"no peers: {error.what}"


def _classifiers(fitting: Fitting, data: Labelled, label: str, rows: Ints, seed: int) -> dict[str, Floats]:
    if label not in fitting.grid.columns:
        raise PayloadError(f"the rows to fit on have no column {label!r}", remedy="Give labelled files with --train")
    known = labelled(fitting.grid, label)
    marks = np.where(known.event >= 0, 1.0, np.where(known.quiet, 0.0, np.nan))[fitting.rows]
    if not (marks > 0).any() or not (marks == 0).any():
        raise PayloadError("the rows to fit on are all of one kind", remedy="Give labelled files with --train")
    made = fit_peers(IncidentData(fitting.grid, fitting.rows, marks), seed)
    return {name: _placed(data, rows, scorer(data.grid.values[rows])) for name, scorer in made.items()}


def _detectors(fitting: Fitting, data: Labelled, label: str, rows: Ints) -> dict[str, Floats]:
    grid = data.grid
    fitted = fitting.rows
    if label in fitting.grid.columns:
        fitted = fitted[labelled(fitting.grid, label).quiet[fitted]]
    fitted = fitted[np.unique(np.linspace(0, len(fitted) - 1, min(len(fitted), MOST_ROWS)).astype(np.int64))]
    fitted = fitted[np.argsort(fitting.grid.ts[fitted], kind="stable")]
    numeric = [i for i, field in enumerate(grid.stream.fields) if not field.coded]
    before = fitting.grid.values[fitted][:, numeric].astype(np.float64)
    known = np.isfinite(before).any(axis=0) if len(before) else np.zeros(0, bool)
    if not known.any():
        raise PayloadError("no row to fit on has a value", remedy="Give longer files, or others with --train")
    before = before[:, known]
    middle = np.nanmedian(before, axis=0)
    order = rows[np.argsort(grid.ts[rows], kind="stable")]
    after = grid.values[order][:, numeric].astype(np.float64)[:, known]
    before, after = (np.where(np.isfinite(part), part, middle) for part in (before, after))
    made = {}
    for name, peer in anomaly.peers().items():
        own = peer(before, before, fitting.grid.entity[fitted])
        limit = max(float(np.quantile(own, 1.0 - RATE)), 1e-12)
        made[name] = _placed(data, order, peer(before, after, data.group[order]) / limit)
    return made


def _placed(data: Labelled, rows: Ints, scores: Floats) -> Floats:
    placed = np.full(len(data.grid.ts), np.nan)
    placed[rows] = scores
    return placed

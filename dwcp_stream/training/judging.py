"""Judging a published detector on labelled files: what `dwcp-stream evaluate` prints.

Beside it, on the same rows, stand the simple rules of its stream and, if asked for, other people's detectors. Windows
are those that the daemon would score. Every main figure has an interval, and the model is compared with the best of
the others by draws of the same rows.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from dwcp_stream.scoring import Model
from dwcp_stream.training.causes import by_cause, cause_column
from dwcp_stream.training.dataset import Floats, Grid
from dwcp_stream.training.evaluation_plots import detector_plots
from dwcp_stream.training.in_turn import Progress, verdicts_in_turn
from dwcp_stream.training.intervals import Resampling, percentile, poisson_rate, resampling, share, verdict
from dwcp_stream.training.labels import Labelled, Mask, labelled
from dwcp_stream.training.metrics import plain
from dwcp_stream.training.peers.fitting import Fitting, fit_detectors
from dwcp_stream.training.range_metrics import range_scores
from dwcp_stream.training.ranking import weighted_ranking
from dwcp_stream.training.rules import ANY_STREAM, BY_STREAM
from dwcp_stream.training.vus import vus_pr

RANKS: Final = ("roc_auc", "average_precision")


@dataclass(frozen=True)
class Options:
    """How to judge.

    Attributes
    ----------
    fitting
        Rows to fit peers on; None: no peers.
    seed
        Of the draws, and of what is random in peers.
    cause
        Column that names causes; None: the first that holds words.
    """

    fitting: Fitting | None = None
    seed: int = 0
    cause: str | None = None


def judge_detector(
    model: Model,
    grid: Grid,
    label: str,
    progress: Progress,
    plots: dict[str, bytes] | None = None,
    options: Options | None = None,
) -> dict[str, Any]:
    """Judge an anomaly or incident model.

    Parameters
    ----------
    model
        Bound to the grid's stream.
    grid
        With the label's column, `x_recovery` if there are rows to leave out, and columns that name causes.
    label
        Name of the column that is 1 in a fault, or names it.
    progress
        Called with the share done.
    plots
        Gets pictures by file name, if given.
    options
        Peers, seed and cause.

    Returns
    -------
    dict
        `detectors`: name -> numbers of `metrics.Detection`, `vus_pr`, `range_*` and `intervals`, the model's own name
        first; `comparison` with the best of the others; `resampling`; `causes`, where a column names them; with peers
        `peers`: what they were fitted on and what is missing.

    Raises
    ------
    PayloadError
        If the files have no such column.
    """
    options = options or Options()
    data = labelled(grid, label)
    own, probability, kind = _verdicts(model, grid, progress)
    scores = {model.name: own} | {name: rule(grid) for name, rule in BY_STREAM.get(model.stream, ANY_STREAM).items()}
    judged, peers = np.ones(len(grid.ts), bool), {}
    if options.fitting is not None:
        judged = options.fitting.judged
        made, missing = fit_detectors(options.fitting, data, label, model.task, options.seed)
        scores |= made
        peers = {"peers": {"said": options.fitting.said, "names": list(made), "missing": missing}}
    if plots is not None:
        plots |= detector_plots(data, judged, scores, probability)
    result = {**peers, **_figures(data, judged, scores, options.seed)}
    column = options.cause or cause_column(grid, label)
    if column is not None and column in grid.columns:
        result["causes"] = [plain(row) for row in by_cause(data, judged, own, column, kind, model.manifest.kinds)]
    return result


def _verdicts(model: Model, grid: Grid, progress: Progress) -> tuple[Floats, Floats | None, Floats | None]:
    """Score [R], probability [R] and kinds [R, K] of the rows; NaN where a row is not scored."""
    ends = grid.ends()
    found: dict[str, Floats] = {"score": np.full(len(grid.ts), np.nan)}
    for rows, verdicts in verdicts_in_turn(model, grid, ends, progress):
        for name in ("score", "probability", "kind"):
            values = getattr(verdicts, name)
            if values is not None:
                shape = (len(grid.ts), *values.shape[1:])
                found.setdefault(name, np.full(shape, np.nan))[ends[rows]] = values
    return found["score"], found.get("probability"), found.get("kind")


def _figures(data: Labelled, judged: Mask, scores: Mapping[str, Floats], seed: int) -> dict[str, Any]:
    """Numbers of every detector, and the comparison of the first with the best of the others."""
    first = next(iter(scores))
    counted = judged & data.scored & (data.quiet | (data.event >= 0))
    draws = resampling(data.group[counted], data.event[counted], data.grid.stream.window, seed)
    detectors, ranks = {}, {}
    for name, score in scores.items():
        found = data.judge(score, judged)
        ranks[name] = _ranks(data, counted, score, draws)
        detectors[name] = plain(
            {
                **found.plain(),
                **_ranges(data, counted, score),
                "intervals": {
                    "found": share(found.found, found.events),
                    "false_alarms_per_hour": poisson_rate(found.false_alarms, found.quiet_hours),
                    **{rank: percentile(values) for rank, values in ranks[name].items()},
                },
            }
        )
    others = {n: detectors[n]["average_precision"] for n in scores if n != first}
    best = max((n for n, value in others.items() if value is not None), key=lambda n: others[n], default=None)
    result: dict[str, Any] = {"detectors": detectors, "resampling": draws.plain()}
    if best is not None:
        result["comparison"] = {"with": best, **_compared(detectors[first], detectors[best], ranks[first], ranks[best])}
    return result


def _ranks(data: Labelled, counted: Mask, score: Floats, draws: Resampling) -> dict[str, Floats]:
    """Rank figures [D] of the draws; rows without a score have no weight."""
    known = np.isfinite(score[counted])
    if not known.any():
        return {rank: np.full(len(draws.weights), np.nan) for rank in RANKS}
    label = data.event[counted][known] >= 0
    made = weighted_ranking(label, score[counted][known], draws.unit[known], draws.weights)
    return dict(zip(RANKS, made, strict=True))


def _ranges(data: Labelled, counted: Mask, score: Floats) -> dict[str, float]:
    """VUS-PR, the mean over entities with labelled rows, and range-based precision, recall and F1 of the alarms."""
    label, group = data.event[counted] >= 0, data.group[counted]
    values = score[counted]
    parts = [vus_pr(label[mine], values[mine]) for g in np.unique(group) if label[mine := group == g].any()]
    found = range_scores(label, np.nan_to_num(values, nan=-np.inf) > 1.0, group=group)
    return {
        "vus_pr": float(np.mean(parts)) if parts else float("nan"),
        "range_precision": found.precision,
        "range_recall": found.recall,
        "range_f1": found.f1,
    }


def _compared(
    mine: Mapping[str, Any], its: Mapping[str, Any], ours: Mapping[str, Floats], theirs: Mapping[str, Floats]
) -> dict[str, Any]:
    """Differences of the model less the other, drawn together."""
    found = {}
    for rank in RANKS:
        interval = percentile(ours[rank] - theirs[rank])
        apart = mine[rank] - its[rank] if None not in {mine[rank], its[rank]} else None
        found[rank] = plain({"difference": apart, "interval": interval, "verdict": verdict(interval)})
    return found

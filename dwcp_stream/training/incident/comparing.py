"""The model beside its baselines: on parts that were not seen, and on later rows than those that taught."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dwcp_stream.training.ensemble import evaluate
from dwcp_stream.training.incident.baselines import contenders
from dwcp_stream.training.incident.boosting import Capacity, grow
from dwcp_stream.training.incident.data import LEAST_ROWS, Folds, IncidentData, apart
from dwcp_stream.training.incident.design import Design
from dwcp_stream.training.incident.judging import Judgement, judge
from dwcp_stream.training.incident.table import Table
from dwcp_stream.training.incident.thresholds import choose_threshold
from dwcp_stream.training.job import Job

Bools = NDArray[np.bool_]
Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]

LATER: float = 0.6  # share of the incident rows before the cut where later rows are told apart by entity too
CUTS = (0.5, 0.7)  # shares at which validation and test begin where they are told apart by time alone


def both(label: Bools, least: int = 1) -> bool:
    """Whether there are at least so many rows of both classes."""
    return bool(min(label.sum(), (~label).sum()) >= least)


def compare(job: Job, data: IncidentData, design: Design, table: Table, margin: Floats) -> Mapping[str, Judgement]:
    """Judge the model's unseen margins [K] and the baselines', threshold and fit of each part from the others."""
    newest = data.newest[table.at][:, design.columns(job.stream)]
    label, fold = table.rows.label, table.fold
    scores: dict[str, Floats] = {job.binding.name: margin}
    for number in np.unique(fold):
        inside = fold == number
        if not both(label[~inside]):
            continue
        for name, scorer in contenders(design, newest[~inside], label[~inside]).items():
            scores.setdefault(name, np.zeros(len(label)))[inside] = scorer(newest[inside])
    return {
        name: judge(data, table.at, suspicion, _alarms(label, fold, suspicion)) for name, suspicion in scores.items()
    }


def _alarms(label: Bools, fold: Ints, scores: Floats) -> Bools:
    alarm = np.zeros(len(label), bool)
    for number in np.unique(fold):
        inside = fold == number
        chosen = ~inside if both(label[~inside]) else np.ones(len(label), bool)
        alarm[inside] = scores[inside] > choose_threshold(label[chosen], scores[chosen])
    return alarm


def judge_later(
    job: Job, data: IncidentData, folds: Folds, design: Design, table: Table, allowed: Capacity
) -> Mapping[str, Judgement] | None:
    """Grow on earlier rows, choose the threshold on others of them, judge later rows: also of other entities.

    Returns
    -------
    Mapping or None
        None if a part would have fewer than `LEAST_ROWS` rows of a class.
    """
    train, valid, test = _later_parts(data, folds, table)
    label = table.rows.label
    if not all(both(label[part], LEAST_ROWS) for part in (train, valid, test)):
        return None
    trees = grow(table.rows.select(train), table.columns, job.seed, allowed).trees
    newest = data.newest[table.at][:, design.columns(job.stream)]
    scores = {job.binding.name: [evaluate(trees, table.rows.x[part]) for part in (valid, test)]}
    for name, scorer in contenders(design, newest[train], label[train]).items():
        scores[name] = [scorer(newest[part]) for part in (valid, test)]
    return {
        name: judge(data, table.at[test], after, after > choose_threshold(label[valid], before))
        for name, (before, after) in scores.items()
    }


def _later_parts(data: IncidentData, folds: Folds, table: Table) -> tuple[Bools, Bools, Bools]:
    ts = data.grid.ts[data.ends[table.at]]
    label = table.rows.label
    if folds.by_entity:
        early = ts < np.quantile(ts[label], LATER)
        return early & (table.fold > 1), early & (table.fold == 0), ~early & (table.fold == 1)
    first, second = np.quantile(ts[label], CUTS)
    every = data.grid.ts[data.ends]
    before_valid, before_test = apart(data, every >= first)[table.at], apart(data, every >= second)[table.at]
    return before_valid & (ts < first), before_test & (ts >= first) & (ts < second), ts >= second

"""Alarms from the link forecaster: the threshold of its standardised residual, judged beside a simple rule.

Whole links are scored, not sampled windows, because alarms are runs of rows. The threshold is the lowest that
keeps to a budget of false alarms in validation time. The rule is the change since the row before, in units of
the usual change, with a threshold chosen in the same way on the same rows.
"""

from dataclasses import dataclass

import numpy as np

from dwcp_stream.training.dataset import Floats, Ints
from dwcp_stream.training.link_batches import Maker
from dwcp_stream.training.metrics import Detection, budget_threshold, detection, number_events

BUDGET = 0.2  # false alarms per link and day
MERGE = 10  # alarms of one link less than so many rows apart are one


@dataclass(frozen=True)
class Alarms:
    """Threshold from validation time; what model and rule did on test time."""

    threshold: float
    test: dict[str, Detection]


def judge_alarms(maker: Maker, model: bytes, cuts: tuple[float, float]) -> Alarms:
    """Choose the threshold of a graph built with threshold 1, and judge it.

    Parameters
    ----------
    maker, model
        Runs the graph.
    cuts
        Shares of the time span at which validation and test begin.
    """
    grid = maker.grid
    ends, step = grid.ends(), float(grid.stream.step)
    share = (grid.ts[ends] - grid.ts[ends].min()) / max(np.ptp(grid.ts[ends]), 1.0)
    valid, test = ends[(share >= cuts[0]) & (share < cuts[1])], ends[share >= cuts[1]]
    label = np.nan_to_num(grid.columns.get("label", np.zeros(len(grid.ts))))
    event, quiet = number_events(label, grid.entity), grid.filled & ~(label > 0)

    def judge(scores: tuple[Floats, Floats]) -> tuple[float, Detection]:
        days = float(quiet[valid].sum()) * step / 86_400.0
        budget = int(BUDGET * days)
        threshold = budget_threshold(scores[0], quiet[valid], budget, group=grid.entity[valid], merge=MERGE)
        result = detection(
            scores[1] / threshold,
            grid.ts[test],
            event[test],
            quiet[test],
            group=grid.entity[test],
            merge=MERGE,
            step=step,
        )
        return threshold, result

    threshold, judged = judge((maker.run(model, valid, "score"), maker.run(model, test, "score")))
    _, rule = judge((_change(maker, valid), _change(maker, test)))
    return Alarms(threshold, {"model": judged, "change since the last row": rule})


def _change(maker: Maker, rows: Ints) -> Floats:
    change = np.abs(maker.logs[rows] - maker.logs[rows - 1]) / maker.unit[0]
    return np.asarray(np.nan_to_num(change).max(axis=1))

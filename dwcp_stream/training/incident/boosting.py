"""The trees: boosted by XGBoost on features of the graph, few and shallow enough to carry over to new causes.

Measures over all fields may only raise the margin (monotone constraints): being farther from normal is never a
sign of health, whatever the few incidents of a training file suggest.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import xgboost
from numpy.typing import NDArray

from dwcp_stream.training.ensemble import Tree
from dwcp_stream.training.incident.features import Column
from dwcp_stream.training.trees import from_xgboost

Bools = NDArray[np.bool_]
F32 = NDArray[np.float32]

PATIENCE: Final = 30
FEATURES_PER_TREE: Final = 60.0  # so few that no field can lead in every tree
MOST_FEATURES: Final = 0.5  # share of the features that a tree sees, at most
PARAMETERS: Final[dict[str, Any]] = {
    "objective": "binary:logistic",
    "base_score": 0.5,  # so that the sum of the leaves is the whole margin
    "tree_method": "hist",
    "eta": 0.1,
    "min_child_weight": 5.0,
    "subsample": 0.7,
    "lambda": 10.0,
    "eval_metric": "logloss",
    "nthread": 1,  # sums come out in one order
}


@dataclass(frozen=True)
class Capacity:
    """How much the trees may learn: their depth, the most rounds, and what else XGBoost is told."""

    depth: int
    rounds: int
    told: Mapping[str, float] = field(default_factory=dict)


DEPTH: Final = 6
FEW: Final = Capacity(DEPTH, 120)
MANY: Final = Capacity(DEPTH, 300)
MANY_INCIDENTS: Final = 200  # from which more trees learn what carries over, and not the incidents one by one


def capacity(incidents: int, rounds: int | None = None) -> Capacity:
    """Choose by the number of incidents, not of their rows: rows of one incident are much alike."""
    chosen = MANY if incidents >= MANY_INCIDENTS else FEW
    return Capacity(chosen.depth, rounds or chosen.rounds)


@dataclass(frozen=True)
class Rows:
    """Features [K, C], labels [K] and how many rows of the files each stands for [K]."""

    x: F32
    label: Bools
    share: F32

    def weight(self) -> F32:
        """Weights that lift the rarer class by the square root of the ratio: between none and full balance."""
        rare, common = sorted((float(self.share[self.label].sum()), float(self.share[~self.label].sum())))
        lift = np.sqrt(common / max(rare, 1.0))
        labelled_rare = self.share[self.label].sum() <= self.share[~self.label].sum()
        return np.asarray(np.where(self.label == labelled_rare, lift, 1.0) * self.share, np.float32)

    def select(self, mask: Bools) -> "Rows":
        """Rows where `mask` holds."""
        return Rows(self.x[mask], self.label[mask], self.share[mask])


@dataclass(frozen=True)
class Grown:
    """Trees, and the loss of the watched rows after each of them."""

    trees: list[Tree]
    losses: list[float]


def grow(
    rows: Rows,
    columns: Sequence[Column],
    seed: int,
    allowed: Capacity,
    *,
    watched: Rows | None = None,
    progress: Callable[[float], None] = lambda _share: None,
) -> Grown:
    """Boost trees.

    Parameters
    ----------
    rows, columns
        Training rows, and what their features are.
    seed
        Of the rows and columns that each tree sees.
    allowed
        Depth and number of the trees; with `watched` the most there may be.
    watched
        Rows whose loss is noted and ends the boosting when it has not fallen for `PATIENCE` rounds.
    progress
        Called with the share done.
    """

    def matrix(part: Rows, like: Any = None) -> Any:
        return xgboost.QuantileDMatrix(part.x, label=part.label, weight=part.weight(), ref=like, nthread=1)

    class Progress(xgboost.callback.TrainingCallback):
        def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:  # noqa: ARG002
            progress((epoch + 1) / allowed.rounds)
            return False

    train = matrix(rows)
    share = min(MOST_FEATURES, FEATURES_PER_TREE / len(columns))
    losses: dict[str, Any] = {}
    booster = xgboost.train(
        {
            **PARAMETERS,
            "max_depth": allowed.depth,
            **allowed.told,
            "seed": seed,
            "colsample_bytree": share,
            "monotone_constraints": tuple(int(column.rising) for column in columns),
        },
        train,
        allowed.rounds,
        evals=[] if watched is None else [(matrix(watched, train), "watched")],
        evals_result=losses,
        early_stopping_rounds=None if watched is None else PATIENCE,
        verbose_eval=False,
        callbacks=[Progress()],
    )
    return Grown(from_xgboost(booster), losses.get("watched", {}).get("logloss", []))

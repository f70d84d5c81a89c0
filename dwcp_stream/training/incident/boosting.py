"""The trees: boosted by XGBoost on features of the graph, few and shallow enough to carry over to new causes.

Measures over all fields may only raise the margin (monotone constraints), and the first trees see nothing
else: what all incidents have in common is learnt first, single fields add to it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import xgboost
from numpy.typing import NDArray

from dwcp_stream.training.ensemble import Tree
from dwcp_stream.training.incident.features import Column
from dwcp_stream.training.trees import from_xgboost

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
F32 = NDArray[np.float32]

ROUNDS: Final = 200
COMMON_ROUNDS: Final = 40
PATIENCE: Final = 40
COMMON: Final[dict[str, Any]] = {"max_depth": 3}
PARAMETERS: Final[dict[str, Any]] = {
    "objective": "binary:logistic",
    "base_score": 0.5,  # so that the sum of the leaves is the whole margin
    "tree_method": "hist",
    "max_depth": 4,
    "eta": 0.05,
    "min_child_weight": 5.0,
    "subsample": 0.7,
    "colsample_bytree": 0.3,
    "lambda": 10.0,
    "eval_metric": "logloss",
    "nthread": 1,  # sums come out in one order
}


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
    """Trees of both stages, and the loss of the watched rows after each round of the second."""

    trees: list[Tree]
    losses: list[float]


def grow(
    rows: Rows,
    columns: Sequence[Column],
    seed: int,
    rounds: int = ROUNDS,
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
    rounds
        Trees of the second stage; with `watched` the most there may be.
    watched
        Rows whose loss is noted and ends the boosting when it has not fallen for `PATIENCE` rounds.
    progress
        Called with the share done.
    """
    common = np.flatnonzero([column.rising for column in columns])
    every = np.arange(len(columns))
    rising = np.array([column.rising for column in columns])
    first = _boost(rows, common, rising, {**COMMON, "seed": seed}, COMMON_ROUNDS)
    base = [_margin(first, part, common) if part is not None else None for part in (rows, watched)]
    losses: dict[str, Any] = {}
    second = _boost(
        rows,
        every,
        rising,
        {"seed": seed},
        rounds,
        base=base[0],
        watched=(watched, base[1]) if watched is not None else None,
        losses=losses,
        progress=progress,
    )
    trees = [
        replace(tree, feature=np.where(tree.feature >= 0, common[np.maximum(tree.feature, 0)], -1))
        for tree in from_xgboost(first)
    ]
    return Grown([*trees, *from_xgboost(second)], losses.get("watched", {}).get("logloss", []))


def _boost(
    rows: Rows,
    features: Ints,
    rising: Bools,
    changed: dict[str, Any],
    rounds: int,
    *,
    base: F32 | None = None,
    watched: tuple[Rows, F32 | None] | None = None,
    losses: dict[str, Any] | None = None,
    progress: Callable[[float], None] = lambda _share: None,
) -> Any:
    def matrix(part: Rows, start: F32 | None, reference: Any = None) -> Any:
        return xgboost.QuantileDMatrix(
            part.x[:, features], label=part.label, weight=part.weight(), base_margin=start, ref=reference, nthread=1
        )

    class Progress(xgboost.callback.TrainingCallback):
        def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:  # noqa: ARG002
            progress((epoch + 1) / rounds)
            return False

    train = matrix(rows, base)
    parameters = {**PARAMETERS, **changed, "monotone_constraints": tuple(rising[features].astype(int).tolist())}
    evals = [] if watched is None else [(matrix(watched[0], watched[1], train), "watched")]
    return xgboost.train(
        parameters,
        train,
        rounds,
        evals=evals,
        evals_result=losses,
        early_stopping_rounds=PATIENCE if evals else None,
        verbose_eval=False,
        callbacks=[Progress()],
    )


def _margin(booster: Any, rows: Rows, features: Ints) -> F32:
    return np.asarray(booster.predict(xgboost.DMatrix(rows.x[:, features], nthread=1), output_margin=True))

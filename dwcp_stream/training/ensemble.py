"""Tree ensembles as plain arrays, and as one ONNX node.

A trained library model is copied into `Tree`s, prepared so that ONNX Runtime, the library and the plain
evaluation here agree, and written as a `TreeEnsembleRegressor`. Two traps are closed on the way:

- A test is always `value < threshold` on float32. A library that tests `<=` on float64 thresholds is
  translated by `strict_threshold`, which moves the threshold to the next float32 that decides alike.
- Leaves are rounded to multiples of a power of two so coarse that their float32 sum is exact. The order in
  which a runtime adds trees (it depends on batch size and threads) then cannot change a single bit.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from onnx import helper

from dwcp_stream.training.graph import Graph

ML_OPSETS: Final = {"ai.onnx.ml": 3}
MANTISSA: Final = 24  # bits of a float32


@dataclass(frozen=True)
class Tree:
    """One binary tree; node 0 is the root.

    Attributes
    ----------
    feature
        [N] int64, column that an inner node tests, -1 at a leaf.
    threshold
        [N] float32; a row goes left where `value < threshold`.
    left, right
        [N] int64, children; -1 at a leaf.
    missing_left
        [N] bool, where a NaN goes.
    leaf
        [N] float64, value of a leaf (0 elsewhere).
    """

    feature: NDArray[np.int64]
    threshold: NDArray[np.float32]
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    missing_left: NDArray[np.bool_]
    leaf: NDArray[np.float64]

    def bound(self) -> float:
        """Largest absolute leaf."""
        return float(np.abs(self.leaf).max())


def strict_threshold(limit: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return t such that `x < t` equals `x <= limit` for every float32 x."""
    limit = np.asarray(limit, np.float64)
    near = limit.astype(np.float32)
    below = np.where(near.astype(np.float64) > limit, np.nextafter(near, np.float32(-np.inf)), near)
    return np.asarray(np.nextafter(below, np.float32(np.inf)), np.float32)


def exact(trees: Sequence[Tree]) -> list[Tree]:
    """Round leaves so that any float32 sum over the trees is exact, whatever the order.

    The quantum is 2**-24 of the next power of two above the largest possible sum; each leaf moves by at
    most half a quantum.
    """
    bound = sum(tree.bound() for tree in trees)
    if bound == 0.0:
        return list(trees)
    quantum = 2.0 ** (np.ceil(np.log2(bound)) - MANTISSA)
    return [replace(tree, leaf=np.round(tree.leaf / quantum) * quantum) for tree in trees]


def evaluate(trees: Sequence[Tree], x: NDArray[np.float32]) -> NDArray[np.float64]:
    """Sum of the leaves that the rows of `x` [B, features] reach, [B]; the plain definition."""
    total = np.zeros(len(x))
    rows = np.arange(len(x))
    for tree in trees:
        at = np.zeros(len(x), np.int64)
        while (inner := tree.feature[at] >= 0).any():
            value = x[rows, np.maximum(tree.feature[at], 0)]
            go_left = np.where(np.isnan(value), tree.missing_left[at], value < tree.threshold[at])
            at = np.where(inner, np.where(go_left, tree.left[at], tree.right[at]), at)
        total += tree.leaf[at]
    return total


def add_ensemble(g: Graph, name: str, trees: Sequence[Tree], x: str) -> str:
    """Add the ensemble to a graph (whose model needs the opsets `ML_OPSETS`).

    Parameters
    ----------
    g, name
        Graph, and name of the node and its output.
    trees
        Trees, already made `exact`.
    x
        Value [B, features] float32; NaN = missing.

    Returns
    -------
    str
        Sum of the leaves, [B, 1].
    """
    size = np.array([len(tree.feature) for tree in trees])

    def joined(attribute: str) -> Any:
        return np.concatenate([getattr(tree, attribute) for tree in trees])

    numbers = np.concatenate([np.arange(n) for n in size])
    tree_of = np.repeat(np.arange(len(trees)), size)
    is_leaf = joined("feature") < 0
    leaves = int(is_leaf.sum())
    g.raw(
        helper.make_node(
            "TreeEnsembleRegressor",
            [x],
            [name],
            name=name,
            domain="ai.onnx.ml",
            n_targets=1,
            aggregate_function="SUM",
            post_transform="NONE",
            nodes_treeids=tree_of.tolist(),
            nodes_nodeids=numbers.tolist(),
            nodes_featureids=np.maximum(joined("feature"), 0).tolist(),
            nodes_modes=np.where(is_leaf, "LEAF", "BRANCH_LT").tolist(),
            nodes_values=np.where(is_leaf, 0.0, joined("threshold")).astype(np.float32).tolist(),
            nodes_truenodeids=np.maximum(joined("left"), 0).tolist(),
            nodes_falsenodeids=np.maximum(joined("right"), 0).tolist(),
            nodes_missing_value_tracks_true=joined("missing_left").astype(np.int64).tolist(),
            target_treeids=tree_of[is_leaf].tolist(),
            target_nodeids=numbers[is_leaf].tolist(),
            target_ids=[0] * leaves,
            target_weights=joined("leaf")[is_leaf].astype(np.float32).tolist(),
        )
    )
    return name

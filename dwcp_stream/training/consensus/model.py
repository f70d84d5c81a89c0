"""The consensus model as one ONNX graph, from raw window and memory to score, kinds and expected values."""

from typing import Final

import numpy as np

from dwcp_stream.training.anomaly.products import wide_matmul
from dwcp_stream.training.consensus.classifier import OUTPUTS, SQUASH, add_classifier, add_network
from dwcp_stream.training.consensus.data import KINDS
from dwcp_stream.training.consensus.features import (
    CHANNELS,
    COUNTS,
    FEATURES,
    LOGGED,
    STATE_SIZE,
    Seen,
    add_features,
)
from dwcp_stream.training.consensus.recipe import UNKNOWN_BELOW, Recipe
from dwcp_stream.training.consensus.surprise import add_parts, add_surprise
from dwcp_stream.training.graph import Graph, to_bytes

BLAMED: Final = {"missing": "active_nodes", "no_quorum": "active_nodes", "no_completions": "latency_p50"}
"""Fields that the channels which are no field stand for."""


def build(recipe: Recipe, fields: tuple[str, ...], rows: int, *, explain: bool = False) -> bytes:
    """Serialise the model.

    Parameters
    ----------
    recipe
        Its constants.
    fields, rows
        Columns and rows of the window.
    explain
        Make the graph whose output is `contribution` [B, F] instead: what the score would lose if a field were
        normal, in shares that sum to 1 (0 if nothing would be lost).
    """
    g = Graph("consensus_explain" if explain else "consensus")
    window = g.input("window", np.float32, ["batch", rows, len(fields)])
    g.input("time", np.float64, ["batch", rows])
    seen = add_features(g, window, g.input("state_in", np.float32, ["batch", STATE_SIZE]), fields, rows)
    if explain:
        _explain(g, recipe, seen.features, fields)
        return to_bytes(g.model())
    logs, suspicion = add_classifier(g, recipe.params, seen.features)
    known = g.div(suspicion, g.const(recipe.suspicion))
    odd = g.div(add_surprise(g, add_parts(g, seen.features, recipe.units)), g.const(recipe.surprise))
    g.output(g.op("Max", known, odd), "score", np.float32, ["batch"])
    _expected(g, seen, fields)
    _kinds(g, logs, known)
    g.output(seen.state, "state_out", np.float32, ["batch", STATE_SIZE])
    return to_bytes(g.model())


def _kinds(g: Graph, logs: str, known: str) -> None:
    """Add the output `kind` [B, K]: each kind's share of the trouble as far as it is suspected, then `unknown`."""
    shares = g.smooth("Exp", logs, OUTPUTS)
    trouble = g.op("Max", g.sub(g.const(1.0), g.slice(shares, 1, 0, 1)), g.const(1e-6))
    trust = g.op("Unsqueeze", g.clip(known, None, 1.0), g.ints(1))
    fits = g.mul(g.div(g.slice(shares, 1, 1), trouble), trust)
    unknown = g.add(g.mul(trouble, g.const(0.0)), g.const(UNKNOWN_BELOW))
    g.output(g.concat([fits, unknown], axis=1), "kind", np.float32, ["batch", len(KINDS)])


def _expected(g: Graph, seen: Seen, fields: tuple[str, ...]) -> None:
    """Add the output `expected`: the levels in natural units, all members, no change of leader; NaN for the rest."""
    lift = np.array([1.0 if name in COUNTS else 0.0 for name in LOGGED], np.float32)
    levels = g.clip(seen.level, None, 60.0)  # a memory that is absurd must not overflow
    natural = g.op("Max", g.sub(g.smooth("Exp", levels, len(LOGGED)), g.const(lift)), g.const(0.0))
    columns = {name: g.slice(natural, 1, i, i + 1) for i, name in enumerate(LOGGED)}
    none = g.mul(seen.members, g.const(0.0))
    columns |= {"active_nodes": seen.members, "leader_changes": none}
    missing = g.add(none, g.const(np.nan))
    expected = g.concat([columns.get(name, missing) for name in fields], axis=1)
    g.output(expected, "expected", np.float32, ["batch", len(fields)])


def _explain(g: Graph, recipe: Recipe, features: str, fields: tuple[str, ...]) -> None:
    """Add the output `contribution`: of the part of the score that is larger."""
    owner = [BLAMED.get(name.split(" ")[0], name.split(" ")[0]) for name in FEATURES]
    kept = np.array([[field != of for of in owner] for field in fields], np.float32)
    squashed = g.smooth("Tanh", g.div(features, g.const(SQUASH)), len(FEATURES))
    whole = add_network(g, recipe.params, g.op("Unsqueeze", squashed, g.ints(1)), "whole")
    without = add_network(g, recipe.params, g.mul(g.op("Unsqueeze", squashed, g.ints(1)), g.const(kept)), "without")
    lost = g.clip(g.sub(_suspicion(g, whole, 1), _suspicion(g, without, len(fields))), 0.0, None)

    parts = add_parts(g, features, recipe.units)
    to_field = np.zeros((len(CHANNELS), len(fields)), np.float32)
    for i, name in enumerate(CHANNELS):
        to_field[i, fields.index(BLAMED.get(name, name))] = 1.0
    odd = wide_matmul(g, parts, to_field)
    known = g.div(g.take(_suspicion(g, whole, 1), 1, 0), g.const(recipe.suspicion))
    more = g.op("Greater", g.div(add_surprise(g, parts), g.const(recipe.surprise)), known)
    blame = g.where(g.op("Unsqueeze", more, g.ints(1)), odd, lost)
    total = g.op("Unsqueeze", g.row_sum(blame, len(fields)), g.ints(1))
    share = g.div(blame, g.op("Max", total, g.const(1e-12)))
    g.output(share, "contribution", np.float32, ["batch", len(fields)])


def _suspicion(g: Graph, scores: str, rows: int) -> str:
    """-log p(normal) [B, rows] of logits [B, rows, OUTPUTS]."""
    top = g.reduce("ReduceMax", scores, [2])
    powers = g.smooth("Exp", g.sub(scores, top), rows, OUTPUTS)
    total = g.op("Sum", *(g.take(powers, 2, i) for i in range(OUTPUTS)))
    normal = g.sub(g.take(scores, 2, 0), g.take(top, 2, 0))
    return g.sub(g.smooth("Log", total, rows), normal)

"""The graphs that are published: from the window to score, probability and expected values, and to contributions."""

from collections.abc import Sequence

import numpy as np

from dwcp_stream.training.calibration import Calibration
from dwcp_stream.training.ensemble import ML_OPSETS, Tree, add_ensemble
from dwcp_stream.training.graph import Graph, to_bytes
from dwcp_stream.training.incident.design import Design
from dwcp_stream.training.incident.features import add_features, newest_words
from dwcp_stream.training.incident.normal import Normal, Scaled, add_normal, add_scaled, expected_values
from dwcp_stream.training.incident.thresholds import Platt


def incident_model(design: Design, trees: Sequence[Tree], calibration: Calibration, platt: Platt) -> bytes:
    """Graph from `window` and `state_in` to `score`, `probability` [B], `expected` [B, F] and `state_out`.

    `expected` is the entity's own level of each numeric field, NaN for fields with a vocabulary.
    """
    g = Graph("incident")
    window, state = _inputs(g, design)
    scaled = add_scaled(g, window, design)
    normal = add_normal(g, scaled, state, design)
    features, _ = add_features(g, scaled, normal, newest_words(g, window, design), design)
    margin = g.op("Squeeze", add_ensemble(g, "trees", trees, features), g.ints(1))
    g.output(calibration.add_score(g, margin), "score", np.float32, ["batch"])
    line = g.add(g.mul(margin, g.const(platt.slope)), g.const(platt.offset))
    g.output(g.op("Sigmoid", line), "probability", np.float32, ["batch"])
    expected = expected_values(g, normal.level, design)
    if design.words:
        first = g.slice(expected, 1, 0, 1)
        nothing = g.mul(first, g.const(np.full((1, len(design.words)), np.nan)))
        expected = g.concat([expected, nothing], 1)
    g.output(expected, "expected", np.float32, ["batch", len(design.fields)])
    g.output(normal.state, "state_out", np.float32, ["batch", design.state_size])
    return to_bytes(g.model(opsets=ML_OPSETS))


def explain_model(design: Design, trees: Sequence[Tree], calibration: Calibration) -> bytes:
    """Graph from `window` and `state_in` to `contribution` [B, F], in units of the score.

    A field's contribution is what the score loses when the field is normal: all its known rows at the entity's
    level, or its word unknown. Entity and variants go through the trees as one batch.
    """
    g = Graph("incident-explain")
    window, state = _inputs(g, design)
    scaled = add_scaled(g, window, design)
    normal = add_normal(g, scaled, state, design)
    count, numeric = len(design.fields), design.numeric

    changed = np.zeros((1, count + 1, 1, numeric), bool)
    changed[0, np.arange(1, numeric + 1), 0, np.arange(numeric)] = True
    known = g.op("Unsqueeze", scaled.known, g.ints(1))
    level = g.mul(g.op("Unsqueeze", normal.level, g.ints(1, 2)), known)
    value = g.where(g.const(changed, np.bool_), level, g.op("Unsqueeze", scaled.value, g.ints(1)))

    def every(x: str, *shape: int) -> str:
        """One copy per variant, [B * variants, *shape]."""
        filler = g.const(np.zeros((1, count + 1, *(1 for _ in shape)), np.float32))
        return g.reshape(g.add(g.op("Unsqueeze", x, g.ints(1)), filler), -1, *shape)

    many = Scaled(g.reshape(value, -1, design.window, numeric), every(scaled.known, design.window, numeric))
    usual = Normal(every(normal.level, numeric), every(normal.spread, numeric), "")
    words = newest_words(g, window, design)
    if words:
        hidden = np.zeros((1, count + 1, len(design.words)), np.float32)
        hidden[0, np.arange(numeric + 1, count + 1), np.arange(len(design.words))] = np.nan
        words = g.reshape(g.add(g.op("Unsqueeze", words, g.ints(1)), g.const(hidden)), -1, len(design.words))
    features, _ = add_features(g, many, usual, words, design)
    margins = g.reshape(add_ensemble(g, "trees", trees, features), -1, count + 1)
    lost = g.sub(g.slice(margins, 1, 0, 1), g.slice(margins, 1, 1))
    unit = np.float32(calibration.threshold) - np.float32(calibration.base)
    g.output(g.div(lost, g.const(unit)), "contribution", np.float32, ["batch", count])
    return to_bytes(g.model(opsets=ML_OPSETS))


def _inputs(g: Graph, design: Design) -> tuple[str, str]:
    """Declare the inputs; the model does not look at the time of day."""
    window = g.input("window", np.float32, ["batch", design.window, len(design.fields)])
    g.input("time", np.float64, ["batch", design.window])
    return window, g.input("state_in", np.float32, ["batch", design.state_size])

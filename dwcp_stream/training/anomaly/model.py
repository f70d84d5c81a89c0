"""The model as one ONNX graph, from raw window and memory to score, expected values and the new memory."""

import numpy as np
from numpy.typing import NDArray

from dwcp_stream.training.anomaly import memory
from dwcp_stream.training.anomaly.products import wide_matmul
from dwcp_stream.training.anomaly.recipe import Recipe
from dwcp_stream.training.graph import Graph, to_bytes

HOLD_DECAY, HOLD_LIMIT = 0.9, 0.98
"""After a high score the next ones are held up, falling by a tenth a row, but never over the threshold."""


def state_size(fields: int) -> int:
    """Count the numbers kept per entity: by field level, faster means, anchor and norms; rarity, rows, held score."""
    return (2 + len(memory.MEAN_RATES) + len(memory.KINDS)) * fields + 3


class _Parts:
    """Values that the score and the explanation share."""

    def __init__(self, g: Graph, recipe: Recipe, window: int) -> None:
        self.g, self.recipe = g, recipe
        self.fields = fields = len(recipe.level)
        source = g.input("window", np.float32, ["batch", window, fields])
        time = g.input("time", np.float64, ["batch", window])
        state = g.input("state_in", np.float32, ["batch", state_size(fields)])
        # only an entity's first level needs the whole window
        self.window = rows = window if recipe.between.any() else recipe.reach + 1
        z = recipe.channels.add(g, g.slice(source, 1, window - rows))
        self.seasonal = ""
        if recipe.season.frequencies:
            season = recipe.season.add(g, g.slice(time, 1, window - rows), rows)
            z = g.sub(z, season)
            self.seasonal = g.take(season, 1, rows - 1)
        last = g.take(z, 1, rows - 1)
        self.last, missing = last, g.is_nan(last)
        self.known = g.cast(g.op("Not", missing), np.float32)
        mean, rows_known = self._first_mean(z)
        first = self._drawn(mean, rows_known, recipe.level)
        self.level = self._start(g.slice(state, 1, 0, fields), first)
        kept = 1 + len(memory.MEAN_RATES)
        slow = self._drawn(mean, rows_known, recipe.anchor)
        self.anchor = self._start(g.slice(state, 1, kept * fields, (kept + 1) * fields), slow)
        norms = g.slice(state, 1, (kept + 1) * fields, -3)
        self.power = g.op("Max", self._start(norms, g.const(recipe.power[None])), g.const(0.0))
        self.rarity = self._start(g.slice(state, 1, -3, -2), g.const([[0.0]]))
        seen = g.reduce("ReduceMax", rows_known, [1]) if rows_known else g.const([[0.0]])
        self.count = g.op("Max", self._start(g.slice(state, 1, -2, -1), seen), g.const(0.0))
        self.held = g.clip(self._start(g.slice(state, 1, -1), g.const([[0.0]])), 0.0, None)
        self.gain = self._gain()
        self.means = [self._mean(self._start(g.slice(state, 1, fields, 2 * fields), first), last, recipe.rates.mean)]
        self.predicted = self._predict(z)
        above = g.where(missing, g.const(0.0), g.sub(last, self.level))
        self.above = above
        residual = g.mul(g.sub(above, self.predicted), self.known)
        lasting = [g.mul(g.sub(mean, self.level), self.known) for mean in self.means]
        size = g.op("Abs", g.concat([residual, above, *lasting], axis=1))
        self.size = g.clip(size, 0.0, memory.DEVIATION_LIMIT)
        self.base = g.add(self.power, g.const(memory.FLOOR**memory.EIGHTH))
        norm = g.op("Sqrt", g.op("Sqrt", g.op("Sqrt", self.base)))
        unusual = g.div(self.size, norm)
        squared = g.mul(unusual, unusual)
        kinds = range(len(memory.KINDS))
        self.squares = [g.slice(squared, 1, kind * fields, (kind + 1) * fields) for kind in kinds]
        count = self._total(self.known)
        self.scores = []
        for square, tail in zip(self.squares, recipe.tails, strict=True):
            mean = g.div(self._total(square), g.op("Max", count, g.const(1.0)))
            self.scores.append(tail.add(g, g.op("Sqrt", mean)))
        self._rare(last, missing, count)
        self.score = g.op("Max", *self.scores)

    def _start(self, state: str, value: str) -> str:
        """Take the state where there is one."""
        return self.g.where(self.g.is_nan(state), value, state)

    def _rare(self, last: str, missing: str, count: str) -> None:
        """Add the evidence of rarity, if the recipe has it."""
        g, recipe = self.g, self.recipe
        if recipe.marginal is None or recipe.rarity is None:
            return
        own = g.where(missing, g.const(0.0), g.sub(last, self.anchor))
        rare = g.mul(recipe.marginal.add(g, own), self.known)
        squared = g.mul(rare, rare)
        mean = g.op("Sqrt", g.div(self._total(squared), g.op("Max", count, g.const(1.0))))
        step = g.sub(g.op("Unsqueeze", mean, g.ints(1)), self.rarity)
        self.rarity = g.add(self.rarity, g.mul(step, g.const(recipe.rates.rarity)))
        self.squares.append(squared)
        self.scores.append(recipe.rarity.add(g, g.reshape(g.op("Max", self.rarity, g.const(0.0)), -1)))

    def _mean(self, mean: str, last: str, rate: float) -> str:
        """Take the last row into a mean; a missing value leaves it."""
        g = self.g
        step = g.mul(g.sub(last, mean), self._rate(rate))
        return g.add(mean, g.where(g.is_nan(last), g.const(0.0), step))

    def _new_anchor(self) -> str:
        """Let the row move the anchor: faster among an entity's first rows, and never far at once."""
        g, usual = self.g, self.recipe.rates.anchor
        rate = g.const(usual)
        if self.gain:
            early = g.op("Less", self.count, g.const(float(memory.ANCHOR_ROWS)))
            rate = g.where(early, self._rate(usual), rate)
        away = g.clip(g.sub(self.last, self.anchor), -memory.ANCHOR_LIMIT, memory.ANCHOR_LIMIT)
        return g.add(self.anchor, g.where(g.is_nan(self.last), g.const(0.0), g.mul(away, rate)))

    def _gain(self) -> str:
        """Share of the next row in a new entity's level, b / ((n + 1) b + 1); empty if entities do not differ."""
        g, between = self.g, self.recipe.between
        if not between.any():
            return ""
        rows = g.mul(g.add(self.count, g.const(1.0)), g.const(between))
        return g.div(g.const(between), g.add(rows, g.const(1.0)))

    def _rate(self, rate: float) -> str:
        return self.g.op("Max", self.gain, self.g.const(rate)) if self.gain else self.g.const(rate)

    def _first_mean(self, z: str) -> tuple[str, str]:
        """Mean of the window's known rows and their number, both [B, F]; empty if entities do not differ."""
        g = self.g
        if not self.recipe.between.any():
            return "", ""
        missing = g.is_nan(z)
        total = g.reduce("ReduceSum", g.where(missing, g.const(0.0), z), [1], keep=False)
        number = g.reduce("ReduceSum", g.cast(g.op("Not", missing), np.float32), [1], keep=False)
        return g.div(total, g.op("Max", number, g.const(1.0))), number

    def _drawn(self, mean: str, number: str, usual: NDArray[np.float32]) -> str:
        """Level of an entity without a memory: the usual one, drawn to its mean by n b / (n b + 1)."""
        g = self.g
        if not mean:
            return g.const(usual[None])
        weight = g.mul(number, g.const(self.recipe.between))
        weight = g.div(weight, g.add(weight, g.const(1.0)))
        return g.add(g.mul(g.sub(mean, g.const(usual)), weight), g.const(usual))

    def _predict(self, z: str) -> str:
        """Prediction of the last row relative to its level."""
        g, lags = self.g, self.recipe.regression.lags
        if not lags:
            return g.mul(self.level, g.const(0.0))
        value, past = "", {}
        for back in range(self.recipe.reach, 0, -1):
            row = g.take(z, 1, self.window - 1 - back)
            value = g.where(g.is_nan(row), value, row) if value else row
            if back in lags:
                past[back] = g.where(g.is_nan(value), g.const(0.0), g.sub(value, self.level))
        return self.recipe.regression.add(g, [past[lag] for lag in lags])

    def _total(self, x: str) -> str:
        """Sum over fields, [B, F] to [B]."""
        return self.g.take(wide_matmul(self.g, x, np.ones((self.fields, 1), np.float32)), 1, 0)

    def new_state(self, held: str) -> str:
        """Level, norms and held score after the row; a missing field changes nothing."""
        g = self.g
        level = g.add(self.level, g.mul(self.above, self._rate(self.recipe.rates.level)))
        eighth = g.mul(self.size, self.size)
        eighth = g.mul(eighth, eighth)
        eighth = g.mul(eighth, eighth)
        most = g.mul(self.base, g.const(memory.WINSOR**memory.EIGHTH))
        growth = g.mul(g.sub(g.op("Min", eighth, most), self.power), g.const(self.recipe.rates.norm))
        power = g.add(self.power, g.mul(growth, g.concat([self.known] * len(memory.KINDS), axis=1)))
        anchor = self._new_anchor()
        count = g.add(self.count, g.const(1.0))
        return g.concat([level, *self.means, anchor, power, self.rarity, count, held], axis=1)

    def told(self) -> str:
        """Squared evidence [B, F] of the kind that tells most; of equal ones the first."""
        g, kind = self.g, self.squares[0]
        best = self.scores[0]
        for square, score in zip(self.squares[1:], self.scores[1:], strict=True):
            kind = g.where(g.op("Unsqueeze", g.op("Greater", score, best), g.ints(1)), square, kind)
            best = g.op("Max", score, best)
        return kind

    def expected(self) -> str:
        """Add the expected values [B, F]: the prediction, or the level where another kind tells more."""
        g = self.g
        follows = g.op("Equal", self.scores[0], self.score)
        relative = g.mul(self.predicted, g.cast(g.op("Unsqueeze", follows, g.ints(1)), np.float32))
        scaled = g.add(self.level, relative)
        return self.recipe.channels.add_natural(g, g.add(scaled, self.seasonal) if self.seasonal else scaled)


def build(recipe: Recipe, window: int, *, explain: bool = False) -> bytes:
    """Serialise the model.

    Parameters
    ----------
    recipe
        Its constants.
    window
        Rows of its window.
    explain
        Make the graph whose output is `contribution` [B, F], each field's share of the evidence that tells (sums to
        1, or to 0 if there is none), instead of `score`, `expected` and `state_out`.
    """
    g = Graph("anomaly_explain" if explain else "anomaly")
    parts = _Parts(g, recipe, window)
    fields = parts.fields
    if explain:
        told = parts.told()
        total = g.op("Unsqueeze", parts._total(told), g.ints(1))
        g.output(g.div(told, g.op("Max", total, g.const(1e-12))), "contribution", np.float32, ["batch", fields])
        return to_bytes(g.model())
    fallen = g.mul(g.reshape(parts.held, -1), g.const(HOLD_DECAY))
    held = g.op("Max", parts.score, fallen)
    g.output(g.op("Max", parts.score, g.clip(held, None, HOLD_LIMIT)), "score", np.float32, ["batch"])
    g.output(parts.expected(), "expected", np.float32, ["batch", fields])
    state = parts.new_state(g.op("Unsqueeze", held, g.ints(1)))
    g.output(state, "state_out", np.float32, ["batch", state_size(fields)])
    return to_bytes(g.model())


def hold(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Hold up the scores [N] of one entity as the graph does."""
    result, held = np.array(scores, np.float64), 0.0
    for i, score in enumerate(scores):
        held = max(held * HOLD_DECAY, float(score))
        result[i] = max(float(score), min(held, HOLD_LIMIT))
    return result

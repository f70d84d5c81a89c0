"""From a row's fields to channels of comparable size: centred, scaled, limited; words by their rarity."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dwcp_stream.streams.definition import Field
from dwcp_stream.training.graph import Graph

LIMIT = 20.0
"""Scaled values beyond it count as this: one absurd reading must not outweigh all others."""
ABSURD = 100.0
"""Times the 90 % quantile of distances: what is farther does not count for the scale."""
IGNORED = np.float32(1e37)
"""Scale of a field that training has no value of: whatever it is, it counts for nothing."""
RESOLUTION, CONSTANT_SHARE, SMALLEST = 1e-6, 1e-3, 1e-30


@dataclass(frozen=True)
class Channels:
    """How to scale each field.

    Attributes
    ----------
    center, scale
        [F]; of a coded field in units of rarity, -log of a word's share of the training rows; `IGNORED` for a field
        that training has no value of.
    tables
        Per coded field (by column) the rarity of each word; the commonest word's code in `common`.
    common
        Code of the commonest word by column.
    """

    center: NDArray[np.float32]
    scale: NDArray[np.float32]
    tables: dict[int, NDArray[np.float32]]
    common: dict[int, int]

    def apply(self, values: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Scale rows [..., F], NaN stays NaN."""
        raw = np.asarray(values, np.float64).copy()
        for column, table in self.tables.items():
            codes = raw[..., column]
            known = np.isfinite(codes)
            places = np.clip(np.where(known, codes, 0.0), 0, len(table) - 1).astype(np.int64)
            raw[..., column] = np.where(known, table[places], np.nan)
        return np.clip((raw - self.center) / self.scale, -LIMIT, LIMIT)

    def add(self, g: Graph, window: str) -> str:
        """Add the same to a graph: [B, T, F] to scaled values, NaN stays NaN."""
        fields = len(self.center)
        columns = []
        for column, table in self.tables.items():
            code = g.take(window, 2, column)
            missing = g.is_nan(code)
            known = g.where(missing, g.const(0.0), code)
            place = g.cast(g.clip(known, 0.0, float(len(table) - 1)), np.int64)
            rarity = g.op("Gather", g.const(table), place, axis=0)
            columns.append((column, g.where(missing, g.const(np.nan), rarity)))
        if columns:
            parts, at = [], 0
            for column, value in columns:
                parts += [g.slice(window, 2, at, column)] if column > at else []
                parts.append(g.op("Unsqueeze", value, g.ints(2)))
                at = column + 1
            parts += [g.slice(window, 2, at)] if at < fields else []
            window = g.concat(parts, axis=2) if len(parts) > 1 else parts[0]
        missing = g.is_nan(window)
        filled = g.where(missing, g.const(0.0), window)
        scaled = g.div(g.sub(filled, g.const(self.center)), g.const(self.scale))
        return g.where(missing, g.const(np.nan), g.clip(scaled, -LIMIT, LIMIT))

    def add_natural(self, g: Graph, scaled: str) -> str:
        """Add the way back of [B, F] to the fields' units; of a coded field the commonest word."""
        ignored = self.scale == IGNORED
        natural = g.add(g.mul(scaled, g.const(np.where(ignored, 0.0, self.scale))), g.const(self.center))
        if ignored.any():
            natural = g.where(g.const(ignored[None], np.bool_), g.const(np.nan), natural)
        if not self.tables:
            return natural
        coded = np.array([[column in self.tables for column in range(len(self.center))]])
        codes = np.array([self.common.get(column, 0) for column in range(len(self.center))], np.float32)
        return g.where(g.const(coded, np.bool_), g.const(codes), natural)


def fit_channels(values: NDArray[np.floating[Any]], fields: tuple[Field, ...]) -> Channels:
    """Choose centre (median) and scale (standard deviation) of each field from training rows [N, F].

    A field that is constant in training gets a thousandth of its size as scale, or 1 if it is always 0: any
    change of it stands out. A field without a single value is ignored.
    """
    center, scale = np.zeros(len(fields)), np.ones(len(fields))
    tables: dict[int, NDArray[np.float32]] = {}
    common: dict[int, int] = {}
    for column, field in enumerate(fields):
        known = np.asarray(values[:, column], np.float64)
        known = known[np.isfinite(known)]
        if not len(known):
            scale[column] = IGNORED
        elif field.coded:
            words = len(field.vocabulary)
            counts = np.bincount(known.astype(np.int64), minlength=words)[:words]
            table = -np.log((counts + 1.0) / (counts.sum() + words))
            tables[column], common[column] = table.astype(np.float32), int(counts.argmax())
            center[column] = table.min()
            scale[column] = max(float(np.sqrt((counts * (table - table.min()) ** 2).sum() / max(counts.sum(), 1))), 1.0)
        else:
            center[column] = np.median(known)
            # an absurd reading or two must not make the rest look constant
            distance = np.abs(known - center[column])
            spread = np.quantile(distance, 0.9)
            near = known[distance <= ABSURD * spread] if spread > 0 else known
            scale[column] = _scale(float(near.std()), float(np.abs(near).max()))
    return Channels(center.astype(np.float32), np.maximum(scale, SMALLEST).astype(np.float32), tables, common)


def _scale(deviation: float, size: float) -> float:
    """Scale of a field by its deviation, or, where float32 could not hold that beside its size, by its size."""
    if deviation > RESOLUTION * size:
        return deviation
    return CONSTANT_SHARE * size if size > SMALLEST else 1.0

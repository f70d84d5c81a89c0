"""What the trees see: each field now, against its entity's normal, and how far all fields together are from it.

Distances are in the entity's own spreads, so that an entity which is slower, larger or noisier than those of
the training files is judged by its own standard. The measures over all fields hold no field's name: they are
what finds a cause that no training row shows.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from dwcp_stream.training.graph import Graph
from dwcp_stream.training.incident.design import Design
from dwcp_stream.training.incident.normal import Normal, Scaled, add_capped, add_mean

FAR: Final = 3.0  # spreads from which a field counts as far from normal
TOP: Final = 3  # fields whose mean distance is a measure of its own


@dataclass(frozen=True)
class Column:
    """One feature: its name, and whether more of it is worse."""

    name: str
    rising: bool = False


def newest_words(g: Graph, window: str, design: Design) -> str:
    """Codes of the newest row of a window [B, T, F], one column per field with a vocabulary; "" without any."""
    return g.slice(g.take(window, 1, -1), 1, design.numeric) if design.words else ""


def add_features(g: Graph, scaled: Scaled, normal: Normal, words: str, design: Design) -> tuple[str, list[Column]]:
    """Add the features.

    Parameters
    ----------
    g
        Graph.
    scaled, normal, words
        Values of `add_scaled`, `add_normal` and `newest_words`.
    design
        Constants.

    Returns
    -------
    tuple
        Value [B, N], NaN where a field has no value to compute from; the N columns in order.
    """
    names = design.fields[: design.numeric]
    parts: list[str] = []
    columns: list[Column] = []
    families = dict(_families(g, scaled, normal, design))
    for family, value in families.items():
        parts.append(value)
        columns += [Column(f"{name} {family}") for name in names]
    if design.gappy:
        parts.append(_missing(g, scaled, design.gappy))
        columns += [Column(f"{names[p]} missing") for p in design.gappy]
    for family in ("now", f"mean {design.lengths[0]}", f"spread {design.lengths[0]}"):
        if family in families:
            for measure, value in _over_fields(g, families[family], design.numeric):
                parts.append(value)
                columns.append(Column(f"all fields: {family}, {measure}", rising=True))
    for number, codes in enumerate(design.words):
        name = design.fields[design.numeric + number]
        newest = g.slice(words, 1, number, number + 1)
        parts.append(g.cast(g.op("Equal", newest, g.const(np.array(codes, np.float32))), np.float32))
        columns += [Column(f"{name} is word {code}") for code in codes]
    return g.concat(parts, 1), columns


def _families(g: Graph, scaled: Scaled, normal: Normal, design: Design) -> Iterator[tuple[str, str]]:
    """Features [B, P] of each numeric field, by name."""
    value, known = scaled.value, scaled.known
    level, spread = g.op("Unsqueeze", normal.level, g.ints(1)), g.op("Unsqueeze", normal.spread, g.ints(1))

    def row(x: str) -> str:
        return g.op("Squeeze", x, g.ints(1))

    def against(x: str) -> str:
        return row(g.div(g.sub(x, level), spread))

    held = _held(g, scaled, design.window)
    yield "value", row(held)
    yield "now", against(held)
    means = {rows: add_mean(g, scaled, rows) for rows in design.lengths}
    for rows, (mean, count) in means.items():
        if rows == 1:
            continue
        yield f"mean {rows}", against(mean)
        if rows > 2:
            off = g.mul(g.sub(g.slice(value, 1, -rows), mean), g.slice(known, 1, -rows))
            variance = g.div(g.reduce("ReduceSum", g.mul(off, off), [1]), count)
            yield f"spread {rows}", row(g.div(g.op("Sqrt", variance), spread))
    short, full = design.lengths[0], design.window
    if short < full:
        (mean, count), (_, every) = means[short], means[full]
        total = g.reduce("ReduceSum", g.slice(value, 1, 0, -short), [1])
        earlier = g.div(total, g.sub(every, count))
        yield "shift", row(g.div(g.sub(mean, earlier), spread))


def _missing(g: Graph, scaled: Scaled, gappy: Sequence[int]) -> str:
    """Share of a field's values that are missing in the rows that came, for the fields that miss any."""
    every = g.reduce("ReduceSum", scaled.known, [1], keep=False)
    # not of the whole window: how long an entity has been watched says nothing of its health
    came = g.op("Max", g.reduce("ReduceMax", every, [1]), g.const(1.0))
    return g.take(g.sub(g.const(1.0), g.div(every, came)), 1, gappy)


def _held(g: Graph, scaled: Scaled, window: int) -> str:
    """Newest known value of each field, [B, 1, P]; NaN where there is none."""
    position = g.const(np.arange(1, window + 1, dtype=np.float32).reshape(1, window, 1))
    at = g.mul(scaled.known, position)
    newest = g.reduce("ReduceMax", at, [1])
    here = g.mul(g.cast(g.op("Equal", at, newest), np.float32), scaled.known)
    count = g.reduce("ReduceSum", here, [1])
    return g.div(g.reduce("ReduceSum", g.mul(scaled.value, here), [1]), count)


def _over_fields(g: Graph, distance: str, fields: int) -> Iterator[tuple[str, str]]:
    """Measures [B, 1] of distances [B, P] over the fields: sums of exact steps, so that no order matters."""
    known = g.cast(g.op("Not", g.is_nan(distance)), np.float32)
    count = g.op("Max", g.reduce("ReduceSum", known, [1]), g.const(1.0))
    capped = add_capped(g, distance)
    yield "mean", g.div(g.reduce("ReduceSum", capped, [1]), count)
    if fields > TOP:
        largest, _ = g.multi("TopK", [capped, g.ints(TOP)], 2, axis=1)
        yield "largest", g.slice(largest, 1, 0, 1)
        yield f"largest {TOP}", g.div(g.reduce("ReduceSum", largest, [1]), g.const(float(TOP)))
        far = g.cast(g.op("Greater", capped, g.const(FAR)), np.float32)
        yield "share far", g.div(g.reduce("ReduceSum", far, [1]), count)

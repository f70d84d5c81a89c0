"""How a forecaster does on each entity beside repeating the last value, and over entities."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dwcp_stream.training.dataset import Grid, Ints
from dwcp_stream.training.forecast.compare import diebold_mariano, holm, pooled_skill
from dwcp_stream.training.forecast.layout import Layout
from dwcp_stream.training.forecast.rows import F32, Mask
from dwcp_stream.training.metrics import skill
from dwcp_stream.training.report import table

Result = dict[str, Any]
LISTED = 40
"""Entities named in a report."""


def compare_entities(
    grid: Grid,
    rows: Ints,
    judged: Mask,
    actual: NDArray[np.float64],
    made: F32,
    last: NDArray[np.float64],
    shape: Layout,
) -> list[Result]:
    """Per target and horizon: skill of each entity over the last value, with a test, and how often it was repeated."""
    names = grid.entity[rows]
    results = []
    for i, horizon in enumerate(shape.horizons):
        for j, target in enumerate(shape.targets):
            own = np.abs(actual[:, i, j] - made[:, i, j, 1])
            repeated = np.abs(actual[:, i, j] - last[:, i, j])
            known = judged & np.isfinite(own) & np.isfinite(repeated)
            found = []
            for e in np.unique(names[known]):
                mine = known & (names == e)
                statistic, p = diebold_mariano(own[mine], repeated[mine], horizon)
                same = np.isclose(made[mine, i, j, 1], last[mine, i, j], rtol=1e-6, atol=0)
                found.append((grid.entities[e], own[mine].mean(), repeated[mine].mean(), statistic, p, same.mean()))
            if found:
                adjusted = holm(np.array([f[4] for f in found]))
                results.append({"horizon": horizon, "target": target, "rows": found, "p": adjusted})
    return results


def pooled(e: Result) -> Result:
    """Sum up one target and horizon in plain numbers."""
    error, reference = (np.array([f[k] for f in e["rows"]]) for k in (1, 2))
    middle, low, high = pooled_skill(error, reference)
    worse = (e["p"] < 0.05) & (np.array([f[3] for f in e["rows"]]) > 0)
    return {
        "entities": len(error),
        "better": int((error < reference).sum()),
        "worse_significantly": int(worse.sum()),
        "pooled_skill": middle,
        "pooled_low": low,
        "pooled_high": high,
    }


def describe(entities: list[Result]) -> str:
    """Write the section of the report: a row per target and horizon, and the entities that do badly."""
    rows, worst = [], []
    for e in entities:
        n = pooled(e)
        interval = f"{n['pooled_skill']:.1%} ({n['pooled_low']:.1%} to {n['pooled_high']:.1%})"
        rows.append([e["horizon"], e["target"], n["entities"], n["better"], n["worse_significantly"], interval])
        worst += [
            f"- {f[0]}, {e['target']} at +{e['horizon']}: skill {skill(f[1], f[2]):.1%}; the last value was repeated "
            f"in {f[5]:.0%} of its rows."
            for f in e["rows"]
            if f[1] > f[2] or f[5] > 0.5
        ]
    text = table(
        ("horizon", "target", "entities", "better than persistence", "significantly worse", "pooled skill"), rows
    )
    note = (
        "\n\nSignificance: Diebold-Mariano on absolute errors, Newey-West, two-sided 5 % after Holm's correction; the "
        "interval is that of drawing entities again. Where an entity's running error of the model is over that of the "
        "last value, the graph repeats the last value."
    )
    listed = "\n".join(worst[:LISTED]) or "None."
    head = "Entities with a worse error than the last value, or with it repeated most of the time:"
    return f"{text}{note}\n\n{head}\n\n{listed}"

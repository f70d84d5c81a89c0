"""Report of the default forecaster: errors by horizon and target beside the simple forecasts, and per entity."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dwcp_stream.training.dataset import Grid
from dwcp_stream.training.forecast import simple
from dwcp_stream.training.forecast.entities import compare_entities, describe, pooled
from dwcp_stream.training.forecast.fit import Fitted
from dwcp_stream.training.forecast.graph import Parts
from dwcp_stream.training.forecast.layout import Layout, Season
from dwcp_stream.training.forecast.rows import F32, Mask, Split, Table, later_values
from dwcp_stream.training.job import Job
from dwcp_stream.training.metrics import coverage, detection, mae, number_events, pinball, plain, skill
from dwcp_stream.training.report import band_plot, bar_plot, document, line_plot, table

HEADER = (
    *("horizon", "target", "MAE", "MAPE %", "correlation", "pinball", "coverage", "skill over persistence"),
    *("best baseline", "its MAE", "skill over it"),
)
METHOD = """

MAE and pinball are in the target's unit; MAPE leaves out rows where the target is 0; coverage is the share of
actuals in [q10, q90], aimed at 80 %; skill is the share of the other forecast's MAE that is saved (negative: worse).
The baselines: the last value, the value a season before (a day where no season was found), a linear autoregression
on the window's rows, and the window's mean. A high correlation is no merit by itself: that of the last value is
beside it in the metrics. The figures are of the model fitted on the training part; what is published has the same
settings and the weights of a fit on all rows, which no rows are left to judge. Known entities come with the memory
of their earlier rows, new ones with that of theirs; "from an empty memory" is the same test time begun by itself, as
in a backtest of a file of its own: the first season is then unknown."""
NEW = "all entities, from an empty memory"
Result = dict[str, Any]


@dataclass(frozen=True)
class Trial:
    """A set of seasons that was tried: its best ridge, and its validation error as a share of persistence's."""

    seasons: tuple[Season, ...]
    ridge: float
    cost: float


def write_report(
    job: Job,
    grid: Grid,
    parted: Split,
    table_: Table,
    fitted: Fitted,
    parts: Parts,
    made: dict[str, F32],
    trials: list[Trial],
    label: str,
) -> tuple[str, dict[str, bytes], Result]:
    """Write the report.

    Returns
    -------
    tuple
        Markdown, plots by file name, metrics for the manifest.
    """
    shape = parts.shape
    baselines = simple.forecasts(grid, parted, table_, shape)
    sets = {"known entities": parted.test, "new entities": parted.unknown}
    sets = {name: mask for name, mask in sets.items() if mask.any()}
    actual = later_values(grid, parted.rows, shape).astype(np.float64)
    results = {name: _errors(mask, actual, made["quantiles"], baselines, shape) for name, mask in sets.items()}
    if sets:
        everyone = np.logical_or.reduce(list(sets.values()))
        results[NEW] = _errors(everyone, actual, made["new"], baselines, shape)
    judged = np.logical_or.reduce(list(sets.values())) if sets else parted.test
    entities = compare_entities(grid, parted.rows, judged, actual, made["quantiles"], baselines["persistence"], shape)
    counts = ", ".join(f"{int(getattr(parted, p).sum())} {p}" for p in ("train", "valid", "test", "unknown"))
    sections = {
        "": f"Linear quantile regression with a small network, window {shape.window} rows, horizons "
        f"{', '.join(map(str, shape.horizons))} rows, seed {job.seed}, ridge {fitted.ridge:g}, {fitted.epochs} epochs. "
        f"Made by\n\n    {job.command}",
        "Data": f"{len(np.unique(grid.entity[parted.rows]))} entities in {', '.join(p.name for p in job.files)}; "
        f"windows: {counts}. Seen as logarithms: {', '.join(_logs(shape)) or 'no target'}." + METHOD,
        "Seasons": _seasons(trials, shape),
        **{f"Test time, {name}": table(HEADER, [_row(r) for r in result]) for name, result in results.items()},
        "Entities": describe(entities),
        "Alarms": _alarms(grid, parted, made["score"], label),
        "Where it loses": _losses(results, fitted, shape),
    }
    plots = {"training.png": _loss_plot(fitted), **_example(grid, parted, actual, made["quantiles"], shape)}
    if results:
        first = next(iter(results.values()))
        groups = [f"{r['target']} +{r['horizon']}" for r in first][:16]
        bars = {name: [r["skill_persistence"] for r in result][:16] for name, result in results.items()}
        plots["skill.png"] = bar_plot("Skill over persistence", groups, bars, ylabel="share of MAE saved")
    sections["Plots"] = "\n".join(f"![{name}]({name})" for name in plots)
    metrics = plain(
        {
            **{
                name.replace(",", "").replace(" ", "_"): {f"{r['target']}+{r['horizon']}": r for r in result}
                for name, result in results.items()
            },
            "entities": {f"{e['target']}+{e['horizon']}": pooled(e) for e in entities},
            "seasons": [s.seconds for s in shape.seasons],
        }
    )
    return document(f"{job.binding.name}: report", sections), plots, metrics


def _errors(
    mask: Mask, actual: NDArray[np.float64], made: F32, baselines: dict[str, NDArray[np.float64]], shape: Layout
) -> list[Result]:
    results = []
    for i, horizon in enumerate(shape.horizons):
        for j, target in enumerate(shape.targets):
            truth, q = actual[mask, i, j], made[mask, i, j].astype(np.float64)
            known = np.isfinite(truth) & np.isfinite(q[:, 1])
            for forecast in baselines.values():
                known &= np.isfinite(forecast[mask, i, j])
            if not known.any():
                continue
            truth, q = truth[known], q[known]
            errors = {name: mae(truth, forecast[mask, i, j][known]) for name, forecast in baselines.items()}
            best = min(errors, key=lambda name: errors[name])
            error = mae(truth, q[:, 1])
            results.append(
                {
                    "horizon": horizon,
                    "target": target,
                    "n": int(known.sum()),
                    "mae": error,
                    "mape": mape(truth, q[:, 1]),
                    "correlation": correlation(truth, q[:, 1]),
                    "correlation_persistence": correlation(truth, baselines["persistence"][mask, i, j][known]),
                    "pinball": pinball(truth, q),
                    "coverage": coverage(truth, q[:, 0], q[:, 2]),
                    "skill_persistence": skill(error, errors["persistence"]),
                    "best": best,
                    "best_mae": errors[best],
                    "skill_best": skill(error, errors[best]),
                    "baselines": errors,
                }
            )
    return results


def mape(truth: NDArray[np.float64], forecast: NDArray[np.float64]) -> float:
    """Mean absolute error in per cent of the actual value, over rows where that is not 0; NaN without any."""
    some = truth != 0
    return float(100.0 * np.mean(np.abs(forecast[some] / truth[some] - 1.0))) if some.any() else float("nan")


def correlation(truth: NDArray[np.float64], forecast: NDArray[np.float64]) -> float:
    """Pearson's correlation; NaN where one of the two does not vary."""
    if len(truth) < 3 or np.ptp(truth) == 0 or np.ptp(forecast) == 0:
        return float("nan")
    return float(np.corrcoef(truth, forecast)[0, 1])


def _alarms(grid: Grid, parted: Split, score: F32, label: str) -> str:
    mask = parted.test | parted.unknown
    rows = parted.rows[mask]
    days = float(sum(np.ptp(grid.ts[rows[grid.entity[rows] == e]]) for e in np.unique(grid.entity[rows]))) / 86_400.0
    over = score[mask] > 1.0
    text = (
        "The score is the newest row's distance from what was forecast for it, in standard deviations of the interval, "
        "the horizon that is farthest off, over a threshold from validation time. In test time "
        f"{int(over.sum())} of {len(rows)} rows are over it ({over.sum() / max(days, 1e-9):.2g} a day and entity)."
    )
    labels = grid.columns.get(label)
    if labels is None or labels.dtype == object:
        return text
    marked = np.nan_to_num(labels[rows]) > 0
    if not marked.any():
        return text
    found = detection(
        score[mask], grid.ts[rows], number_events(marked.astype(float), grid.entity[rows]), ~marked,
        group=grid.entity[rows], step=1.0 if isinstance(grid.stream.step, str) else float(grid.stream.step),
    )  # fmt: skip
    return f"{text} Of {found.events} labelled events it finds {found.found}, with {found.false_alarms} false alarms."


def _losses(results: dict[str, list[Result]], fitted: Fitted, shape: Layout) -> str:
    lines = [
        f"- {name}, {r['target']} at +{r['horizon']}: {r['best']} is better by {-r['skill_best']:.1%}."
        for name, result in results.items()
        for r in result
        if r["skill_best"] < 0
    ]
    lines += [
        f"- {name}, {r['target']} at +{r['horizon']}: the interval covers {r['coverage']:.1%}, not 80 %."
        for name, result in results.items()
        for r in result
        if abs(r["coverage"] - 0.8) > 0.05
    ]
    left = [
        f"{target} at +{horizon}"
        for j, target in enumerate(shape.targets)
        for i, horizon in enumerate(shape.horizons)
        if not fitted.weights.gate[j, i]
    ]
    if left:
        lines.append(
            f"- The network did not improve the median in validation and is left out of it: {', '.join(left)}."
        )
    return "\n".join(lines) or "Nowhere on these data."


def _seasons(trials: list[Trial], shape: Layout) -> str:
    rows = [
        [
            " and ".join(f"{s.seconds:g} s" for s in t.seasons) or "none",
            t.ridge,
            f"{t.cost:.4f}",
            "used" if t.seasons == shape.seasons else "",
        ]
        for t in trials
    ]
    return "Linear medians' validation error as a share of that of the last value:\n\n" + table(
        ("seasons", "ridge", "error", ""), rows
    )


def _logs(shape: Layout) -> list[str]:
    return [name for name, t in zip(shape.targets, shape.transforms, strict=True) if t.log]


def _row(r: Result) -> list[Any]:
    own = [r["horizon"], r["target"], r["mae"], r["mape"], f"{r['correlation']:.4f}", r["pinball"]]
    return [
        *own,
        f"{r['coverage']:.1%}",
        f"{r['skill_persistence']:.1%}",
        r["best"],
        r["best_mae"],
        f"{r['skill_best']:.1%}",
    ]


def _example(grid: Grid, parted: Split, actual: NDArray[np.float64], made: F32, shape: Layout) -> dict[str, bytes]:
    """Plot one entity's forecasts at the longest horizon over its test time."""
    mask = parted.test if parted.test.any() else parted.valid
    names, counts = np.unique(grid.entity[parted.rows[mask]], return_counts=True)
    mine = np.flatnonzero(mask & (grid.entity[parted.rows] == names[counts.argmax()]))[-600:]
    last, target = len(shape.horizons) - 1, shape.targets[0]
    hours = (grid.ts[parted.rows[mine]] - grid.ts[parted.rows[mine]][0]) / 3600.0
    band = (made[mine, last, 0, 0], made[mine, last, 0, 1], made[mine, last, 0, 2])
    title = f"{target}, {shape.horizons[last]} rows ahead (test time, one entity)"
    return {"forecast.png": band_plot(title, hours, actual[mine, last, 0], band, xlabel="hours", ylabel=target)}


def _loss_plot(fitted: Fitted) -> bytes:
    epochs = np.arange(1, len(fitted.train_loss) + 1)
    lines = {"training": np.asarray(fitted.train_loss), "validation": np.asarray(fitted.valid_loss)}
    return line_plot("Loss", epochs, lines, xlabel="epoch", ylabel="pinball loss")

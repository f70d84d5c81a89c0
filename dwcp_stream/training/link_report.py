"""Report of the link forecaster: errors by horizon and target beside the simple forecasts, and its alarms."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dwcp_stream.training.dataset import Floats, Ints
from dwcp_stream.training.fitting import Fit
from dwcp_stream.training.forecast_baselines import Baselines
from dwcp_stream.training.job import Job
from dwcp_stream.training.link_alarms import BUDGET, MERGE
from dwcp_stream.training.link_batches import Maker
from dwcp_stream.training.link_features import OFFSETS
from dwcp_stream.training.metrics import Detection, coverage, mae, pinball, plain, skill
from dwcp_stream.training.report import band_plot, bar_plot, document, line_plot, table

if TYPE_CHECKING:
    from dwcp_stream.training.link import Split

HEADER = (
    *("horizon", "target", "MAE", "pinball", "coverage", "skill over persistence", "best baseline"),
    *("its MAE", "skill over it"),
)
METHOD = """

Time of the test lies after that of training and validation. "Known links" were seen in training at earlier
times, "new links" never. MAE and pinball are in the target's unit; coverage is the share of actuals in
[q10, q90], aimed at 80 %; skill is the share of the other forecast's MAE that is saved (negative: worse). The
baselines: the last value, the value a day before, the link's mean at that hour of the day, and a ridge on the
distance of the last value to the window's mean. Per-hour means of new links come from their own past."""
ALARMS = f"""An alarm is a standardised residual of the last row over the threshold, which is the lowest with
at most {BUDGET:g} false alarms per link and day in validation time. Alarm rows of a link less than {MERGE} rows apart
are one. (The limit of the residual was chosen with a look at all these data.) The residual sees a change, not a
state: an incident that creeps in slower than the longest horizon is not seen, and a link that stays bad is
normal again after it. The alert policy's `min_duration` comes on top.

"""
Result = dict[str, Any]


def write_report(
    job: Job,
    maker: Maker,
    split: "Split",
    fitted: Fit,
    quantiles: Mapping[str, NDArray[np.float32]],
    baselines: Baselines,
    *,
    alarms: Mapping[str, Detection],
) -> tuple[str, dict[str, bytes], dict[str, Any]]:
    """Write the report.

    Returns
    -------
    tuple
        Markdown, plots by file name, metrics for the manifest.
    """
    sets = {
        "known links": (split.known, quantiles["known"]),
        "new links": (split.unknown, quantiles["unknown"]),
    }
    results = {name: _errors(maker, rows, made, baselines) for name, (rows, made) in sets.items() if len(rows)}
    plots = {"training.png": _loss_plot(fitted), **_example(maker, split.known, quantiles["known"])}
    first = next(iter(results.values()))
    groups = [f"{r['target']} +{r['horizon']}" for r in first]
    bars = {name: [r["skill_persistence"] for r in result] for name, result in results.items()}
    plots["skill.png"] = bar_plot("Skill over persistence", groups, bars, ylabel="share of MAE saved")
    counts = ", ".join(f"{len(getattr(split, part))} {part}" for part in ("train", "valid", "known", "unknown"))
    worse = [
        f"- {name}, {r['target']} at +{r['horizon']}: {r['best']} is better by {-r['skill_best']:.1%}."
        for name, result in results.items()
        for r in result
        if r["skill_best"] < 0
    ]
    off = [
        f"- {name}, {r['target']} at +{r['horizon']}: the interval covers {r['coverage']:.1%}, not 80 %."
        for name, result in results.items()
        for r in result
        if abs(r["coverage"] - 0.8) > 0.05
    ]
    sections = {
        "": f"LSTM with attention and quantile heads, window {job.stream.window} rows, horizons "
        f"{', '.join(map(str, maker.horizons))} rows, seed {job.seed}, best epoch {fitted.best_epoch + 1} of "
        f"{len(fitted.train_loss)}. Made by\n\n    {job.command}",
        "Data": f"{len(maker.grid.entities)} links in {', '.join(p.name for p in job.files)}; windows: {counts}."
        + METHOD,
        **{f"Test time, {name}": table(HEADER, [_row(r) for r in result]) for name, result in results.items()},
        "Alarms": ALARMS
        + table(
            ("detector", "incidents found", "false alarms", "per link and day", "time in alarm", "ROC AUC", "AP"),
            [_alarm_row(name, d) for name, d in alarms.items()],
        ),
        "Where it loses": "\n".join([*worse, *off]) or "Nowhere on these data; they are simulated.",
        "Plots": "\n".join(f"![{name}]({name})" for name in plots),
    }
    metrics = plain(
        {
            **{
                name.replace(" ", "_"): {f"{r['target']}+{r['horizon']}": _numbers(r) for r in result}
                for name, result in results.items()
            },
            "alarms": {name: d.plain() for name, d in alarms.items()},
        }
    )
    return document(f"{job.binding.name}: report", sections), plots, metrics


def _errors(maker: Maker, rows: Ints, quantiles: Floats, baselines: Baselines) -> list[Result]:
    actual = maker.actual(rows)
    results = []
    for i, horizon in enumerate(maker.horizons):
        simple = baselines.all(rows, horizon)
        for j, target in enumerate(maker.shape.targets):
            offset = OFFSETS[target]
            truth = np.exp(actual[:, i, j].astype(np.float64)) - offset
            errors = {name: mae(truth, np.exp(logs[:, j]) - offset) for name, logs in simple.items()}
            best = min(errors, key=lambda name: errors[name])
            made = quantiles[:, i, j].astype(np.float64)
            error = mae(truth, made[:, 1])
            results.append(
                {
                    "horizon": horizon,
                    "target": target,
                    "mae": error,
                    "pinball": pinball(truth, made),
                    "coverage": coverage(truth, made[:, 0], made[:, 2]),
                    "skill_persistence": skill(error, errors["persistence"]),
                    "best": best,
                    "best_mae": errors[best],
                    "skill_best": skill(error, errors[best]),
                    "baselines": errors,
                }
            )
    return results


def _row(r: Result) -> list[Any]:
    own = [r["horizon"], r["target"], r["mae"], r["pinball"], f"{r['coverage']:.1%}", f"{r['skill_persistence']:.1%}"]
    return [*own, r["best"], r["best_mae"], f"{r['skill_best']:.1%}"]


def _numbers(r: Result) -> Result:
    return {key: value for key, value in r.items() if key not in {"horizon", "target"}}


def _alarm_row(name: str, d: Detection) -> list[Any]:
    counts = [f"{d.found} of {d.events}", d.false_alarms, 24 * d.false_alarms_per_hour, f"{d.quiet_in_alarm:.2%}"]
    return [name, *counts, d.roc_auc, d.average_precision]


def _example(maker: Maker, rows: Ints, quantiles: Floats) -> dict[str, bytes]:
    """Plot one link's forecasts at the longest horizon over its test time."""
    links, counts = np.unique(maker.grid.entity[rows], return_counts=True)
    mine = np.flatnonzero(maker.grid.entity[rows] == links[counts.argmax()])
    target, last = 0, len(maker.horizons) - 1
    truth = np.exp(maker.actual(rows[mine])[:, last, target]) - OFFSETS[maker.shape.targets[target]]
    hours = (maker.grid.ts[rows[mine]] - maker.grid.ts[rows[mine]][0]) / 3600.0
    low, middle, high = (quantiles[mine, last, target, q] for q in range(3))
    name = maker.shape.targets[target]
    title = f"{name}, {maker.horizons[last]} rows ahead (test time, one link)"
    return {"forecast.png": band_plot(title, hours, truth, (low, middle, high), xlabel="hours", ylabel=name)}


def _loss_plot(fitted: Fit) -> bytes:
    epochs = np.arange(1, len(fitted.train_loss) + 1)
    lines = {"training": np.asarray(fitted.train_loss), "validation": np.asarray(fitted.valid_loss)}
    return line_plot("Loss", epochs, lines, xlabel="epoch", ylabel="pinball loss")

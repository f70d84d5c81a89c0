"""Evaluate which version the sequential test promotes, where both are equally good and where they are not.

    python -m lab.evaluations.decisions --data FOLDER [--runs 1000] [--draw decisions.svg] [--json]

Simple forecasters (persistence, exponentially weighted means, autoregressions) are fitted to the first 30 % of each
trace in `ripe_rtt/ripe_rtt.csv.gz` and forecast the rest, 1, 4 and 15 steps ahead; a step of 240 s is taken for a
bucket. Pairs of them give real paired differences (`dwcp_stream.loop.pairs`), once by trace and once of all traces
together. One factor on the candidate's errors makes both equally good (A/A) and then 2, 5 or 10 % better or worse
(A/B). A run is 14 days, drawn day by day with replacement from one pair, so that autocorrelation within days stays; or
it is drawn from an ARMA(1, 1) fitted to the pair, with its innovations; or from an AR(1) of a given strength with heavy
tails.

Two settings are harder: forecasters that are off for as long as a trace's level is a new one, and versions that are
alike in the plain MAE but not in the clipped differences that the test sees, with and without the condition that the
observed MAE says the same. Both once more with the champion drawn anew each day, which makes versions alike in any
sense.

After every bucket from the third day on, two rules look: the sequential test, which promotes nothing before the
sixth, and a t-test at 5 % that is repeated; another t-test looks once, at the end. The seeds with which the test was
tuned are others.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import t as student

from dwcp_stream.loop.decider import PROMOTABLE
from dwcp_stream.loop.sequential import BLOCK, BLOCKS, TIGHTEST, block_means, interval
from dwcp_stream.wilson import wilson
from lab.evaluations import decision_errors as made
from lab.evaluations.output import emit_table

ALPHA = 0.05
FIRST = BLOCK * BLOCKS
Floats = NDArray[np.float64]
Decided = tuple[NDArray[np.int64], NDArray[np.int64]]
"""For each run 1 (promote), -1 (roll back) or 0, and the bucket after which that was."""
RULES = ("sequential", "repeated t-test", "t-test at the end")


@click.command()
@click.option("--data", "folder", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True)
@click.option("--runs", default=1000, show_default=True, help="Runs of each kind.")
@click.option("--days", default=14, show_default=True, help="Maximum age of a candidate.")
@click.option("--seed", default=2027, show_default=True)
@click.option("--draw", "picture", type=click.Path(dir_okay=False, path_type=Path), help="Write a picture.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def main(folder: Path, runs: int, days: int, seed: int, picture: Path | None, as_json: bool) -> None:
    """Run every rule on the same series."""
    found = [made.errors(values) for values in made.traces(folder)]
    one, many = made.alone(found, made.PAIRS), made.together(found, made.PAIRS)
    level = made.alone(found, made.LEVEL_PAIRS)
    by_mae = made.alone(found, made.PAIRS, by_mae=True)
    deviation = float(np.median([each.differences[0.0].std() for each in one]))
    buckets = days * made.DAY
    settings: dict[str, Callable[[np.random.Generator], made.Runs]] = {
        "one link": lambda rng: made.resampled(rng, one, runs, buckets),
        "all links": lambda rng: made.resampled(rng, many, runs, buckets),
        "one link, ARMA(1, 1)": lambda rng: made.fitted(rng, one, runs, buckets),
        "AR(1) 0.9": lambda rng: made.autoregressive(rng, 0.9, deviation, runs, buckets),
        "AR(1) 0.97": lambda rng: made.autoregressive(rng, 0.97, deviation, runs, buckets),
        "one link, level forecasters": lambda rng: made.resampled(rng, level, runs, buckets),
        "one link, alike in MAE": lambda rng: made.resampled(rng, by_mae, runs, buckets),
        "one link, changing places": lambda rng: made.changing_places(rng, made.resampled(rng, by_mae, runs, buckets)),
        "level forecasters, changing places": lambda rng: made.changing_places(
            rng, made.resampled(rng, level, runs, buckets)
        ),
    }
    rows: list[dict[str, Any]] = []
    curves: dict[tuple[str, float, str], Floats] = {}
    for number, (setting, draw_runs) in enumerate(settings.items()):
        click.echo(f"{setting} ({number + 1} of {len(settings)})", err=True)
        drawn = draw_runs(np.random.default_rng([seed, number]))
        for effect, series in drawn.differences.items():
            rules: dict[str, Callable[[Floats], Decided]] = dict(
                zip(RULES, (sequential, repeated, at_end), strict=True)
            )
            if setting.endswith("MAE") and effect == 0.0:
                rules["sequential, MAE agrees"] = partial(sequential, ratio=drawn.ratio)
            for rule, decide in rules.items():
                decided = decide(series)
                rows.append({"errors": setting, "effect": effect, "rule": rule, **shares(*decided)})
                curves[setting, effect, rule] = promoted_by(*decided, buckets)
    facts = {"pairs of one link": len(one), "deviation": round(deviation, 3), **memory(one)}
    emit_table({"runs": runs, "buckets": buckets, "real differences": facts, "decisions": rows}, as_json)
    if picture:
        draw(curves, picture)


def sequential(series: Floats, ratio: Floats | None = None) -> Decided:
    """Look whenever a block is full (the bounds are the same in between); `ratio` has to agree if it is given.

    What is worse is rolled back from the first look on, what is better is promoted later, as the decider does it.
    """
    side, when = _undecided(len(series))
    for n in range(FIRST, series.shape[1] + 1, BLOCK):
        means, _, share = block_means(np.asarray(series[:, :n], np.float64), BLOCK, BLOCKS)
        mean, half, _ = interval(means, ALPHA * share, BLOCKS / TIGHTEST)
        found = (np.abs(mean) > half) & ((mean < 0) | (n >= BLOCK * PROMOTABLE))
        if ratio is not None:
            found &= (mean > 0) == (ratio[:, n - 1] < 1)
        new = (side == 0) & found
        side[new], when[new] = np.sign(mean[new]), n
    return side, when


def repeated(series: Floats) -> Decided:
    """Look after every bucket, as if each look were the only one and buckets were independent."""
    side, when = _undecided(len(series))
    n = np.arange(FIRST, series.shape[1] + 1)
    for run, values in enumerate(series):
        statistic = t_statistic(np.asarray(values, np.float64), n)
        over = np.abs(statistic) > student.ppf(1 - ALPHA / 2, n - 1)
        if over.any():
            first = int(np.argmax(over))
            side[run], when[run] = np.sign(statistic[first]), n[first]
    return side, when


def at_end(series: Floats) -> Decided:
    """Look once, after the last bucket."""
    n = np.array([series.shape[1]])
    statistic = np.array([t_statistic(np.asarray(values, np.float64), n)[0] for values in series])
    over = np.abs(statistic) > student.ppf(1 - ALPHA / 2, n - 1)
    return np.where(over, np.sign(statistic), 0).astype(np.int64), np.where(over, n, 0)


def t_statistic(values: Floats, n: NDArray[np.int64]) -> Floats:
    """Return Student's t of the first n values, for each n."""
    total, squares = np.cumsum(values)[n - 1], np.cumsum(values * values)[n - 1]
    variance = (squares - total**2 / n) / (n - 1)
    return np.asarray(total / np.sqrt(n * np.maximum(variance, 1e-300)), np.float64)


def _undecided(runs: int) -> Decided:
    return np.zeros(runs, np.int64), np.zeros(runs, np.int64)


def shares(side: NDArray[np.int64], when: NDArray[np.int64]) -> dict[str, Any]:
    """Return how many runs were promoted and rolled back, with 95 % intervals, and the median bucket of each."""
    result: dict[str, Any] = {}
    for name, sign in (("promoted", 1), ("rolled_back", -1)):
        chosen = side == sign
        low, high = wilson(int(chosen.sum()), len(side))
        result[name] = round(float(chosen.mean()), 3)
        result[f"{name}_interval"] = [round(low, 3), round(high, 3)]
        result[f"{name}_after"] = float(np.median(when[chosen])) if chosen.any() else None
    return {**result, "undecided": round(float((side == 0).mean()), 3)}


def promoted_by(side: NDArray[np.int64], when: NDArray[np.int64], buckets: int) -> Floats:
    """Return the share of runs that were promoted until each bucket, shape (buckets,)."""
    counts = np.bincount(when[side == 1], minlength=buckets + 1)
    return np.asarray(np.cumsum(counts)[1:] / len(side), np.float64)


def memory(sources: list[made.Source]) -> dict[str, list[float]]:
    """Return the lower quartile, median and upper quartile of what autocorrelation the real differences have."""
    series = [each.differences[0.0] for each in sources]
    found = {
        "autocorrelation": [made.lag_one(x) for x in series],
        "variance of a day's mean over independent": [made.daily_inflation(x) for x in series],
        "phi": [made.arma(x)[0] for x in series],
    }
    return {name: [round(float(q), 2) for q in np.quantile(v, [0.25, 0.5, 0.75])] for name, v in found.items()}


def draw(curves: dict[tuple[str, float, str], Floats], path: Path) -> None:
    """Draw false promotions over time for the three rules, and right ones of the sequential test by effect."""
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    curves = {key: curve[BLOCK - 1 :: BLOCK] for key, curve in curves.items()}
    days = np.arange(1, len(next(iter(curves.values()))) + 1) * BLOCK / made.DAY
    for rule, colour in zip(RULES, ("tab:blue", "tab:red", "tab:orange"), strict=True):
        for setting, style in (("one link", "-"), ("AR(1) 0.9", ":")):
            curve = curves[setting, 0.0, rule]
            left.plot(days, curve, style, color=colour, label=f"{rule}, {setting}")
    left.axhline(ALPHA, color="black", linewidth=0.8, linestyle="--")
    left.set_title("promoted though not better", fontsize=9)
    for effect, colour in ((0.1, "tab:green"), (0.05, "tab:blue"), (0.02, "tab:purple")):
        for setting, style in (("one link", "-"), ("all links", "--")):
            curve = curves[setting, effect, "sequential"]
            right.plot(days, curve, style, color=colour, label=f"errors {effect:.0%} smaller, {setting}")
    right.set_title("promoted because better, sequential test", fontsize=9)
    for axes in (left, right):
        axes.set_xlabel("days of 288 buckets", fontsize=8)
        axes.set_ylabel("share of runs", fontsize=8)
        axes.set_ylim(0, 1.02)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=6)
        axes.tick_params(labelsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    plain = {"Date": None, "Creator": None} if path.suffix == ".svg" else {"Software": None}
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "decisions"}):  # the same runs give the same bytes
        figure.savefig(path, metadata=plain)


if __name__ == "__main__":
    main()

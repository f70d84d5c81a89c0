"""Errors of a candidate's forecasts beside the champion's and those of repeating the last value, on the hold-out."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import polars as pl

from dwcp_stream.events import Accuracy
from dwcp_stream.forecasts import statistics
from dwcp_stream.history.comparison import Comparison, ForecastLine
from dwcp_stream.history.trial_run import TrialRun

LEAST_COVERAGE: Final = 0.5
"""Share of actuals that its 80 % intervals must hold, or else as many as the champion's: less is no interval at all."""
NEGLIGIBLE: Final = 1e-5
"""Errors that are this share of a target's mean size are as good as none: a ratio of them means nothing."""
NOTHING: Final = 1e-6
"""The same in the target's unit, where all values are 0."""

Lines = Mapping[tuple[int, str], Sequence[Accuracy]]


def judge_forecasts(
    said: Comparison, own: TrialRun, its: TrialRun | None, holdout: pl.DataFrame, margin: float
) -> Comparison:
    """Add the errors by horizon and target, and what speaks against the candidate.

    Parameters
    ----------
    said
        What is known so far.
    own, its
        Runs of candidate and champion over the hold-out; without a champion the yardstick is persistence.
    holdout
        The rows; their size says which errors are as good as none.
    margin
        Largest share by which the geometric mean of the errors' ratios may be over 1.
    """
    made, champions = _by_line(own), {} if its is None else _by_line(its)
    lines = [_line(key, made, champions, its is None, holdout) for key in sorted(made.keys() | champions.keys())]
    relative = geometric_mean([line.relative for line in lines if not math.isnan(line.relative)])
    reasons = [
        *said.reasons,
        *(
            f"of {line.target} +{line.horizon} it forecasts {line.n} where the champion forecasts {line.champion_n}"
            for line in lines
            if line.n < line.champion_n
        ),
    ]
    if math.isnan(relative):
        reasons.append("none of its forecasts met an actual: the hold-out is too short")
    elif relative > 1.0 + margin:
        beside = "repeating the last value" if its is None else f"version {said.champion}"
        reasons.append(f"its mean error is {relative:.3f} times that of {beside}, more than {1.0 + margin:.2f}")
    covered, least = _mean([line.coverage for line in lines]), _mean([line.champion_coverage for line in lines])
    least = LEAST_COVERAGE if math.isnan(least) else min(LEAST_COVERAGE, least)
    if covered < least:
        reasons.append(f"its intervals hold {covered:.0%} of what came, less than {least:.0%}")
    return said.judged(reasons, relative=relative, forecasts=tuple(lines))


def geometric_mean(ratios: Sequence[float]) -> float:
    """Return the geometric mean of ratios, which is the same whichever of the two comes first; NaN of none.

    Examples
    --------
    >>> geometric_mean([2.0, 0.5])
    1.0
    """
    return float(np.exp(np.mean(np.log(ratios)))) if len(ratios) else math.nan


def negligible(holdout: pl.DataFrame, target: str) -> float:
    """Return the error of a target, in its unit, that is as good as none."""
    values = holdout[target].cast(pl.Float64).fill_nan(None).abs().mean() if target in holdout.columns else None
    return NEGLIGIBLE * (values if isinstance(values, float) else 0.0) or NOTHING


def _line(key: tuple[int, str], made: Lines, champions: Lines, alone: bool, holdout: pl.DataFrame) -> ForecastLine:
    own, its = statistics(list(made.get(key, ()))), statistics(list(champions.get(key, ())))
    persistence = _persistence(made.get(key, ()))
    nearly = negligible(holdout, key[1])
    return ForecastLine(
        horizon=key[0],
        target=key[1],
        n=int(own["n"]),
        champion_n=int(its["n"]),
        mae=own["mae"],
        champion_mae=its["mae"],
        persistence_mae=persistence,
        relative=(own["mae"] + nearly) / ((persistence if alone else its["mae"]) + nearly),
        skill=own["skill"],
        champion_skill=its["skill"],
        coverage=own["coverage"],
        champion_coverage=its["coverage"],
    )


def _by_line(run: TrialRun) -> Lines:
    lines = defaultdict(list)
    for part in run.accuracies:
        lines[part.horizon, part.target].append(part)
    return dict(lines)


def _persistence(parts: Sequence[Accuracy]) -> float:
    """MAE of repeating the value at the time of issue."""
    n = sum(part.persistence_n for part in parts)
    return math.fsum(part.persistence_abs_error for part in parts) / n if n else math.nan


def _mean(values: Sequence[float]) -> float:
    """Return the mean of those that are known; NaN of none."""
    known = [value for value in values if not math.isnan(value)]
    return math.fsum(known) / len(known) if known else math.nan

"""Alarms of a candidate beside the champion's on the hold-out: how many, and which known troubles they find."""

import math
from typing import Final

import numpy as np
import polars as pl
from sklearn.metrics import average_precision_score, roc_auc_score

from dwcp_stream.history.comparison import Alarms, Comparison
from dwcp_stream.history.episodes import numbered_entities
from dwcp_stream.history.training_set import TrainingSet
from dwcp_stream.history.trial_run import TrialRun
from dwcp_stream.streams import StreamDefinition

MULTIPLE: Final = 3.0
"""How many times the champion's alarms a candidate may raise.

Small counts differ by chance: of two of the same rate, the one is above both 3 and three times the other in at most 7 %
of all pairs, whatever the rate (Poisson).
"""
LEAST_ALERTS: Final = 3.0
"""A candidate may always raise so many: none seen still means a rate of up to 3 (the rule of three, at 95 %)."""
ALERTS_PER_DAY: Final = 0.2
"""Alerts per entity and day that trainers' thresholds are made for; a candidate is not refused for keeping to them."""
LEAST_FIRING: Final = 0.01
"""Share of its windows that a candidate may always fire at: of a window a minute a quarter of an hour a day.

One that is always in alarm raises few alerts, so that counting these is not enough.
"""
LOST: Final = 0.2
"""Share of the troubles found by the champion that a candidate may miss.

Rounded down for known ones, so none of the first four; rounded up for made-up ones, which detectors see differently.
"""
DAY: Final = 86_400.0


def labelled_rows(stream: StreamDefinition, data: TrainingSet) -> pl.DataFrame:
    """Return the hold-out's rows as entity, ts, label and the number of the trouble that a row is in, else null."""
    names, codes = numbered_entities(stream, data.holdout)
    rows = pl.DataFrame(
        {
            "entity": np.array(names, object)[codes].tolist(),
            "ts": data.holdout[stream.time],
            "label": data.holdout[data.label],
        },
        schema={"entity": pl.String, "ts": pl.Float64, "label": pl.Float64},
    ).sort("entity", "ts", maintain_order=True)
    on = pl.col("label").eq(1.0).fill_null(value=False)
    begins = on & ~(
        on.shift(1, fill_value=False) & pl.col("entity").eq(pl.col("entity").shift(1)).fill_null(value=False)
    )
    return rows.with_columns(pl.when(on).then(begins.cast(pl.Int64).cum_sum()).alias("trouble")).unique(
        ["entity", "ts"], keep="first", maintain_order=True
    )


def judge_alarms(
    said: Comparison,
    own: TrialRun,
    its: TrialRun | None,
    rows: pl.DataFrame,
    margin: float,
) -> Comparison:
    """Add the alarms of both, and what speaks against the candidate.

    Parameters
    ----------
    said
        What is known so far.
    own, its
        Runs of candidate and champion over the hold-out.
    rows
        As `labelled_rows` gives them.
    margin
        Share by which an incident model's average precision may be below the champion's.
    """
    alarms = count_alarms(own, rows)
    champions = None if its is None else count_alarms(its, rows)
    prevalence = _prevalence(own, rows)
    reasons = [*said.reasons, *_lost(alarms, champions)]
    if champions is not None:
        reasons += _too_many(alarms, champions)
    if said.task == "incident":
        reasons += _ranks(alarms, champions, prevalence, margin)
    return said.judged(
        reasons,
        troubles=rows["trouble"].drop_nulls().n_unique(),
        prevalence=prevalence,
        alarms=alarms,
        champion_alarms=champions,
    )


def judge_hearing(said: Comparison, pieces: int, own: int, its: int) -> Comparison:
    """Add how many pieces of made-up trouble candidate and champion find, and whether the candidate has gone deaf."""
    reasons = list(said.reasons)
    if own < its - math.ceil(LOST * its):
        reasons.append(f"it finds {own} of {pieces} made-up troubles where the champion finds {its}")
    return said.judged(reasons, made_up=pieces, made_up_found=own, champion_made_up_found=its)


def count_alarms(run: TrialRun, rows: pl.DataFrame) -> Alarms:
    """Count a run's alarms, and rank its scores where the label is known.

    An alert that fires at any row of a known trouble is about that, also before its beginning and after its end.
    """
    trouble = pl.col("label").eq(1.0).fill_null(value=False)
    found = run.verdicts.join(rows, on=["entity", "ts"], how="left").sort("entity", "ts", maintain_order=True)
    before = pl.col("firing").shift(1, fill_value=False) & pl.col("entity").eq(pl.col("entity").shift(1))
    found = found.with_columns(alert=(pl.col("firing") & ~before.fill_null(value=False)).cum_sum())
    firing = found.filter("firing").with_columns(known=trouble.any().over("alert"))
    astray = firing.filter(~pl.col("known"))
    known = found.filter(pl.col("label").is_not_null() & pl.col("score").is_finite())
    precision = area = math.nan
    if known["label"].n_unique() == 2:
        label, score = known["label"].to_numpy(), known["score"].to_numpy()
        precision, area = float(average_precision_score(label, score)), float(roc_auc_score(label, score))
    spans = found.group_by("entity").agg(pl.col("ts").max() - pl.col("ts").min())
    return Alarms(
        verdicts=len(found),
        entity_days=float(spans["ts"].sum()) / DAY,
        alerts=run.alerts,
        astray=astray["alert"].n_unique(),
        firing=len(astray) / max(len(found.filter(~trouble)), 1),
        found=firing.filter(trouble)["trouble"].n_unique(),
        average_precision=precision,
        roc_auc=area,
    )


def _prevalence(run: TrialRun, rows: pl.DataFrame) -> float:
    known = run.verdicts.join(rows, on=["entity", "ts"], how="left")["label"].drop_nulls()
    return float((known == 1.0).sum()) / len(known) if len(known) else math.nan


def _too_many(own: Alarms, its: Alarms) -> list[str]:
    """Say whether it raises more alarms than may be; those that tell of known trouble do not count."""
    allowed = max(MULTIPLE * max(its.astray, ALERTS_PER_DAY * own.entity_days), LEAST_ALERTS)
    share = max(MULTIPLE * its.firing, LEAST_FIRING)
    reasons = []
    if own.astray > allowed:
        reasons.append(f"it raises {own.astray} alerts beside the champion's {its.astray}: more than {allowed:.0f}")
    if own.firing > share:
        reasons.append(f"it fires at {own.firing:.2%} of its windows outside known trouble: more than {share:.2%}")
    return reasons


def _lost(own: Alarms, its: Alarms | None) -> list[str]:
    if its is not None and own.found < its.found - math.floor(LOST * its.found):
        return [f"it finds {own.found} of the known troubles where the champion finds {its.found}"]
    return []


def _ranks(own: Alarms, its: Alarms | None, prevalence: float, margin: float) -> list[str]:
    precision = own.average_precision
    if math.isnan(precision):
        return [] if its is not None else ["the hold-out has no known trouble beside quiet time to judge it by"]
    if its is None:
        chance = f"no more than {prevalence:.3f} by chance"
        return [] if precision > prevalence else [f"its average precision is {precision:.3f}: {chance}"]
    if precision < (1.0 - margin) * its.average_precision:
        beside = f"the champion's is {its.average_precision:.3f}"
        return [f"its average precision is {precision:.3f} where {beside}: more than {margin:.0%} below"]
    return []

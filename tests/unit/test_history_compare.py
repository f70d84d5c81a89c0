"""What speaks against a candidate: errors, intervals, alarms, troubles that are lost."""

from __future__ import annotations

from dataclasses import replace
from math import inf, isnan, nan

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dwcp_stream.events import Accuracy, rfc3339
from dwcp_stream.history.comparison import Alarms, Comparison
from dwcp_stream.history.detection import count_alarms, judge_alarms, judge_hearing, labelled_rows
from dwcp_stream.history.forecasting import geometric_mean, judge_forecasts, negligible
from dwcp_stream.history.made_up import make_up
from dwcp_stream.history.training_set import TrainingSet, training_set
from dwcp_stream.history.trial_run import SCHEMA, TrialRun
from dwcp_stream.streams import Field
from tests.unit.history_cases import alert, binding, judged, small_stream

STREAM = small_stream(fields=(Field(name="load", min=0.0, max=1.0), Field(name="sent", kind="counter")))
T0 = 1_700_000_000.0
HOLDOUT = pl.DataFrame({"load": [2.0, -2.0, None]})
NOTHING = pl.DataFrame(schema={"entity": pl.String, "ts": pl.Float64, "label": pl.Float64, "trouble": pl.Int64})


def accuracy(mae: float, *, n: int = 100, last: float = 2.0, horizon: int = 1, covered: float = 0.8) -> Accuracy:
    return Accuracy(
        stream="demo", model="m", version=1, arm="champion", horizon=horizon, target="load", partition=0,
        bucket_start=rfc3339(T0), bucket_end=rfc3339(T0 + 300), event_time=rfc3339(T0), n=n, abs_error=mae * n,
        sq_error=1.0, error=0.0, ape=0.0, ape_n=0, persistence_n=n, persistence_abs_error=last * n,
        paired_abs_error=mae * n, pinball=1.0, covered=round(covered * n), covered_raw=0, missed=0,
    )  # fmt: skip


def run(*accuracies: Accuracy, scores: pl.DataFrame | None = None, alerts: int = 0) -> TrialRun:
    return TrialRun(pl.DataFrame(schema=SCHEMA) if scores is None else scores, accuracies, alerts, 0)


def said(task: str = "forecast", champion: int | None = 1) -> Comparison:
    return Comparison(task=task, champion=champion, rows=10, begins=T0, ends=T0 + 10)


def judge(own: TrialRun, its: TrialRun | None) -> Comparison:
    return judge_forecasts(said(champion=None if its is None else 1), own, its, HOLDOUT, 0.05)


def test_a_candidate_may_err_a_little_more_than_the_champion_and_persistence_stands_beside():
    found = judge(run(accuracy(1.04), accuracy(1.0, horizon=2)), run(accuracy(1.0), accuracy(1.0, horizon=2)))
    assert found.acceptable
    assert found.reasons == ()
    assert found.relative == pytest.approx(1.04**0.5, rel=1e-4)
    first = found.forecasts[0]
    assert (first.mae, first.champion_mae, first.persistence_mae) == pytest.approx((1.04, 1.0, 2.0))
    assert (first.skill, first.champion_skill) == pytest.approx((0.48, 0.5))
    plain = found.plain()
    assert plain["forecasts"][0]["horizon"] == 1
    assert plain["begins"] == T0
    worse = judge(run(accuracy(1.06)), run(accuracy(1.0)))
    assert not worse.acceptable
    assert worse.reasons == ("its mean error is 1.060 times that of version 1, more than 1.05",)


def test_without_a_champion_the_yardstick_is_the_last_value():
    assert judge(run(accuracy(2.0)), None).acceptable
    found = judge(run(accuracy(2.5)), None)
    assert found.reasons == ("its mean error is 1.250 times that of repeating the last value, more than 1.05",)
    assert isnan(found.forecasts[0].champion_mae)
    assert found.plain()["forecasts"][0]["champion_mae"] is None


def test_forecasts_that_are_missing_or_met_no_actual_are_a_reason():
    assert (
        "it forecasts 90 where the champion forecasts 100"
        in judge(run(accuracy(1.0, n=90)), run(accuracy(1.0))).reasons[0]
    )
    gone = judge(run(accuracy(1.0)), run(accuracy(1.0), accuracy(1.0, horizon=2)))
    assert "of load +2 it forecasts 0 where the champion forecasts 100" in gone.reasons[0]
    assert "too short" in judge(run(), run()).reasons[0]


def test_intervals_that_hold_next_to_nothing_are_a_reason_unless_the_champions_hold_no_more():
    assert "intervals hold 10%" in judge(run(accuracy(1.0, covered=0.1)), run(accuracy(1.0))).reasons[0]
    assert judge(run(accuracy(1.0, covered=0.1)), run(accuracy(1.0, covered=0.1))).acceptable


def test_errors_that_are_as_good_as_none_are_not_told_apart():
    assert judge(run(accuracy(3e-9)), run(accuracy(1e-9))).acceptable
    assert negligible(HOLDOUT, "load") == pytest.approx(2e-5)
    assert negligible(pl.DataFrame({"load": [0.0]}), "load") == negligible(HOLDOUT, "gone") == 1e-6


@given(st.lists(st.floats(0.01, 100.0), min_size=1, max_size=9))
def test_the_mean_of_ratios_is_the_same_whichever_comes_first(ratios):
    assert geometric_mean(ratios) * geometric_mean([1 / r for r in ratios]) == pytest.approx(1.0)


def scores(firing: list[int], entity: str = "a", score: list[float] | None = None) -> pl.DataFrame:
    values = score or [2.0 if fires else 0.5 for fires in firing]
    ts = T0 + np.arange(len(firing), dtype=float)
    return pl.DataFrame(
        {"entity": [entity] * len(firing), "ts": ts, "score": values, "firing": [bool(f) for f in firing]},
        schema=SCHEMA,
    )


def labels(marks: list[float | None]) -> pl.DataFrame:
    """Rows of one entity with such labels."""
    ts = T0 + np.arange(len(marks), dtype=float)
    trouble = pl.Series([1 if mark == 1 else None for mark in marks], dtype=pl.Int64)
    return pl.DataFrame({"entity": ["a"] * len(marks), "ts": ts, "label": marks, "trouble": trouble})


def alarms(own: TrialRun, its: TrialRun | None, rows: pl.DataFrame, task: str = "anomaly") -> Comparison:
    return judge_alarms(said(task, None if its is None else 1), own, its, rows, 0.05)


def test_alarms_are_counted_outside_known_trouble_and_troubles_by_their_stretch():
    rows = labels([0.0] * 10 + [1.0] * 5 + [None] * 5)
    found = count_alarms(run(scores=scores([0] * 8 + [1] * 4 + [0] * 7 + [1]), alerts=2), rows)
    assert (found.verdicts, found.alerts, found.astray, found.found) == (20, 2, 1, 1)
    assert found.firing == pytest.approx(1 / 15)  # what fires at 8 and 9 already is about the trouble that begins at 10
    assert found.entity_days == pytest.approx(19 / 86_400)
    assert found.average_precision == pytest.approx(0.5, abs=0.2)


def test_a_candidate_that_fires_much_more_is_refused_and_a_little_is_not():
    quiet = labels([0.0] * 1000)
    calm = run(scores=scores([0] * 1000))
    assert alarms(run(scores=scores([1, 0, 1, 1, 0, 1] + [0] * 994), alerts=3), calm, quiet).acceptable
    many = alarms(run(scores=scores([1, 0, 1, 0, 1, 0, 1] + [0] * 993), alerts=4), calm, quiet)
    assert many.reasons == ("it raises 4 alerts beside the champion's 0: more than 3",)
    always = alarms(run(scores=scores([1] * 1000), alerts=1), calm, quiet)
    assert always.reasons == ("it fires at 100.00% of its windows outside known trouble: more than 1.00%",)
    busy = run(scores=scores([*[1, 0] * 100, *[0] * 800]), alerts=100)
    assert alarms(run(scores=scores([*[1, 0] * 299, *[0] * 402]), alerts=299), busy, quiet).acceptable
    assert len(alarms(run(scores=scores([*[1, 0] * 301, *[0] * 398]), alerts=301), busy, quiet).reasons) == 2


def test_troubles_that_the_champion_finds_may_not_be_lost():
    rows = labels([0.0] * 5 + [1.0] * 5 + [0.0] * 5)
    finds, misses = scores([0] * 5 + [1] * 5 + [0] * 5), scores([0] * 15)
    found = alarms(run(scores=misses), run(scores=finds, alerts=1), rows)
    assert found.reasons == ("it finds 0 of the known troubles where the champion finds 1",)
    assert (found.troubles, found.prevalence) == (1, pytest.approx(1 / 3))
    assert alarms(run(scores=finds, alerts=1), run(scores=misses), rows).acceptable


def test_an_incident_model_is_held_against_the_champion_or_chance():
    rows = labels([0.0] * 5 + [1.0] * 5 + [0.0] * 5)
    good = run(scores=scores([0] * 15, score=[0.1] * 5 + [0.9] * 5 + [0.2] * 5))
    bad = run(scores=scores([0] * 15, score=[0.9] * 5 + [0.1] * 5 + [0.8] * 5))
    assert alarms(good, bad, rows, "incident").acceptable
    assert "average precision" in alarms(bad, good, rows, "incident").reasons[0]
    assert "by chance" in alarms(bad, None, rows, "incident").reasons[0]
    assert alarms(good, None, rows, "incident").acceptable
    unknown = alarms(good, None, labels([0.0] * 15), "incident")
    assert "no known trouble" in unknown.reasons[0]
    assert alarms(good, good, labels([0.0] * 15), "incident").acceptable


def test_a_detector_that_hears_much_less_is_refused():
    assert judge_hearing(said("anomaly"), 10, 8, 10).acceptable
    assert judge_hearing(said("anomaly"), 10, 7, 10).reasons == (
        "it finds 7 of 10 made-up troubles where the champion finds 10",
    )
    assert judge_hearing(said("anomaly"), 10, 0, 0).acceptable
    before = replace(said("anomaly"), reasons=("x",))
    assert judge_hearing(before, 1, 1, 1).reasons == ("x",)


def holdout(seconds: int = 200) -> TrainingSet:
    rng = np.random.default_rng(0)
    table = pl.DataFrame(
        {
            "id": ["a"] * seconds + ["b"] * seconds,
            "ts": np.tile(T0 + np.arange(seconds, dtype=float), 2),
            "load": rng.uniform(0.4, 0.6, 2 * seconds),
            "sent": np.tile(np.arange(seconds, dtype=float), 2),
        }
    ).sort("ts", "id")
    about = alert("a", T0 + 150, T0 + 160)
    return training_set(STREAM, binding(), table, [about], [judged("true", about)], holdout=0.5)


def test_made_up_trouble_is_put_into_quiet_gauges_only_and_stays_in_range():
    data = holdout()
    made = make_up(STREAM, data.holdout, data.label)
    assert made.pieces > 10
    changed = (made.table["load"] != data.holdout["load"]).to_numpy()
    where = data.holdout.select(entity=pl.col("id"), ts=pl.col("ts")).join(made.places, on=["entity", "ts"], how="left")
    assert (changed == where["piece"].is_not_null().to_numpy()).all()
    assert (data.holdout.filter(pl.Series(changed))["label"] == 0.0).all()
    assert made.table["sent"].equals(data.holdout["sent"])
    assert made.table["load"].is_between(0.0, 1.0).all()
    assert make_up(STREAM, data.holdout, data.label).table.equals(made.table)
    everywhere = scores([1] * 200, "a").vstack(scores([1] * 200, "b"))
    assert made.found(run(scores=everywhere)) == made.pieces
    assert made.found(run(scores=scores([0] * 200))) == 0


def test_a_stream_without_gauges_gets_no_made_up_trouble():
    stream = small_stream(fields=(Field(name="sent", kind="counter"),))
    data = holdout()
    assert make_up(stream, data.holdout, data.label).pieces == 0


def test_each_stretch_of_trouble_of_an_entity_has_its_number():
    table = pl.DataFrame({"id": ["a"] * 100 + ["b"] * 100, "ts": [T0 + s for s in [*range(100)] * 2], "load": 0.5})
    alerts = [alert("a", T0 + 60, T0 + 65), alert("a", T0 + 80, T0 + 99), alert("b", T0 + 50, T0 + 70)]
    data = training_set(STREAM, binding(), table, alerts, [judged("true", a) for a in alerts], holdout=0.5)
    rows = labelled_rows(STREAM, data)
    found = rows.drop_nulls("trouble").group_by("trouble").agg(pl.len(), pl.col("entity").n_unique()).sort("len")
    assert found["len"].to_list() == [6, 20, 21]
    assert found["entity"].to_list() == [1, 1, 1]


def test_the_report_says_all_of_it():
    numbers = Alarms(10, 1.5, 2, 1, 0.01, 1, nan, nan)
    found = replace(said("anomaly", 0), alarms=numbers, champion_alarms=numbers, made_up=3, made_up_found=2, ends=inf)
    text = found.section()
    assert "the detector that needs no training" in text
    assert "average precision - where chance has -" in text
    assert "Of 3 made-up troubles the candidate finds 2, the champion 0." in text

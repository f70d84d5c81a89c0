"""What is left out of a training set, what is labelled, and where it is cut."""

from __future__ import annotations

from math import inf

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dwcp_stream.errors import PayloadError
from dwcp_stream.history.episodes import Episode, Rows, episodes
from dwcp_stream.history.training_set import training_set, window_seconds
from dwcp_stream.training.trainers import learns_from_labels
from tests.unit.history_cases import alert, binding, judged, missed, small_stream

STREAM = small_stream()
T0 = 1_700_000_000.0


def rows(seconds: int = 100, entities: tuple[str, ...] = ("a", "b")) -> pl.DataFrame:
    ts = np.tile(T0 + np.arange(seconds, dtype=float), len(entities))
    return pl.DataFrame({"id": np.repeat(entities, seconds), "ts": ts, "load": np.arange(len(ts), dtype=float)})


def left(table: pl.DataFrame, entity: str) -> list[int]:
    """Seconds of an entity that are in a table."""
    return (table.filter(pl.col("id") == entity)["ts"] - T0).cast(pl.Int64).to_list()


def test_rows_in_and_shortly_before_alerts_are_left_out():
    fires, ends = alert("a", T0 + 20), alert("a", T0 + 20, T0 + 30)
    data = training_set(STREAM, binding(), rows(), [fires, ends], [])
    assert left(data.train, "a") == [*range(15), *range(31, 80)]
    assert left(data.train, "b") == list(range(80))
    assert data.left_out == 16
    assert data.train.columns == ["id", "ts", "load"]
    assert data.alerts == {"true": 0, "false": 0, "unjudged": 1, "missed": 0}


def test_an_alert_that_still_fires_leaves_out_the_rest():
    data = training_set(STREAM, binding(), rows(), [alert("b", T0 + 65)], [])
    assert left(data.train, "b") == list(range(60))
    assert left(data.holdout, "b") == list(range(80, 100))  # what is compared on is all there is
    assert data.holdout.filter(pl.col("id") == "b")["label"].null_count() == 20
    assert data.holdout.filter(pl.col("id") == "a")["label"].to_list() == [0.0] * 20


def test_an_alert_that_nobody_judged_and_that_never_ends_is_a_change_to_learn_from():
    about = alert("b", T0 + 20)
    assert left(training_set(STREAM, binding(), rows(), [about], []).train, "b") == [*range(15), *range(40, 80)]
    judged_true = training_set(STREAM, binding(), rows(), [about], [judged("true", about)])
    assert left(judged_true.train, "b") == list(range(15))
    labelled = training_set(STREAM, binding("incident"), rows(), [about], [])
    assert labelled.train.filter(pl.col("id") == "b")["label"].null_count() == 65
    long_ago = alert("a", T0 - 1000)
    assert training_set(STREAM, binding(), rows(), [long_ago], []).left_out == 0


def test_a_false_alarm_is_quiet_time_and_the_newest_judgement_counts():
    about = alert("a", T0 + 20, T0 + 30)
    data = training_set(STREAM, binding(), rows(), [about], [judged("false", about, 2), judged("true", about, 1)])
    assert data.left_out == 0
    assert data.alerts["false"] == 1
    again = training_set(STREAM, binding(), rows(), [about], [judged("false", about, 2), judged("true", about, 3)])
    assert again.left_out == 16


def test_missed_trouble_is_left_out_for_a_window():
    data = training_set(STREAM, binding("forecast"), rows(), [], [missed("a", T0 + 40)])
    assert left(data.train, "a") == [*range(35), *range(46, 80)]


def test_incident_rows_are_labelled_by_what_was_said():
    true, false, unjudged = (alert("a", T0 + at, T0 + at + 4) for at in (20, 40, 60))
    said = [judged("true", true), judged("false", false), missed("b", T0 + 30)]
    data = training_set(STREAM, binding("incident"), rows(), [true, false, unjudged], said)
    label = dict(zip(left(data.train, "a"), data.train.filter(pl.col("id") == "a")["label"].to_list(), strict=True))
    assert [s for s, value in label.items() if value == 1] == list(range(20, 25))
    assert [s for s, value in label.items() if value is None] == [*range(15, 20), *range(55, 65)]
    other = dict(zip(left(data.train, "b"), data.train.filter(pl.col("id") == "b")["label"].to_list(), strict=True))
    assert [s for s, value in other.items() if value == 1] == list(range(30, 36))
    assert [s for s, value in other.items() if value is None] == [*range(25, 30), *range(36, 41)]
    assert data.left_out == 0
    assert data.labelled == {"incident": 11, "normal": 200 - 36, "unknown": 25}


def test_the_label_has_the_name_that_the_trainer_reads():
    data = training_set(STREAM, binding("incident", label="fault"), rows(), [], [])
    assert "fault" in data.train.columns


def test_a_trainer_that_learns_from_labels_gets_kinds_and_what_to_pass_over():
    lost, unjudged = alert("a", T0 + 20, T0 + 24, kind="leader_lost"), alert("a", T0 + 60, T0 + 64)
    said = [judged("true", lost), missed("b", T0 + 30)]
    data = training_set(STREAM, binding(), rows(), [lost, unjudged], said, labelled=True)
    assert data.left_out == 0
    own = data.train.filter(pl.col("id") == "a")
    assert [s for s, kind in zip(left(data.train, "a"), own["fault_type"], strict=True) if kind] == list(range(20, 25))
    assert set(own["fault_type"].to_list()) == {"leader_lost", ""}
    assert [s for s, mark in zip(left(data.train, "a"), own["disturbed"], strict=True) if mark] == [
        *range(15, 20),
        *range(55, 65),
    ]
    assert set(data.train.filter(pl.col("id") == "b")["fault_type"].to_list()) == {""}


@pytest.mark.parametrize(
    ("stream", "name", "task", "labels"),
    [
        ("consensus", "consensus-kinds", "anomaly", True),
        ("node", "node-iforest", "anomaly", True),
        ("node", "node-gbt", "incident", True),
        ("any", "any-incident", "incident", True),
        ("any", "any-kinds", "anomaly", False),
        ("link", "link-forecast", "forecast", False),
    ],
)
def test_which_trainers_learn_from_labels(stream, name, task, labels):
    assert learns_from_labels(binding(task, name=name), stream) is labels


def test_messages_of_other_streams_change_nothing():
    other = alert("a", T0 + 20, stream="other")
    data = training_set(STREAM, binding(), rows(), [other], [missed("a", T0 + 5, stream="other")])
    assert data.left_out == 0
    assert sum(data.alerts.values()) == 0


def test_an_alert_without_an_end_is_over_when_the_next_one_begins():
    found = episodes("demo", [alert("a", T0), alert("a", T0 + 50), alert("a", T0 + 50, T0 + 60)], [], 5.0)
    assert [(e.starts, e.ends) for e in found] == [(T0, T0 + 50), (T0 + 50, T0 + 60)]


def test_messages_may_come_in_any_order_and_again():
    messages = [alert("a", T0 + 20, T0 + 30), alert("a", T0 + 20), alert("a", T0 + 20, T0 + 30)]
    assert [(e.starts, e.ends) for e in episodes("demo", messages, [], 5.0)] == [(T0 + 20, T0 + 30)]
    assert episodes("demo", [alert("a", T0)], [], 5.0)[0].ends == inf


def test_a_window_of_an_irregular_stream_lasts_as_long_as_its_samples_take():
    table = rows(50).with_columns(pl.col("ts") * 3)
    assert window_seconds(small_stream(step="irregular"), table) == 15.0


@pytest.mark.parametrize("table", [rows(0), rows(1)])
def test_what_cannot_be_split_is_said(table):
    with pytest.raises(PayloadError, match="cannot be split by time"):
        training_set(STREAM, binding(), table, [], [])


spans = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(-5, 60), st.one_of(st.none(), st.integers(0, 30))), max_size=8
)


@given(
    found=spans,
    before=st.integers(0, 10),
    order=st.randoms(use_true_random=False),
)
def test_rows_inside_are_exactly_those_between_beginning_and_end(found, before, order):
    table = rows(50, ("a", "b")).sample(fraction=1.0, shuffle=True, seed=order.randrange(1000))
    given_ = [Episode(e, T0 + s, inf if length is None else T0 + s + length, "unjudged") for e, s, length in found]
    inside = Rows(STREAM, table).inside(given_, before=before)
    for entity, ts, mark in zip(table["id"], table["ts"], inside, strict=True):
        assert mark == any(e.entity == entity and e.starts - before <= ts <= e.ends for e in given_)


@given(
    seconds=st.lists(st.floats(0, 1e6), min_size=2, max_size=40, unique=True),
    holdout=st.floats(0.05, 0.95),
    found=spans,
)
def test_the_hold_out_is_later_than_all_that_is_trained_on_and_nothing_is_lost(seconds, holdout, found):
    table = pl.DataFrame({"id": ["a"] * len(seconds), "ts": [T0 + s for s in seconds], "load": seconds})
    if table["ts"].n_unique() < 2:
        return
    alerts = [alert(e, T0 + s, None if length is None else T0 + s + length) for e, s, length in found]
    data = training_set(STREAM, binding(), table, alerts, [], holdout=holdout)
    assert len(data.train) + data.left_out + len(data.holdout) == len(table)
    assert data.holdout["ts"].min() >= data.cut
    assert len(data.train) == 0 or data.train["ts"].max() < data.cut
    assert sum(data.labelled.values()) == len(table)


def test_after_a_drift_alerts_that_nobody_judged_are_learnt_from():
    table, alerts = rows(), [alert("a", T0 + 20, T0 + 30), alert("b", T0 + 20, T0 + 30)]
    said = [judged("true", alerts[1])]
    usual = training_set(STREAM, binding(), table, alerts, said, before=0)
    drifted = training_set(STREAM, binding(), table, alerts, said, before=0, unjudged=False)
    assert set(range(20, 31)).isdisjoint(left(usual.train, "a"))
    assert set(range(20, 31)) <= set(left(drifted.train, "a"))
    assert set(range(20, 31)).isdisjoint(left(drifted.train, "b"))

"""What `evaluate` judges are the verdicts that the daemon gives, also of a model that remembers."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from dwcp_stream.backtest import backtest, read_records
from dwcp_stream.pipeline import Pipeline
from dwcp_stream.streams import Field, ModelBinding, StreamDefinition
from dwcp_stream.training import judging
from dwcp_stream.training.causes import by_cause
from dwcp_stream.training.dataset import load_grid
from dwcp_stream.training.evaluation_report import notes, summary
from dwcp_stream.training.in_turn import verdicts_in_turn
from dwcp_stream.training.labels import labelled
from dwcp_stream.training.peers import anomaly
from dwcp_stream.training.peers.fitting import first_halves, fit_detectors, own_files
from dwcp_stream.untrained import untrained_model
from dwcp_stream.verdict_table import VerdictTable

STREAM = StreamDefinition(
    name="pumps", topic="pumps", entity=("pump",), step=10.0, window=6, min_periods=3,
    fields=(Field(name="flow"), Field(name="heat")), models=(ModelBinding(name="pumps-anomaly", task="anomaly"),),
)  # fmt: skip


@pytest.fixture
def file(tmp_path):
    """Three pumps of different histories; one was silent for a while, some values are missing."""
    rng = np.random.default_rng(5)
    frames = []
    for pump, rows in (("a", 90), ("b", 60), ("c", 40)):
        step = np.arange(rows) + (np.arange(rows) > 30) * 20 * (pump == "b")
        heat = [None if rng.random() < 0.2 else float(rng.normal(60, 1)) for _ in range(rows)]
        label = (np.arange(rows) > 35).astype(int)
        flow = rng.normal(5, 1, rows) + 9 * label
        ts = 1e9 + 10 * step
        frames.append(pl.DataFrame({"pump": [pump] * rows, "ts": ts, "flow": flow, "heat": heat, "label": label}))
    path = tmp_path / "pumps.csv"
    pl.concat(frames).sort("ts", "pump").write_csv(path)
    return path


def test_verdicts_are_those_of_the_pipeline(file, tmp_path):
    model = untrained_model(STREAM, STREAM.models[0]).bind(STREAM)
    assert model.state_size
    table = VerdictTable()
    pipeline = Pipeline(STREAM, [model], check_ahead=False, recorder=table)
    for _ in backtest(pipeline, read_records([file], STREAM, None), partitions=1, chunk_records=7):
        pass
    table.write(tmp_path / "verdicts.parquet")
    daemon = pl.read_parquet(tmp_path / "verdicts.parquet").sort("entity", "ts")
    grid, told = load_grid(STREAM, [file], extra=("label",), entity=None), []
    ends = grid.ends()
    score = np.full(len(ends), np.nan, np.float32)
    for rows, verdicts in verdicts_in_turn(model, grid, ends, told.append):
        score[rows] = verdicts.score
    mine = pl.DataFrame({"entity": [grid.entities[e] for e in grid.entity[ends]], "ts": grid.ts[ends], "score": score})
    mine = mine.sort("entity", "ts")
    assert mine["ts"].to_list() == daemon["ts"].to_list()
    np.testing.assert_array_equal(mine["score"].to_numpy(), daemon["score"].to_numpy())
    assert np.isfinite(score).sum() > 60
    assert told[-1] == 1.0


def test_a_detector_with_a_memory_is_judged_with_it(file):
    model = untrained_model(STREAM, STREAM.models[0]).bind(STREAM)
    grid = load_grid(STREAM, [file], extra=("label",), entity=None)
    plots = {}
    found = judging.judge_detector(model, grid, "label", lambda _: None, plots)["detectors"][model.name]
    assert set(plots) == {"score.png", "roc.png", "pr.png"}
    assert found["events"] == 3
    assert found["found"] == 3


@pytest.fixture
def grid(file):
    return load_grid(STREAM, [file], extra=("label",), entity=None)


def test_peers_see_the_first_halves_and_all_are_judged_on_the_second(grid):
    model = untrained_model(STREAM, STREAM.models[0]).bind(STREAM)
    fitting = first_halves(grid)
    assert not set(np.flatnonzero(fitting.judged)) & set(fitting.rows)
    group = grid.entity[grid.filled]
    assert [int(fitting.judged[grid.filled][group == e].sum()) for e in range(3)] == [45, 30, 20]
    options = judging.Options(fitting=fitting, seed=1)
    result = judging.judge_detector(model, grid, "label", lambda _: None, None, options)
    assert {"PCA + mean of 5", "River HalfSpaceTrees", "EWMA z"} < set(result["detectors"])
    for numbers in result["detectors"].values():
        assert numbers["quiet_hours"] < 40 * 10 / 3600  # of pump c alone, whose fault begins late
    assert any("first half" in note for note in notes({**result, "trained_on": []}))
    assert any("flatter" in note for note in notes({**result, "trained_on": ["pumps.csv"]}))
    again = judging.judge_detector(model, grid, "label", lambda _: None, None, options)
    assert again == result


def test_what_a_peer_has_no_library_for_is_said_and_the_rest_goes_on(grid, monkeypatch):
    monkeypatch.setattr(anomaly, "find_spec", lambda _name: None)
    data = labelled(grid, "label")
    scores, missing = fit_detectors(first_halves(grid), data, "label", "anomaly", 0)
    assert missing == "pyod is not installed"
    assert len(scores) == 3


def test_classifiers_need_labels_of_both_kinds_and_find_what_they_were_taught(file, grid, tmp_path):
    data = labelled(grid, "label")
    fitting = first_halves(grid)
    scores, missing = fit_detectors(fitting, data, "label", "incident", 0)
    assert missing == ""
    assert "HistGradientBoosting on the newest row" in scores
    logistic = scores["logistic regression on the newest row"]  # nine rows of a fault are too few for trees
    on = data.scored & fitting.judged
    assert np.isnan(logistic[~on]).all()
    label = grid.columns["label"][on] > 0
    assert (logistic[on] > 1)[label].mean() > 0.9  # the flow rises from 5 by 9 in a fault
    assert (logistic[on] > 1)[~label].mean() < 0.2
    quiet = tmp_path / "quiet.csv"
    pl.read_csv(file).with_columns(label=pl.lit(0)).write_csv(quiet)
    other = own_files(load_grid(STREAM, [quiet], extra=("label",)), "quiet.csv", grid)
    assert fit_detectors(other, data, "label", "incident", 0) == (
        {},
        "no peers: the rows to fit on are all of one kind",
    )


def test_causes_by_hand(grid):
    words = np.full(len(grid.ts), "", dtype=object)
    label = np.nan_to_num(grid.columns["label"]) > 0
    words[label] = np.where(grid.entity[label] == 0, "leak", "jam")
    negative = np.where(grid.filled & ~label & (grid.entity == 0), "flush", "").astype(object)
    named = replace(grid, columns={"label": words, "negative": negative})
    data = labelled(named, "label")
    assert (data.event >= 0).sum() == label.sum()
    score = np.where(label & (grid.entity != 2), 2.0, 0.0)
    score[np.flatnonzero(data.quiet & (grid.entity == 0) & data.scored)[[3, 20]]] = 1.5
    kinds = np.zeros((len(score), 2))
    kinds[:, 1] = 1.0
    leak, jam = ({"cause": "leak", "events": 1, "found": 1}, {"cause": "jam", "events": 2, "found": 1})
    rows = by_cause(data, np.ones(len(score), bool), score, "label", kinds, ("valve", "motor"))
    assert rows[0].items() >= jam.items()
    assert rows[1].items() >= leak.items()
    assert rows[1]["delay_median"] == 10.0
    assert rows[0]["said"] == {"valve": 0, "motor": 1}
    assert [row["cause"] for row in rows[2:]] == ["quiet: (none)", "quiet: flush"]
    assert [row["false_alarms"] for row in rows[2:]] == [0, 2]


def test_a_column_of_words_labels_and_names_causes(grid):
    model = untrained_model(STREAM, STREAM.models[0]).bind(STREAM)
    words = np.where(np.nan_to_num(grid.columns["label"]) > 0, "leak", "normal").astype(object)
    named = replace(grid, columns={"label": words})
    result = judging.judge_detector(model, named, "label", lambda _: None)
    plain = judging.judge_detector(model, grid, "label", lambda _: None)
    assert result["detectors"] == plain["detectors"]
    assert [row["cause"] for row in result["causes"]] == ["leak", "quiet: (none)"]
    assert "causes" not in plain
    assert [heading for heading, *_ in summary(result)] == ["Figures", "By cause"]


def test_rows_without_a_label_count_neither_way(grid):
    marks = grid.columns["label"].copy()
    some = np.flatnonzero(marks == 0)[::2]
    marks[some] = np.nan
    data = labelled(replace(grid, columns={"label": marks}), "label")
    assert not data.quiet[some].any()
    assert not (data.event[some] >= 0).any()
    only = np.where(marks > 0, 1.0, np.nan)  # nothing but ones and blanks
    assert labelled(replace(grid, columns={"label": only}), "label").quiet[some].all()

"""The evaluation of incident models: scores meet their labels, and a made-up set goes through the commands."""

import gzip
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from dwcp_stream.training.dataset import load_grid
from lab.evaluations.incident_sets import IncidentSet, Trial, dbsherlock, definition
from lab.evaluations.incidents import evaluate, figures, interval, joined, table
from tests.unit.incident_cases import STREAM, history


def test_a_score_finds_its_row_by_entity_and_time(tmp_path: Path) -> None:
    rows = history(2, 40, 0)
    path = tmp_path / "rows.csv"
    rows.write_csv(path)
    grid = load_grid(STREAM, [path])
    ends = grid.ends()
    verdicts = pl.DataFrame(
        {"entity": rows["host"], "ts": rows["ts"] + 3.0, "score": np.arange(len(rows), dtype=float)}
    ).sample(fraction=1.0, shuffle=True, seed=1)
    found = joined(grid, ends, verdicts.filter(pl.col("score") != 7.0))
    assert np.isnan(found[7])
    np.testing.assert_array_equal(np.delete(found, 7), np.delete(np.arange(len(rows), dtype=float), 7))


def test_figures_of_a_known_ranking() -> None:
    label = np.array([0] * 100 + [1] * 10) > 0
    score = np.concatenate([np.linspace(0, 1, 100), np.full(8, 2.0), np.full(2, -1.0)])
    cause = np.array([""] * 100 + ["a"] * 5 + ["b"] * 5)
    found = figures(label, score, score > 0.9, cause)
    assert found["recall_at_5"] == pytest.approx(0.8)
    assert found["recall"] == pytest.approx(0.8)
    assert found["false_rate"] == pytest.approx(0.1)
    assert found["by"]["a"] == {"rows": 5, "recall_at_5": 1.0, "recall": 1.0}
    assert found["by"]["b"]["recall_at_5"] == pytest.approx(0.6)


def test_an_interval_comes_from_drawing_incidents_not_rows() -> None:
    label = np.array([0] * 100 + [1] * 100) > 0
    score = np.concatenate([np.linspace(0, 1, 100), np.full(50, 2.0), np.full(50, 0.0)])
    two = np.concatenate([np.full(100, -1), np.repeat([0, 1], 50)])
    assert interval(label, score, two) == (0.0, 1.0)  # half of the draws hold one of the two twice
    many = np.concatenate([np.full(100, -1), np.arange(100)])
    low, high = interval(label, score, many)
    assert 0.35 < low < 0.45
    assert 0.55 < high < 0.65
    assert interval(label, np.concatenate([score[:100], np.full(100, 2.0)]), many) == (1.0, 1.0)


def test_a_set_is_trained_and_scored_by_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DWCP_STREAMS_DIR", str(tmp_path))  # put back afterwards
    rows = history(8, 120, 3).with_columns(x_cause=pl.when(pl.col("label") == 1).then(pl.lit("leak")))
    held = pl.col("host").is_in(["h3-6", "h3-7"])
    text = definition("hosts", ["host"], ["f0", "f1", "f2"], step="10.0", window=12)
    found = IncidentSet(
        text, lambda: iter([Trial("unseen hosts", rows.filter(~held), rows.filter(held), "x_cause")]), rule="f0"
    )
    results = list(evaluate(found, tmp_path, seed=0))
    assert results[0]["rows"] == 240
    assert results[0]["unscored"] == 0
    detectors = results[0]["detectors"]
    assert len(detectors) == 5
    assert detectors["model"]["recall_at_5"] > max(v["recall_at_5"] for k, v in detectors.items() if k != "model")
    assert detectors["model"]["by"]["leak"]["rows"] == int(rows.filter(held)["label"].sum())
    assert "rule: f0 alone" in table(results)


def test_rows_that_are_not_to_be_scored_have_no_label(tmp_path: Path) -> None:
    """A made-up file of the published form: two runs, one of them held out for its cause."""
    folder = tmp_path / "dbsherlock"
    folder.mkdir()
    lines = ["run,cause,label,in_normal_region,use,epoch_s,avg_latency,cpu (core #1)"]
    for run, cause in (("single-00-00", "Lock"), ("single-01-02", "Load")):
        lines += [f"{run},{cause},{int(t > 5)},0,{int(t != 3)},{t},{t}.5,1" for t in range(10)]
    with gzip.open(folder / "dbsherlock_tpcc16w.csv.gz", "wt") as stream:
        stream.write("\n".join(lines) + "\n")
    found = dbsherlock(tmp_path)
    assert 'name = "cpu_core_1"' in found.definition
    trials = {trial.name: trial for trial in found.trials()}
    assert set(trials) == {"causes seen", "unseen: Lock", "unseen: Load"}
    unseen = trials["unseen: Lock"]
    assert unseen.train["cause"].unique().to_list() == ["Load"]
    assert unseen.test["label"].null_count() == 1
    assert unseen.test["label"].sum() == 4
    assert not set(trials["causes seen"].train["run"]) & set(trials["causes seen"].test["run"])

"""What `evaluate` judges are the verdicts that the daemon gives, also of a model that remembers."""

import numpy as np
import polars as pl
import pytest

from dwcp_stream.backtest import backtest, read_records
from dwcp_stream.pipeline import Pipeline
from dwcp_stream.streams import Field, ModelBinding, StreamDefinition
from dwcp_stream.training import judging
from dwcp_stream.training.dataset import load_grid
from dwcp_stream.training.in_turn import verdicts_in_turn
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

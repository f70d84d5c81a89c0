"""The evaluation of forecasts: its splits, its alignment of forecasts with what came, its peers and its figures."""

import gzip
from datetime import UTC, datetime
from pathlib import Path

import click
import numpy as np
import polars as pl
import pytest

from dwcp_stream.streams import load_stream
from lab.evaluations import forecast_peers as peers
from lab.evaluations.forecast_scores import Series, align, figures
from lab.evaluations.forecast_sets import Task, tasks
from lab.evaluations.forecasts import evaluate, render
from tests.unit.forecast_cases import STEP, daily, times


def made_up(tmp_path: Path) -> Path:
    """Folder laid out as the public sets are, with rows of our own."""

    def stamp(ts: float) -> str:
        return datetime.fromtimestamp(ts, UTC).strftime("%Y-%m-%d %H:%M:%S")

    lines = ["series,timestamp,value"]
    for series, step, rows in (("A5M", 300, 60), ("A1H", 3600, 30)):
        lines += [f"{series},{stamp(1.6e9 + step * i)},{100.0 + i}" for i in range(rows)]
    (tmp_path / "isp_traffic").mkdir()
    (tmp_path / "isp_traffic" / "isp_traffic.csv.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    lines = ["probe,timestamp,rtt_ms,lost,changepoint"]
    for probe in range(7):
        lines += [f"{probe},{stamp(1.6e9 + 240 * i)},{'' if i == 4 else 50 + probe},0,0" for i in range(30)]
    (tmp_path / "ripe_rtt").mkdir()
    (tmp_path / "ripe_rtt" / "ripe_rtt.csv.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    return tmp_path


def test_tasks_split_by_time_and_by_entity(tmp_path: Path) -> None:
    found = {task.name: task for task in tasks(made_up(tmp_path))}
    assert len(found) == 3 + 5
    hourly = found["A1H"]
    assert (len(hourly.train), len(hourly.test)) == (20, 10)
    assert hourly.train["ts"].max() < hourly.test["ts"].min()
    later = found["rtt, later time"]
    assert later.train["entity"].n_unique() == later.test["entity"].n_unique() == 7
    folds = [found[f"rtt, unseen traces {i}/5"] for i in range(1, 6)]
    for task in folds:
        assert not set(task.train["entity"]) & set(task.test["entity"])
    assert sorted(e for task in folds for e in task.test["entity"].unique()) == [str(i) for i in range(7)]
    for task in found.values():
        path = tmp_path / "d.toml"
        path.write_text(task.definition())
        stream = load_stream(path)
        assert stream.models[0].targets == (task.target,)
        assert stream.models[0].horizons == task.horizons


def task_of(values: np.ndarray, cut: int, *, horizons: tuple[int, ...] = (1, 2)) -> Task:
    ts = times(len(values))
    whole = pl.DataFrame({"ts": ts, "value": values})
    return Task("made up", "made_up", "value", STEP, horizons, 24, "only", whole[:cut], whole[cut:])


def scores_of(task: Task, q50: np.ndarray, rows: np.ndarray, horizon: int) -> pl.DataFrame:
    columns = {f"value_h{horizon}_{name}": q50 + off for name, off in (("q10", -1.0), ("q50", 0.0), ("q90", 1.0))}
    return pl.DataFrame({"entity": ["only"] * len(rows), "ts": task.test["ts"].to_numpy()[rows], **columns})


def test_forecasts_meet_the_row_that_they_are_for() -> None:
    values = np.arange(30.0)
    values[25] = np.nan
    task = task_of(values, 20)
    rows = np.arange(3, 10)  # made at the values 23 .. 29
    series = align(task, scores_of(task, values[20 + rows] + 2.0, rows, 2), 2)[0]
    # 23 has no actual, 25 has no forecast, 28 and 29 lie too near to the end
    assert series.actual.tolist() == [26.0, 28.0, 29.0]
    assert series.quantiles[:, 1].tolist() == [26.0, 28.0, 29.0]
    assert series.last.tolist() == [24.0, 26.0, 27.0]
    assert peers.seasonal_naive(series, 2, 24).tolist() == [2.0, 4.0, 5.0]
    assert peers.persistence(series).tolist() == [24.0, 26.0, 27.0]


def test_figures_of_a_known_case() -> None:
    actual = np.array([10.0, 20.0, 40.0, 50.0] * 30)
    history = np.r_[actual, 10.0]
    origin = np.arange(len(actual))
    quantiles = np.stack([actual - 1, actual + 2, actual + 3], axis=1)
    quantiles[::4, 0] += 5  # a quarter of the actuals lies under q10
    series = [Series("a", history, origin, actual, quantiles)]
    last = history[origin] * 2  # twice the actual
    object.__setattr__(series[0], "history", np.r_[last, 0.0])
    made = figures(series, 1, {"model": [quantiles[:, 1]], "persistence": [series[0].last]})
    model = made["forecasts"]["model"]
    assert model["mae"] == 2.0
    assert model["mape"] == pytest.approx(100 * np.mean(2 / actual))
    assert model["skill"] == pytest.approx(1 - 2 / actual.mean())
    assert made["forecasts"]["persistence"]["skill"] == 0.0
    assert made["coverage"] == 0.75
    assert (made["better"], made["worse_significantly"], made["better_significantly"]) == (1, 0, 1)


def test_autoregression_knows_a_season_only_if_told() -> None:
    rng = np.random.default_rng(0)
    pattern = rng.normal(0, 5, 24)
    values = np.tile(pattern, 30) + rng.normal(0, 0.5, 720)
    origin = np.arange(600, 700)
    series = Series("a", values, origin, values[origin + 1], np.zeros((100, 3)))
    plain = np.abs(peers.autoregression(series, 1, 500) - series.actual).mean()
    seasonal = np.abs(peers.autoregression(series, 1, 500, 24) - series.actual).mean()
    assert seasonal < 1.0 < plain


def test_a_task_is_run_through_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DWCP_STREAMS_DIR", str(tmp_path))  # set back afterwards: the evaluation sets it
    result = evaluate(task_of(daily(18), 300, horizons=(1, 6)), tmp_path / "work", 0, with_autoets=False)
    for horizon in result["horizons"]:
        assert horizon["forecasts"]["model"]["mae"] < 0.7 * horizon["forecasts"]["persistence"]["mae"]
        assert horizon["rows"] > 100
    with pytest.raises(click.ClickException, match="holds models already"):
        evaluate(task_of(daily(18), 300), tmp_path / "work", 0, with_autoets=False)
    told = render([result])
    assert "made up +6" in told
    assert "AR(12), day before" in told

"""The default forecaster from a file to its forecasts, by the commands that a user runs, on awkward histories."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from dwcp_stream.cli.main import run
from dwcp_stream.streams import load_stream
from dwcp_stream.training.forecast.trainer import train_forecast
from dwcp_stream.training.job import Job
from tests.unit.forecast_cases import daily, field, table, times, write_stream

MODEL = 'name = "sites-any"\ntask = "forecast"\ntargets = ["load"]\nhorizons = [1, 4]'


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DWCP_STREAMS_DIR", str(tmp_path / "streams"))
    monkeypatch.setenv("DWCP_MODELS_DIR", str(tmp_path / "models"))
    return tmp_path


def train(work: Path, capsys: pytest.CaptureFixture[str], *more: str) -> dict[str, Any]:
    code = run(["train", "sites", "--data", str(work / "train.csv"), "--json", *more])
    printed = capsys.readouterr()
    assert code == 0, printed.err
    return json.loads(printed.out)["trained"][0]


def backtest(work: Path, capsys: pytest.CaptureFixture[str], *more: str) -> pl.DataFrame:
    scores = work / "scores.csv"
    code = run(["backtest", str(work / "test.csv"), "--stream", "sites", "--scores", str(scores), "--json", *more])
    printed = capsys.readouterr()
    assert code == 0, printed.err
    return pl.read_csv(scores)


def test_sites_that_repeat_their_days(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_stream(work / "streams", field("load", min=0) + field("other"), MODEL)
    rng = np.random.default_rng(0)
    parts = []
    for i in range(5):
        load = daily(20, i, level=100.0 * (i + 1), noise=1.0)
        load[rng.random(len(load)) < 0.02] = np.nan
        columns = {"site": [f"s{i}"] * len(load), "load": load, "other": rng.normal(size=len(load))}
        parts.append(table(columns, times(len(load))).with_columns(pl.col("load").fill_nan(None)))
    cut = 24 * 14
    pl.concat([p[:cut] for p in parts]).write_csv(work / "train.csv")
    pl.concat([p[cut:] for p in parts]).write_csv(work / "test.csv")

    trained = train(work, capsys)
    assert trained["champion"]
    known, new = (trained["metrics"][f"{kind}_entities"]["load+4"] for kind in ("known", "new"))
    for result in (known, new):
        assert result["skill_persistence"] > 0.5
        assert set(result["baselines"]) == {"persistence", "window mean", "autoregression", "seasonal naive"}
    assert trained["metrics"]["seasons"] == [86_400.0]
    report = (work / "models" / "sites-any" / "1" / "report.md").read_text()
    assert "86400 s" in report
    assert "autoregression" in report

    made = backtest(work, capsys)
    assert set(made.columns) >= {"entity", "ts", *(f"load_h{h}_q{q}" for h in (1, 4) for q in (10, 50, 90))}
    for i in range(5):
        own = made.filter(pl.col("entity") == f"s{i}").sort("ts")
        truth = dict(zip(parts[i]["ts"].to_list(), parts[i]["load"].to_list(), strict=True))
        came = np.array([truth.get(t + 4 * 3600.0) for t in own["ts"].to_list()], float)
        last = np.array([truth.get(t) for t in own["ts"].to_list()], float)
        both = np.isfinite(came) & np.isfinite(last)
        q50 = own["load_h4_q50"].to_numpy()
        assert np.abs(came - q50)[both].mean() < 0.6 * np.abs(came - last)[both].mean()
        inside = (came >= own["load_h4_q10"].to_numpy()) & (came <= own["load_h4_q90"].to_numpy())
        assert 0.65 < inside[both].mean() < 0.95

    assert run(["evaluate", "sites", "--data", str(work / "test.csv"), "--json"]) == 0
    judged = {f["horizon"]: f for f in json.loads(capsys.readouterr().out)["models"][0]["forecasts"]}
    assert judged[4]["simple"]["persistence"]["skill"] > 0.4
    assert judged[4]["repeating"] == []

    walk = 300.0 + np.cumsum(rng.normal(0, 3.0, 600))
    columns = {"site": ["walk"] * 600, "load": walk, "other": rng.normal(size=600)}
    table(columns, times(600)).write_csv(work / "walk.csv")
    assert run(["evaluate", "sites", "--data", str(work / "walk.csv"), str(work / "test.csv"), "--json"]) == 0
    judged = {f["horizon"]: f for f in json.loads(capsys.readouterr().out)["models"][0]["forecasts"]}
    assert judged[4]["repeating"] == ["walk"]  # the model does no better there, and says so


def test_a_random_walk_is_not_made_worse(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_stream(work / "streams", field("load"), MODEL)
    walk = 1e9 + 1e6 * np.cumsum(np.random.default_rng(1).normal(size=900))
    table({"load": walk[:600]}, times(600)).write_csv(work / "train.csv")
    table({"load": walk[600:]}, times(900)[600:]).write_csv(work / "test.csv")
    train(work, capsys, "--epochs", "2", "--entity", "only")
    made = backtest(work, capsys, "--entity", "only")
    assert made["entity"].unique().to_list() == ["only"]
    for horizon in (1, 4):
        q50 = made[f"load_h{horizon}_q50"].to_numpy()[:-horizon]
        rows = np.rint((made["ts"].to_numpy()[:-horizon] - times(1)[0]) / 3600).astype(int)
        error = np.abs(walk[rows + horizon] - q50).mean()
        assert error < 1.03 * np.abs(walk[rows + horizon] - walk[rows]).mean()


def test_awkward_columns_and_steps(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fields = (
        field("load") + field("tiny") + field("still") + field("total", kind='"counter"')
        + field("mode", kind='"categorical"', vocabulary='["on", "off"]')
    )  # fmt: skip
    write_stream(work / "streams", fields, 'name = "sites-any"\ntask = "forecast"', step="irregular", stride=2)
    rng = np.random.default_rng(2)
    n = 420
    ts = times(1)[0] + np.cumsum(rng.uniform(5, 90, n))
    columns = {
        "site": ["a"] * n,
        "load": 1e12 * rng.gamma(2.0, 1.0, n),
        "tiny": 1e-9 * rng.normal(size=n),
        "still": np.full(n, 3.0),
        "total": np.cumsum(rng.poisson(9, n)),
        "mode": rng.choice(["on", "off"], n),
    }
    whole = table(columns, ts).with_columns(load=pl.when(pl.col("load") < 2e11).then(None).otherwise(pl.col("load")))
    whole[:300].write_csv(work / "train.csv")
    whole[300:].write_csv(work / "test.csv")
    train(work, capsys, "--epochs", "2")
    made = backtest(work, capsys)
    # without targets and horizons: all gauges, one row ahead
    assert {c for c in made.columns if c.endswith("_q50")} == {"load_h1_q50", "tiny_h1_q50", "still_h1_q50"}
    numbers = made.select(pl.selectors.contains("_q")).to_numpy().astype(float)
    assert np.isfinite(numbers).all()
    np.testing.assert_allclose(made["still_h1_q50"].to_numpy(), 3.0, rtol=1e-5)
    assert made["load_h1_q50"].mean() == pytest.approx(2e12, rel=0.5)
    assert np.abs(made["tiny_h1_q50"].to_numpy()).max() < 1e-8


def test_too_little_data_says_what_to_do(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_stream(work / "streams", field("load"), MODEL)
    table({"load": np.arange(40.0)}, times(40)).write_csv(work / "train.csv")
    assert run(["train", "sites", "--data", str(work / "train.csv"), "--entity", "x"]) == 1
    told = capsys.readouterr().err
    assert "too few" in told
    assert "Give longer histories" in told


def test_a_seed_repeats_a_forecaster(tmp_path: Path) -> None:
    write_stream(tmp_path, field("load"), MODEL)
    table({"load": daily(8)}, times(192)).write_csv(tmp_path / "train.csv")
    stream = load_stream(tmp_path / "sites.toml")

    def model(seed: int) -> bytes:
        job = Job(stream=stream, binding=stream.models[0], files=(tmp_path / "train.csv",), seed=seed, epochs=1)
        return train_forecast(job).model

    first = model(0)
    assert model(0) == first
    assert model(1) != first

"""The evaluation of training again, on a made-up trace that forgets its period."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

from lab.evaluations import retraining

STEPS = round(15 * retraining.DAY / retraining.STEP)


@pytest.fixture
def folder(tmp_path):
    rng, t = np.random.default_rng(0), np.arange(STEPS + 1)
    period = np.where(t < STEPS / 3, 8.0, 20.0)
    rtt = 100 + 30 * np.sin(2 * np.pi * t / period) + rng.normal(0, 1, len(t))
    times = [datetime.fromtimestamp(1.48e9 + i * retraining.STEP, UTC).strftime("%Y-%m-%d %H:%M:%S") for i in t]
    short = pl.DataFrame({"probe": [1] * 100, "timestamp": times[:100], "rtt_ms": rtt[:100]})
    long = pl.DataFrame({"probe": [2] * len(t), "timestamp": times, "rtt_ms": rtt})
    (tmp_path / "ripe_rtt").mkdir()
    pl.concat([short, long]).write_csv(tmp_path / "ripe_rtt" / "ripe_rtt.csv.gz", compression="gzip")
    return tmp_path


@pytest.mark.full
def test_what_is_trained_on_the_new_behaviour_has_smaller_errors(folder):
    done = CliRunner().invoke(retraining.main, ["--data", str(folder), "--json"], catch_exceptions=False)
    found = json.loads(done.stdout)
    (row,) = found["rows"]
    assert (row["trace"], row["from day"], found["smaller"]) == ("2", 9.0, 1)
    assert row["again"] < 0.8 * row["first"]
    assert row["again"] < 0.9
    assert found["again / first"]["median"] == round(row["again"] / row["first"], 3)


def test_traces_that_are_too_short_are_left_out(folder):
    ((name, trace),) = retraining.paths(folder)
    assert (name, len(trace)) == ("2", STEPS + 1)
    assert trace.columns == ["ts", "entity", "rtt_ms"]

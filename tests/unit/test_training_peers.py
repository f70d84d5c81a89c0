"""Peers see what they may see: histories on a time axis, entities apart, nothing from the rows that are judged."""

import sys
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from dwcp_stream.streams import Field, ModelBinding, StreamDefinition
from dwcp_stream.training.dataset import load_grid
from dwcp_stream.training.peers import anomaly, forecast, series
from dwcp_stream.training.peers.fitting import first_halves, own_files

STREAM = StreamDefinition(
    name="sites", topic="sites", entity=("site",), step=3600.0, window=6, min_periods=3,
    fields=(Field(name="load"),), models=(ModelBinding(name="sites-forecast", task="forecast"),),
)  # fmt: skip
START = 1_699_920_000.0


def write(path, **sites):
    frames = []
    for site, (first, values) in sites.items():
        ts = START + 3600.0 * (first + np.arange(len(values)))
        frames.append(pl.DataFrame({"site": [site] * len(values), "ts": ts, "load": values}).drop_nans())
    pl.concat(frames).write_csv(path)
    return load_grid(STREAM, [path])


def test_a_history_lies_on_the_time_axis_and_reaches_into_the_training_file(tmp_path):
    train = write(tmp_path / "train.csv", a=(0, np.arange(20.0)), b=(100, np.arange(5.0)))
    values = 20.0 + np.arange(40.0)
    values[10:20] = np.nan  # longer than the window, so that the grid begins anew
    grid = write(tmp_path / "test.csv", a=(20, values), c=(20, np.ones(12)))
    rows = grid.ends()
    found = list(series.histories(own_files(train, "train.csv", grid), grid, rows, 0))
    first, other = found
    assert first.first == 20
    assert first.values[:30].tolist() == list(range(30))
    assert set(first.values[30:40]) == {29.0}  # bridged by the value before
    assert first.values[40:].tolist() == list(range(40, 60))
    assert first.values[first.origin].tolist() == grid.values[rows[first.at], 0].tolist()
    assert (other.first, len(other.values)) == (0, 12), "no rows of c, or of b, are in the training file for it"


def test_least_squares_fits_on_the_first_half_alone(tmp_path):
    rng = np.random.default_rng(1)
    pattern = np.tile(rng.normal(0, 5, 24), 20)
    grid = write(tmp_path / "rows.csv", a=(0, pattern + rng.normal(0, 0.3, 480)))
    fitting = first_halves(grid)
    rows = grid.ends()
    rows = rows[rows + 2 < len(grid.ts)]
    (own,) = series.histories(fitting, grid, rows, 0)
    assert own.first == 240
    made = series.simple_peers([own], len(rows), 2, 24)
    judged = fitting.judged[rows]
    actual = grid.values[rows + 2, 0]
    errors = {name: float(np.abs(values - actual)[judged].mean()) for name, values in made.items()}
    assert errors["AR(12), day before"] < 0.6 < errors["AR(12)"]
    # other values in the second half change its forecasts, but not the weights: rows before it are forecast alike
    values = grid.values.copy()
    values[fitting.judged] *= 3.0
    changed = type(grid)(**{**vars(grid), "values": values})
    (moved,) = series.histories(fitting, changed, rows, 0)
    again = series.simple_peers([moved], len(rows), 2, 24)
    for name, before in made.items():
        np.testing.assert_array_equal(again[name][~judged], before[~judged])


def test_autoets_is_asked_at_rows_that_are_judged_with_what_was_known_then(tmp_path, monkeypatch):
    fitted, asked = [], []

    class Fake:
        def __init__(self, season_length):
            assert season_length == 24

        def fit(self, y):
            fitted.append(len(y))
            return self

        def forward(self, y, h):
            asked.append(len(y))
            return {"mean": np.full(h, y[-1])}

    monkeypatch.setitem(sys.modules, "statsforecast.models", SimpleNamespace(AutoETS=Fake))
    grid = write(tmp_path / "rows.csv", a=(0, np.arange(100.0)), b=(0, 1000.0 + np.arange(100.0)))
    fitting = first_halves(grid)
    rows = grid.ends()
    made = series.autoets(list(series.histories(fitting, grid, rows, 0)), len(rows), 3, 24)
    known = np.isfinite(made)
    assert known.any()
    assert fitting.judged[rows[known]].all()
    assert made[known].tolist() == grid.values[rows[known], 0].tolist()
    assert fitted == [50, 50]
    assert min(asked) == 51
    assert max(asked) == 100


def test_a_detector_keeps_entities_apart():
    rng = np.random.default_rng(0)
    train, test = rng.normal(size=(200, 3)), rng.normal(size=(60, 3))
    entity = np.arange(60) % 2
    for name in ("EWMA z", "PCA + mean of 5"):
        peer = anomaly.peers()[name]
        together = peer(train, test, entity)
        for number in range(2):
            np.testing.assert_allclose(together[entity == number], peer(train, test[entity == number]), rtol=1e-9)


@pytest.mark.parametrize("name", ["EWMA z", "PCA + mean of 5", "River HalfSpaceTrees"])
def test_a_row_that_is_far_off_ranks_first(name):
    rng = np.random.default_rng(0)
    train, test = rng.normal(size=(600, 3)), rng.normal(size=(200, 3))
    test[150:160] += 8.0
    scores = anomaly.peers()[name](train, test)
    assert np.isfinite(scores).all()
    assert 150 <= int(scores.argmax()) < 165


def test_what_came_before_the_history_falls_back_to_the_last_value():
    history, origin = np.arange(30.0), np.array([5, 29])
    assert forecast.seasonal_naive(history, origin, 2, 24).tolist() == [5.0, 7.0]
    assert forecast.autoregression(history, origin, 1, first=20).tolist() == [5.0, 29.0], "too few rows to fit on"

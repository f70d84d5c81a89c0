"""Tables on the grid: the same windows as the daemon's, whatever the file looks like."""

import gzip
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
import pytest

from dwcp_stream.errors import PayloadError
from dwcp_stream.streams import StreamDefinition
from dwcp_stream.streams.definition import Field
from dwcp_stream.training.dataset import load_grid
from dwcp_stream.training.forecast_baselines import held_values, values_before
from dwcp_stream.windows import Windows


@pytest.fixture
def stream() -> StreamDefinition:
    return StreamDefinition(
        name="demo",
        topic="demo",
        entity=("node", "peer"),
        entity_optional=("peer",),
        step=10.0,
        window=4,
        min_periods=2,
        lateness=100.0,
        fields=(
            Field(name="load"),
            Field(name="bytes", kind="counter"),
            Field(name="mode", kind="categorical", vocabulary=("slow", "fast"), aliases={"quick": "fast"}),
        ),
    )


def table(**columns: object) -> pl.DataFrame:
    base = {"ts": [0.0, 10.0, 20.0], "node": "a", "load": [1.0, 2.0, 3.0]}
    return pl.DataFrame({**base, **columns})


def save(frame: pl.DataFrame, path: Path) -> Path:
    if path.name.endswith(".gz"):
        path.write_bytes(gzip.compress(frame.write_csv().encode()))
    elif path.suffix == ".csv":
        frame.write_csv(path)
    else:
        frame.write_parquet(path)
    return path


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.parquet"])
def test_formats_agree(stream: StreamDefinition, tmp_path: Path, name: str) -> None:
    frame = table(mode=["Slow", "QUICK", None], label=[0, 1, 0], note=["", "x", ""])
    grid = load_grid(stream, [save(frame, tmp_path / name)], extra=("label", "note", "absent"))
    assert grid.entities == ("a",)
    rows = np.flatnonzero(grid.filled)
    assert grid.values[rows, 0].tolist() == [1.0, 2.0, 3.0]
    np.testing.assert_array_equal(grid.values[rows, 2], np.array([0, 1, np.nan], np.float32))
    assert grid.columns["label"][rows].tolist() == [0.0, 1.0, 0.0]
    assert grid.columns["note"][rows].tolist() == ["", "x", ""]
    assert "absent" not in grid.columns


def test_grid_gaps_duplicates_and_restarts(stream: StreamDefinition, tmp_path: Path) -> None:
    ts = [100.0, 109.0, 110.0, 131.0, 1000.0, 1010.0]
    frame = pl.DataFrame({"ts": ts, "node": "a", "load": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]})
    grid = load_grid(stream, [save(frame, tmp_path / "a.csv")])
    # 109 and 110 belong to one row, the first wins; 120 is missing; 1000 starts anew, after 3 rows of padding
    expected = [*[np.nan] * 3, 1, 2, np.nan, 4, *[np.nan] * 3, 5, 6]
    np.testing.assert_array_equal(grid.values[:, 0], np.array(expected, np.float32))
    assert grid.ends().tolist() == [4, 6, 11]
    windows, times = grid.windows(np.array([6, 11]))
    np.testing.assert_array_equal(windows[0, :, 0], np.array([1, 2, np.nan, 4], np.float32))
    np.testing.assert_array_equal(windows[1, :, 0], np.array([np.nan, np.nan, 5, 6], np.float32))
    assert times[1].tolist() == [980.0, 990.0, 1000.0, 1010.0]
    assert times[0].tolist() == [100.0, 110.0, 120.0, 130.0]  # nominal times, as in the daemon


def test_counters_become_rates(stream: StreamDefinition, tmp_path: Path) -> None:
    frame = table(bytes=[100.0, 400.0, 50.0])
    grid = load_grid(stream, [save(frame, tmp_path / "a.csv")])
    np.testing.assert_array_equal(grid.values[grid.filled, 1], np.array([np.nan, 30.0, 5.0], np.float32))


def test_entities_and_files_are_kept_apart(stream: StreamDefinition, tmp_path: Path) -> None:
    one = pl.concat([table(peer="x/y"), table(node="b", peer=None).select("ts", "node", "load", peer=pl.lit(None))])
    two = table(node="b").drop("node")
    files = [save(one, tmp_path / "one.parquet"), save(two, tmp_path / "two.csv")]
    grid = load_grid(stream, files)
    assert grid.entities == ("a/x%2Fy", "b", "two")
    assert [int((grid.entity == i)[grid.filled].sum()) for i in range(3)] == [3, 3, 3]
    assert grid.source.max() == 1
    assert load_grid(stream, files[1:], entity="named").entities == ("named",)
    marked = grid.filled & (grid.entity == 0)
    assert grid.any_in_window(marked, grid.ends()).sum() == 2


def test_windows_are_those_of_the_daemon(stream: StreamDefinition, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    ts = np.cumsum(rng.choice([10.0, 10.0, 10.0, 20.0, 30.0, 90.0], 60)) + rng.uniform(-3, 3, 60)
    load = rng.normal(size=60)
    frame = pl.DataFrame({"ts": ts, "node": "a", "load": load})
    grid = load_grid(stream, [save(frame, tmp_path / "a.parquet")])
    ends = grid.ends()
    windows, row_times = grid.windows(ends)
    mine = {round(float(t[-1])): (w, t) for w, t in zip(windows, row_times, strict=True)}

    live = Windows(stream)
    values = np.stack([load, np.full(60, np.nan), np.full(60, np.nan)], axis=1)
    found, nominal = {}, {}
    for step in live.apply(np.arange(60), ts, np.zeros(60, np.int64), ["a"], values):
        for window, times in zip(step.windows(), step.times(), strict=True):
            found[round(float(times[-1]))], nominal[round(float(times[-1]))] = window, times
    assert len(found) > 20
    assert set(found) == set(mine)
    for key, window in found.items():
        np.testing.assert_array_equal(window, mine[key][0])
        np.testing.assert_allclose(nominal[key], mine[key][1])


def test_irregular_streams_have_no_empty_rows(stream: StreamDefinition, tmp_path: Path) -> None:
    free = msgspec.structs.replace(stream, step="irregular")
    frame = table(ts=[0.0, 7.0, 5000.0])
    grid = load_grid(free, [save(frame, tmp_path / "a.csv")])
    assert grid.values[grid.ends()[-1] - 2 :, 0].tolist() == [1.0, 2.0, 3.0]


def test_errors_name_file_and_remedy(stream: StreamDefinition, tmp_path: Path) -> None:
    with pytest.raises(PayloadError, match=r"a\.csv: no column 'ts'"):
        load_grid(stream, [save(table().drop("ts"), tmp_path / "a.csv")])
    with pytest.raises(PayloadError, match="'warp' is not in the vocabulary of mode"):
        load_grid(stream, [save(table(mode="warp"), tmp_path / "b.csv")])
    with pytest.raises(PayloadError, match="no field of the stream demo"):
        load_grid(stream, [save(table().drop("load"), tmp_path / "c.csv")])
    with pytest.raises(PayloadError, match="cannot be read"):
        load_grid(stream, [tmp_path / "absent.csv"])
    with pytest.raises(PayloadError, match="no files"):
        load_grid(stream, [])
    with pytest.raises(PayloadError, match="bad time"):
        load_grid(stream, [save(table(ts=["x", "y", "z"]), tmp_path / "d.csv")])


def test_times_may_be_text(stream: StreamDefinition, tmp_path: Path) -> None:
    frame = table(ts=["1970-01-01T00:00:10Z", "1970-01-01T00:00:20Z", "1970-01-01T00:00:30.500Z"])
    grid = load_grid(stream, [save(frame, tmp_path / "a.csv")])
    assert grid.ts[grid.filled].tolist() == [10.0, 20.0, 30.0]


def test_values_of_the_past(stream: StreamDefinition, tmp_path: Path) -> None:
    frame = pl.concat([table(), table(node="b", load=[5.0, None, None])])
    grid = load_grid(stream, [save(frame, tmp_path / "a.parquet")])
    load = grid.values[:, :1].astype(float)
    rows = np.flatnonzero(grid.filled)
    assert held_values(grid, load)[rows, 0].tolist() == [1.0, 2.0, 3.0, 5.0, 5.0, 5.0]
    before = values_before(grid, load, rows, 20.0)[:, 0]
    np.testing.assert_array_equal(before, [np.nan, np.nan, 1.0, np.nan, np.nan, 5.0])

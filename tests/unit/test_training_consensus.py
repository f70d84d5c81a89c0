"""The consensus model's parts: labels of runs, the features, the folds."""

from pathlib import Path

import numpy as np
import onnxruntime as ort
import polars as pl
import pytest

from dwcp_stream.errors import PayloadError
from dwcp_stream.streams import StreamDefinition, load_stream
from dwcp_stream.training.consensus import features as cf
from dwcp_stream.training.consensus.data import KINDS, read_runs
from dwcp_stream.training.consensus.folds import cross_fit, deal
from dwcp_stream.training.consensus.sequence import see

STREAMS = Path(__file__).parents[2] / "config" / "streams"
ROWS = 60


@pytest.fixture(scope="module")
def stream() -> StreamDefinition:
    return load_stream(STREAMS / "consensus.toml")


def calm(rows: int = ROWS, *, speed: float = 1.0, members: int = 5) -> pl.DataFrame:
    """A run without noise: everything at its level."""
    return pl.DataFrame(
        {
            "ts": 1.7e9 + np.arange(rows, dtype=float),
            "queue_depth": np.zeros(rows),
            "proposals_pending": np.ones(rows),
            "proposals_committed": np.full(rows, 100.0),
            "latency_p50": np.full(rows, 3.0 * speed),
            "latency_p95": np.full(rows, 6.0 * speed),
            "latency_p99": np.full(rows, 12.0 * speed),
            "leader_changes": np.zeros(rows),
            "quorum_size": np.full(rows, members // 2 + 1),
            "active_nodes": np.full(rows, members),
            "network_tier": ["1"] * rows,
            "dwcp_mode": ["hybrid"] * rows,
            "consensus_type": ["raft"] * rows,
        }
    )


def put(table: pl.DataFrame, path: Path, **columns: object) -> Path:
    table.with_columns(**{name: pl.Series(values, strict=False) for name, values in columns.items()}).write_csv(path)
    return path


def test_kinds_come_from_words_numbers_and_letters(stream: StreamDefinition, tmp_path: Path) -> None:
    words = ["", "slow_disk", "slow_disk", "", "odd"] + [""] * (ROWS - 5)
    letters = ["", "b", "i", "", ""] + [""] * (ROWS - 5)
    numbers = [0, 1, 1, 0, 1] + [0] * (ROWS - 5)
    negative = [""] * 3 + ["burst"] + [""] * (ROWS - 4)
    files = [
        put(calm(), tmp_path / "a.csv", label=words, negative=negative, disturbed=[0] * 59 + [1]),
        put(calm(), tmp_path / "b.csv", label=numbers, fault_type=letters, note=negative),
        put(calm(), tmp_path / "c.csv", label=numbers),
    ]
    runs = read_runs(stream, files)
    kinds = [[KINDS[k] if k >= 0 else "" for k in part] for part in np.split(runs.kind[runs.grid.filled], 3)]
    assert kinds[0][:5] == ["", "slow_disk", "slow_disk", "", "unknown"]
    assert kinds[1][:5] == ["", "leader_lost", "flapping", "", "unknown"]
    assert kinds[2][:5] == ["", "unknown", "unknown", "", "unknown"]
    assert runs.negative[runs.grid.filled][3] == runs.negative[runs.grid.filled][ROWS + 3] == "burst"
    assert runs.data.event.max() == 5  # two runs of labelled rows in each file
    last = np.flatnonzero(runs.grid.filled & (runs.grid.source == 0))[-1]
    assert not runs.data.scored[last]
    assert not runs.data.quiet[last]
    assert runs.names == ("a", "b", "c")


def test_a_file_without_the_label_is_refused(stream: StreamDefinition, tmp_path: Path) -> None:
    with pytest.raises(PayloadError, match="no column 'label'"):
        read_runs(stream, [put(calm(), tmp_path / "plain.csv")])


def feature(found: np.ndarray, name: str) -> np.ndarray:
    return found[:, cf.FEATURES.index(name)]


def seen(stream: StreamDefinition, path: Path, table: pl.DataFrame) -> np.ndarray:
    return see(read_runs(stream, [put(table, path, label=[0] * len(table))])).features


def test_a_calm_cluster_deviates_nowhere_whatever_its_speed_and_size(stream: StreamDefinition, tmp_path: Path) -> None:
    for speed, members in ((1.0, 3), (0.3, 5), (30.0, 7), (1.0, 4)):
        found = seen(stream, tmp_path / "run.csv", calm(speed=speed, members=members))
        np.testing.assert_allclose(found, 0.0, atol=1e-5)


def test_deviations_do_not_depend_on_the_clusters_speed_or_size(stream: StreamDefinition, tmp_path: Path) -> None:
    def troubled(speed: float, members: int) -> np.ndarray:
        table = calm(speed=speed, members=members)
        late = pl.int_range(pl.len()) >= ROWS - 3
        return seen(
            stream,
            tmp_path / "run.csv",
            table.with_columns(
                latency_p50=pl.when(late).then(pl.col("latency_p50") * 4).otherwise(pl.col("latency_p50")),
                active_nodes=pl.when(late).then(members - 1).otherwise(members),
            ),
        )

    usual, other = troubled(1.0, 3), troubled(0.2, 7)
    np.testing.assert_allclose(usual, other, atol=1e-4)
    assert feature(usual, "missing over 3")[-1] == 1.0
    assert feature(usual, "no_quorum over 1")[-1] == 0.0
    assert feature(usual, "latency_p50 over 3")[-1] == pytest.approx(np.log(4.0) / cf.FLOOR[3], rel=0.1)
    assert feature(usual, "latency_p50 over 8")[-1] == pytest.approx(
        3 / 8 * feature(usual, "latency_p50 over 3")[-1], rel=0.02
    )


def test_a_short_fault_hardly_moves_the_memory_and_a_lasting_change_becomes_normal(
    stream: StreamDefinition, tmp_path: Path
) -> None:
    table = calm(2400).with_columns(
        latency_p50=pl.when(pl.int_range(pl.len()) >= 1200).then(12.0).otherwise(pl.col("latency_p50"))
    )
    found = feature(seen(stream, tmp_path / "run.csv", table), "latency_p50 over 3")
    first = np.flatnonzero(found > 1.0)[0]
    assert found[first + 60] > 0.8 * found[first + 3]
    assert abs(found[-1]) < 0.3


def test_rows_without_a_value_are_unknown_and_without_a_latency_silent(
    stream: StreamDefinition, tmp_path: Path
) -> None:
    table = calm().with_columns(
        pl.when(pl.int_range(pl.len()) == ROWS - 1).then(None).otherwise(pl.col(name)).alias(name)
        for name in ("latency_p50", "latency_p95", "latency_p99")
    )
    found = seen(stream, tmp_path / "run.csv", table)
    assert feature(found, "no_completions over 1")[-1] == 1.0
    assert feature(found, "no_completions over 1")[-2] == 0.0
    assert feature(found, "latency_p50 over 1")[-1] == 0.0


def test_in_another_mode_the_memory_begins_anew(stream: StreamDefinition, tmp_path: Path) -> None:
    late = pl.int_range(pl.len()) >= ROWS - 5
    table = calm().with_columns(
        latency_p50=pl.when(late).then(60.0).otherwise(3.0),
        dwcp_mode=pl.when(late).then(pl.lit("internet")).otherwise(pl.lit("hybrid")),
    )
    np.testing.assert_allclose(feature(seen(stream, tmp_path / "run.csv", table), "latency_p50 over 8"), 0.0, atol=1e-5)


def test_features_are_finite_and_do_not_depend_on_the_batch(stream: StreamDefinition) -> None:
    rng = np.random.default_rng(1)
    window = rng.gamma(2.0, 3.0, (16, stream.window, len(stream.fields))).astype(np.float32)
    window[rng.random(window.shape) < 0.2] = np.nan
    window[0], window[1, :, :9], window[2, :, 3] = np.nan, np.nan, 1e30
    state = rng.normal(1.0, 1.0, (16, cf.STATE_SIZE)).astype(np.float32)
    state[:6] = np.nan
    session = ort.InferenceSession(cf.features_model(stream.field_names, stream.window))
    whole = session.run(None, {"window": window, "state_in": state})
    assert all(np.isfinite(part).all() for part in whole)
    part = session.run(None, {"window": window[4:8], "state_in": state[4:8]})
    for a, b in zip(whole, part, strict=True):
        assert a[4:8].tobytes() == b.tobytes()


def test_folds_share_the_files_and_score_each_by_the_others(stream: StreamDefinition, tmp_path: Path) -> None:
    label = [0] * 40 + [1] * 10 + [0] * 10
    files = [put(calm(), tmp_path / f"{i}.csv", label=label if i else [0] * ROWS) for i in range(4)]
    windows = see(read_runs(stream, files))
    train = windows.source < 3
    parts = deal(windows, train, 2)
    assert [sorted(set(windows.source[part])) for part in parts] == [[1, 0], [2]] or [
        sorted(set(windows.source[part])) for part in parts
    ] == [[0, 1], [2]]

    def fitter(rows: np.ndarray) -> object:
        fitted = set(windows.source[rows])
        return lambda wanted: np.array([float(source in fitted) for source in windows.source[wanted]])

    scores = cross_fit(windows, train, fitter, 2)
    np.testing.assert_array_equal(scores[train], 0.0)  # nothing was scored by what had seen it
    assert np.isnan(scores[~train]).all()

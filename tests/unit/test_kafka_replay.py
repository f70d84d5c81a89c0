"""The order and pace of a replay, without a broker."""

import time
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dwcp_stream.errors import PayloadError
from dwcp_stream.kafka import replay
from dwcp_stream.streams import Field, StreamDefinition

STREAM = StreamDefinition(name="demo", topic="demo", entity=("id",), step=1.0, window=5, fields=(Field(name="load"),))
TIMES = st.lists(st.integers(0, 50).map(float) | st.none(), min_size=1, max_size=20)


def write(path: Path, times: list[float | None]) -> Path:
    pl.DataFrame(
        {"ts": pl.Series(times, dtype=pl.Float64), "id": [path.stem] * len(times), "load": range(len(times))}
    ).write_parquet(path)
    return path


@given(times=TIMES)
def test_one_file_keeps_its_order_late_samples_and_all(times, tmp_path_factory) -> None:
    table = replay.read_files([write(tmp_path_factory.mktemp("f") / "a.parquet", times)], STREAM)
    assert table["ts"].to_list() == times
    assert table["load"].to_list() == list(range(len(times)))


@given(first=TIMES, second=TIMES)
def test_several_files_are_merged_by_time_and_each_keeps_its_order(first, second, tmp_path_factory) -> None:
    folder = tmp_path_factory.mktemp("f")
    files = [write(folder / "a.parquet", first), write(folder / "b.parquet", second)]
    table = replay.read_files(files, STREAM)
    for name, times in (("a", first), ("b", second)):
        own = table.filter(pl.col("id") == name)
        assert own["ts"].to_list() == times
        assert own["load"].to_list() == list(range(len(times)))
    due = table[replay._DUE].to_list()
    assert due == sorted(due)


def test_no_file_is_an_error() -> None:
    with pytest.raises(PayloadError, match="--data"):
        replay.read_files([], STREAM)


@given(total=st.integers(0, 45_000))
def test_at_full_speed_all_is_sent_in_bounded_portions(total: int) -> None:
    portions = list(replay._portions(pl.Series([0.0] * total), None, 0.0))
    assert sum(portions) == total
    assert all(isinstance(p, int) and 0 < p <= replay.MOST_AT_ONCE for p in portions)


@given(
    due=st.lists(st.integers(0, 1000).map(float), max_size=50).map(sorted),
    speed=st.floats(10, 1000),
    ticks=st.lists(st.floats(0.0001, 0.5), min_size=1, max_size=10),
)
def test_at_a_pace_no_sample_is_sent_before_it_is_due_and_none_is_forgotten(due, speed, ticks) -> None:
    now, count = 0.0, 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "monotonic", lambda: now)
        for n, portion in enumerate(replay._portions(pl.Series(due, dtype=pl.Float64), speed, 0.0)):
            if isinstance(portion, float):
                assert 0 < portion <= replay.LONGEST_NAP
                now += portion + ticks[n % len(ticks)]  # sleep takes longer than asked
                continue
            count += portion
            assert due[count - 1] - due[0] <= now * speed + 1e-6
            now += ticks[n % len(ticks)]
    assert count == len(due)

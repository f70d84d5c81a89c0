"""The archive on disk: files by hour, repeats read once, old dates deleted."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dwcp_stream.errors import PayloadError
from dwcp_stream.history.archive import prune, read_archive, write_archive
from dwcp_stream.history.samples import OFFSET, PARTITION, Records, SampleReader, columns, once
from dwcp_stream.streams import Field, StreamDefinition, encode_sample
from tests.unit.history_cases import small_stream

STREAM = small_stream(fields=(Field(name="load"), Field(name="mode", kind="categorical", vocabulary=("slow", "fast"))))
T0 = 1_700_002_800.0  # a full hour


def records(samples: list[tuple[str, float, float]], *, stream: StreamDefinition = STREAM, offset: int = 0) -> Records:
    pairs = [encode_sample(stream, {"id": e}, ts, {"load": load, "mode": "FAST"}) for e, ts, load in samples]
    count = len(pairs)
    return Records(0, range(offset, offset + count), [-1] * count, [k for k, _ in pairs], [v for _, v in pairs])


def table(samples: list[tuple[str, float, float]], offset: int = 0) -> pl.DataFrame:
    return SampleReader(STREAM).read(records(samples, offset=offset))


def test_samples_are_words_and_numbers_and_invalid_ones_are_counted():
    reader = SampleReader(STREAM)
    values = [*records([("a", T0, 1.5)]).values, b'{"id": "a", "ts": 1, "mode": "odd"}', b"nothing", None]
    found = reader.read(Records(2, [5, 6, 7, 8], [-1] * 4, [None] * 4, values))
    assert found.rows() == [(T0, "a", 1.5, "fast", 2, 5)]
    assert (reader.samples, reader.invalid) == (4, 3)
    assert list(found.schema)[:-2] == list(columns(STREAM))


def test_a_file_for_each_hour_and_what_is_written_twice_is_read_once(tmp_path: Path):
    samples = [("a", T0 - 1, 1.0), ("a", T0, 2.0), ("b", T0 + 1, 3.0), ("a", T0 + 86_400, 4.0)]
    paths = write_archive(tmp_path, STREAM, table(samples))
    assert [path.parent.name for path in paths] == ["date=2023-11-14", "date=2023-11-14", "date=2023-11-15"]
    assert len({path.name[:2] for path in paths}) == 2
    again = write_archive(tmp_path, STREAM, table(samples[1:]).with_columns(pl.col(OFFSET) + 1))
    assert not set(again) & set(paths)
    found = read_archive(tmp_path, STREAM)
    assert found.select("id", "ts", "load").rows() == samples
    assert found.schema == pl.Schema(columns(STREAM))
    assert read_archive(tmp_path, STREAM, T0, T0 + 1)["load"].to_list() == [2.0, 3.0]
    assert len(read_archive(tmp_path, STREAM, T0 + 10, T0 + 20)) == 0


def test_of_two_samples_of_a_time_the_first_in_the_log_counts(tmp_path: Path):
    write_archive(tmp_path, STREAM, table([("a", T0, 2.0)], offset=9))
    write_archive(tmp_path, STREAM, table([("a", T0, 1.0)], offset=3))
    assert read_archive(tmp_path, STREAM)["load"].to_list() == [1.0]


def test_unfinished_and_foreign_files_are_passed_over(tmp_path: Path):
    [path] = write_archive(tmp_path, STREAM, table([("a", T0, 1.0)]))
    (path.parent / f".tmp-{path.name}-ab").write_bytes(b"half a file")
    (path.parent.parent / "date=today").mkdir()
    assert len(read_archive(tmp_path, STREAM)) == 1
    assert prune(tmp_path, STREAM, 1.0, date(2030, 1, 1)) == []


def test_a_field_that_is_new_or_gone_does_no_harm(tmp_path: Path):
    write_archive(tmp_path, STREAM, table([("a", T0, 1.0)]))
    newer = small_stream(fields=(Field(name="load"), Field(name="loss")))
    assert read_archive(tmp_path, newer).rows() == [(T0, "a", 1.0, None)]


def test_what_cannot_be_read_is_named(tmp_path: Path):
    with pytest.raises(PayloadError, match="no archive of the stream demo"):
        read_archive(tmp_path, STREAM)
    [path] = write_archive(tmp_path, STREAM, table([("a", T0, 1.0)]))
    path.write_bytes(b"PAR1 no more")
    with pytest.raises(PayloadError, match=path.name):
        read_archive(tmp_path, STREAM)


def test_old_dates_go_by_the_archives_own_time(tmp_path: Path):
    days = [T0 - 86_400 * back for back in (0, 1, 2, 3)]
    write_archive(tmp_path, STREAM, table([("a", ts, 1.0) for ts in days]))
    assert prune(tmp_path, STREAM, 2.0, date(2030, 1, 1)) == ["2023-11-11"]
    write_archive(tmp_path, STREAM, table([("a", T0 + 86_400 * 365, 1.0)]))  # a sample from the future
    today = datetime.fromtimestamp(T0, UTC).date()
    assert prune(tmp_path, STREAM, 2.0, today) == []
    assert prune(tmp_path, STREAM, 1.0, today) == ["2023-11-12"]
    assert read_archive(tmp_path, STREAM)["ts"].to_list() == [T0 - 86_400, T0, T0 + 86_400 * 365]


samples = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 5), st.integers(0, 9)), max_size=30)


@given(found=samples, cut=st.integers(0, 30), again=st.integers(0, 30))
def test_each_entity_and_time_is_there_once_whatever_is_read_again(found, cut, again):
    given_ = [(e, T0 + s, float(load)) for e, s, load in found]
    first = {}
    for e, ts, load in given_:
        first.setdefault((e, ts), load)
    back = max(min(cut, len(given_)) - again, 0)
    parts = [table(given_[:cut]), table(given_[back:], offset=back)]
    whole = once(pl.concat([part for part in parts if len(part)] or parts), STREAM)
    assert {(e, ts): load for ts, e, load, _ in whole.rows()} == first
    assert len(whole) == len(first)
    assert whole["ts"].is_sorted()
    assert PARTITION not in whole.columns

"""Samples as bytes and back, and telemetry files."""

import gzip
import json
import math
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dwcp_stream.errors import PayloadError
from dwcp_stream.streams import load_stream
from dwcp_stream.streams.decode import ChunkDecoder
from dwcp_stream.streams.definition import Field, StreamDefinition
from dwcp_stream.streams.encode import encode_sample
from dwcp_stream.streams.files import decode_table, read_table, rows_to_records

STREAM = StreamDefinition(
    name="demo",
    topic="demo",
    entity=("cluster", "node"),
    step=1.0,
    window=5,
    fields=(Field(name="load"), Field(name="mode", vocabulary=("slow", "fast"), aliases={"7": "fast"})),
)
CSV = "ts,cluster,node,load,mode,x_other,label\n10,a,007,1.5,slow,9,0\n11,a,007,,FAST,9,1\n12.25,b,n/1,2,,9,0\n"


def write(tmp_path: Path, text: str, name: str = "run.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


@given(
    load=st.floats(-3e38, 3e38),
    ts=st.floats(0, 2e11),
    cluster=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20),
)
def test_encoded_samples_decode_to_the_same_bits(load: float, ts: float, cluster: str) -> None:
    key, value = encode_sample(STREAM, {"cluster": cluster, "node": "n"}, ts, {"load": load, "mode": "fast"})
    decoded = ChunkDecoder(STREAM, check_ahead=False).decode([value], [key], [0])
    assert decoded.rejects == []
    assert decoded.key_mismatches == 0
    assert decoded.entities == [key.decode()]
    assert (decoded.ts[0], decoded.values[0].tolist()) == (ts, [load, 1.0])


def test_missing_values_are_left_out_and_invalid_ones_are_not() -> None:
    parts = {"cluster": "a", "node": "n"}
    _, value = encode_sample(STREAM, parts, 1, {"load": math.nan, "mode": None})
    assert json.loads(value) == {"cluster": "a", "node": "n", "ts": 1}
    decoder = ChunkDecoder(STREAM, check_ahead=False)
    wrong = [
        (encode_sample(STREAM, parts, 1, {"load": math.inf}), "out_of_range"),
        (encode_sample(STREAM, parts, 1, {"load": True}), "wrong_type"),
        (encode_sample(STREAM, parts, None, {"load": 1}), "missing_field"),
        (encode_sample(STREAM, {"cluster": ""}, 1, {"load": 1}), "bad_entity"),
    ]
    for (key, value), error in wrong:
        assert decoder.decode([value], [key], [0]).rejects[0].error_type == error


@pytest.mark.parametrize("name", ["run.csv", "run.csv.gz", "run.parquet", "run.parquet.gz"])
def test_the_same_table_from_every_kind_of_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if "parquet" in name:
        whole = pl.read_csv(CSV.encode(), schema_overrides={"node": pl.String})
        whole.write_parquet(path)
        if name.endswith(".gz"):
            path.write_bytes(gzip.compress(path.read_bytes()))
    else:
        path = write(tmp_path, CSV, name)
    table = read_table(path, STREAM, extra=("label",))
    assert table.columns == ["ts", "cluster", "node", "load", "mode", "label"]
    assert table["node"].to_list() == ["007", "007", "n/1"]
    records = list(rows_to_records(table, STREAM))
    assert [(key, ts) for key, _, ts in records] == [
        (b"a/007", 10_000),
        (b"a/007", 11_000),
        (b"b/n%2F1", 12_250),
    ]
    assert json.loads(records[1][1]) == {"cluster": "a", "node": "007", "ts": 11.0, "mode": "FAST"}
    decoded = decode_table(table, STREAM)
    assert decoded.rejects == []
    np.testing.assert_array_equal(decoded.values, [[1.5, 0], [np.nan, 1], [2, np.nan]])
    assert table["label"].to_numpy()[decoded.record].tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        (["1970-01-01T00:00:10Z", "1970-01-01T02:00:11.5+02:00"], [10.0, 11.5]),
        (["1970-01-01 00:00:10", "1970-01-01T00:00:11"], [10.0, 11.0]),  # local times count as UTC
        (["10", "rubbish"], [10.0, None]),
        (["10", ""], [10.0, None]),
    ],
)
def test_times_in_csv(tmp_path: Path, times: list[str], expected: list[float | None]) -> None:
    text = "ts,cluster,node,load\n" + "".join(f"{time},a,n,1\n" for time in times)
    assert read_table(write(tmp_path, text), STREAM)["ts"].to_list() == expected


def test_datetimes_in_parquet(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    moment = datetime(2026, 1, 31, 12, 0, 0, 250_000, tzinfo=UTC)
    base = {"cluster": ["a"], "node": [3.0], "load": [1.0]}
    for kind in (pl.Datetime("ms", "UTC"), pl.Datetime("ns", "UTC"), pl.Datetime("us", "Asia/Tokyo")):
        pl.DataFrame({"ts": pl.Series([moment]).cast(kind), **base}).write_parquet(path)
        table = read_table(path, STREAM)
        assert table["ts"].to_list() == [moment.timestamp()]
        assert table["node"].to_list() == ["3"]


def test_a_file_of_one_entity(tmp_path: Path) -> None:
    bare = write(tmp_path, "ts,load\n1,2\n")
    assert next(rows_to_records(read_table(bare, STREAM, "lab/n%2F1"), STREAM))[0] == b"lab/n%2F1"
    with_node = write(tmp_path, "ts,node,load\n1,n9,2\n", "node.csv")
    assert next(rows_to_records(read_table(with_node, STREAM, "lab"), STREAM))[0] == b"lab/n9"
    with pytest.raises(PayloadError, match="--entity CLUSTER/NODE"):
        read_table(bare, STREAM)
    with pytest.raises(PayloadError, match='"node"'):
        read_table(bare, STREAM, "lab")
    with pytest.raises(PayloadError, match="3 parts"):
        read_table(bare, STREAM, "a/b/c")


def test_a_file_without_entity_is_named_after_itself_where_one_part_is_enough(tmp_path: Path) -> None:
    bare = write(tmp_path, "ts,load\n1,2\n", "pump 7.csv")
    for changes in ({"entity": ("node",)}, {"entity_optional": ("node",)}):
        stream = msgspec.structs.replace(STREAM, **changes)
        assert next(rows_to_records(read_table(bare, stream), stream))[0] == b"pump%207"


def test_one_bad_cell_costs_one_sample(tmp_path: Path) -> None:
    text = "ts,cluster,node,load,mode\n1,a,n,1,7\n2,a,n,oops,7\n3,a,n,3,7.0\nx,a,n,4,7\n5,,n,5,7\n6,a,n,6,99\n"
    decoded = decode_table(read_table(write(tmp_path, text), STREAM), STREAM)
    assert decoded.record.tolist() == [0, 2]
    assert decoded.values[:, 1].tolist() == [1, 1]
    assert [reject.error_type for reject in decoded.rejects] == [
        "wrong_type",
        "missing_field",
        "bad_entity",
        "unknown_category",
    ]
    assert decoded.samples_in == 6


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("none.csv", None, "cannot read"),
        ("run.txt", b"ts,load\n", "kind of file"),
        ("run.csv", b"", "not a readable csv"),
        ("run.csv", b"timestamp,cluster,node,load\n1,a,n,2\n", 'Rename "timestamp" to "ts"'),
        ("run.csv", b"ts,cluster,node,cpu\n1,a,n,2\n", "none of the fields"),
        ("run.csv", b"ts,cluster,node,load\n31/01/26,a,n,2\n", 'such as "31/01/26"'),
        ("run.csv", b"ts,cluster,node,load\n1,a,n,2,3,4\n", "not a readable csv"),
        ("run.csv", b"ts,cluster,node,load\n1,\xff\xfe,n,2\n", "not a readable csv"),
        ("run.csv.gz", b"ts,load\n1,2\n", "cannot read"),
        ("run.csv.gz", gzip.compress(b"ts,load\n" * 100, mtime=0)[:-9], "not a readable csv"),
        ("run.parquet", b"PAR1", "not a readable parquet"),
    ],
)
def test_unusable_files_say_file_and_remedy(tmp_path: Path, name: str, content: bytes | None, says: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(PayloadError) as caught:
        read_table(path, STREAM)
    assert says in str(caught.value)
    assert str(path) in caught.value.where
    assert caught.value.remedy


def test_a_wanted_column_must_exist(tmp_path: Path) -> None:
    with pytest.raises(PayloadError, match='no column "label"'):
        read_table(write(tmp_path, "ts,cluster,node,load\n1,a,n,2\n"), STREAM, extra=("label",))


@pytest.mark.parametrize("run", ["dev_n1", "dev_n2", "dev_r1", "dev_r2", "dev_r3"])
def test_the_etcd_runs_are_valid_consensus_telemetry(run: str) -> None:
    project = Path(__file__).resolve().parents[2]
    stream = load_stream(project / "config" / "streams" / "consensus.toml")
    table = read_table(project / "tests" / "data" / "etcd" / f"{run}.csv.gz", stream, "lab", extra=("label",))
    decoded = decode_table(table, stream)
    assert decoded.rejects == []
    assert len(decoded.record) == len(table)
    assert decoded.entities == ["lab"]
    assert decoded.key_mismatches == decoded.unknown_fields == 0
    assert (decoded.values[:, -3:] == [0, 2, 0]).all()  # tier1, hybrid, raft
    latency = table["latency_p99"].to_numpy()
    np.testing.assert_array_equal(decoded.values[:, stream.field_index("latency_p99")], latency)

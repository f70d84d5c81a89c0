"""The draft of a stream's definition from a table: what is guessed, and that the file it makes is right."""

import json
import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from dwcp_stream.cli.main import run
from dwcp_stream.errors import PayloadError
from dwcp_stream.streams import load_stream
from dwcp_stream.streams.files import decode_table, read_table
from dwcp_stream.streams.infer import definition_text, infer_stream
from dwcp_stream.streams.loading import parse_stream

START = 1_700_000_000
FILE = Path("metrics.csv")


def table(rows=200, step=10.0, hosts=("a", "b"), **more):
    """Rows of some hosts: a gauge, a counter that begins anew once, words, a flag, a label, a text."""
    rng = np.random.default_rng(1)
    parts = []
    for host in hosts:
        growth = rng.integers(1, 50, rows)
        total = np.cumsum(growth)
        total[rows // 2 :] -= total[rows // 2 - 1]
        parts.append(
            pl.DataFrame(
                {
                    "ts": START + step * np.arange(rows),
                    "host": [host] * rows,
                    "latency_ms": rng.gamma(4.0, 5.0, rows),
                    "balance": rng.normal(0.0, 1.0, rows),
                    "requests_total": total,
                    "mode": rng.choice(["fast", "slow"], rows),
                    "leader": rng.random(rows) < 0.5,
                    "status": rng.integers(0, 3, rows),
                    "hit_ratio": rng.random(rows),
                    "is_anomaly": (np.arange(rows) % 50 == 0).astype(int),
                    "note": [f"row {i} of {host}" for i in range(rows)],
                    "cpu %": rng.random(rows),
                    "empty": pl.Series([None] * rows, dtype=pl.Float64),
                }
            )
        )
    return pl.concat(parts).with_columns(**more).sort("ts")


def what(draft):
    return {guess.about: guess.what for guess in draft.guesses}


def test_each_column_is_taken_for_what_it_is():
    draft = infer_stream(table(), "web", FILE)
    said, stream = what(draft), draft.stream
    assert (stream.time, stream.entity, stream.step) == ("ts", ("host",), 10.0)
    kinds = {field.name: field.kind for field in stream.fields}
    assert kinds == {
        "latency_ms": "gauge", "balance": "gauge", "requests_total": "counter", "mode": "categorical",
        "leader": "categorical", "status": "categorical", "hit_ratio": "gauge",
    }  # fmt: skip
    assert {name for name, it in said.items() if it == "left out"} == {"is_anomaly", "note", "cpu %", "empty"}
    fields = {field.name: field for field in stream.fields}
    assert fields["latency_ms"].unit == "ms"
    assert (fields["latency_ms"].min, fields["latency_ms"].max) == (0.0, None)
    assert fields["balance"].min is None
    assert (fields["hit_ratio"].min, fields["hit_ratio"].max) == (0.0, 1.0)
    assert fields["mode"].vocabulary == ("fast", "slow")
    assert fields["status"].vocabulary == ("0", "1", "2")
    assert said["leader"] == "boolean"
    assert stream.models[0].label == "is_anomaly"
    assert all(guess.why for guess in draft.guesses)


def test_what_is_written_reads_back_and_takes_every_row_of_the_file(tmp_path):
    path = tmp_path / "metrics.csv"
    table().write_csv(path)
    draft = infer_stream(pl.read_csv(path), "web", path)
    stream = parse_stream(definition_text(draft, ("metrics.csv",)).encode(), path)
    assert stream == draft.stream
    decoded = decode_table(read_table(path, stream), stream)
    assert not list(decoded.rejects)
    assert len(set(decoded.entities)) == 2


@pytest.mark.parametrize("factor", [1.0, 1e3, 1e6, 1e9])
def test_numbers_are_seconds_or_smaller_units_by_their_size(factor, tmp_path):
    path = tmp_path / "m.csv"
    table().with_columns((pl.col("ts") * factor).cast(pl.Int64).alias("ts")).write_csv(path)
    draft = infer_stream(pl.read_csv(path), "web", path)
    assert draft.stream.step == 10.0
    assert read_table(path, draft.stream)["ts"].min() == START


def test_iso_text_is_a_time_too():
    times = pl.from_epoch(pl.col("ts").cast(pl.Int64), time_unit="s").dt.strftime("%Y-%m-%dT%H:%M:%SZ").alias("when")
    draft = infer_stream(table().select(times, pl.exclude("ts")), "web", FILE)
    assert (draft.stream.time, draft.stream.step) == ("when", 10.0)


def test_gaps_at_random_are_irregular_and_missing_rows_lower_min_periods():
    rng = np.random.default_rng(2)
    at_random = pl.DataFrame({"ts": START + np.cumsum(rng.exponential(10.0, 500)), "load": rng.random(500)})
    assert infer_stream(at_random, "web", FILE).stream.step == "irregular"
    half = pl.DataFrame({"ts": START + 60.0 * np.arange(1000), "load": rng.random(1000)}).filter(rng.random(1000) < 0.7)
    draft = infer_stream(half, "web", FILE)
    assert draft.stream.step == 60.0
    assert draft.stream.min_periods < 20


def test_without_a_column_for_it_the_file_is_the_entity():
    draft = infer_stream(table(hosts=("a",)).drop("host", "mode", "note"), "web", FILE)
    assert draft.stream.entity == ("entity",)
    assert draft.entities == 1


def test_a_column_whose_name_tells_nothing_is_the_entity_if_times_repeat():
    draft = infer_stream(table(hosts=("a", "b", "c")).rename({"host": "who"}).drop("note"), "web", FILE)
    assert draft.stream.entity == ("who",)


def test_an_id_that_changes_now_and_then_is_no_entity():
    leader = pl.Series("leader_id", [7] * 80 + [9] * 120)
    draft = infer_stream(table(hosts=("a",)).drop("note").with_columns(leader), "web", FILE)
    assert draft.stream.entity == ("host",)
    assert what(draft)["leader_id"] == "left out"


def test_a_column_of_one_word_is_left_out():
    draft = infer_stream(table(mode=pl.lit("fast"), status=pl.lit(1)), "web", FILE)
    assert what(draft)["mode"] == "left out"
    assert what(draft)["status"] == "gauge"


def test_times_that_repeat_without_a_reason_are_said_to_be_doubtful():
    draft = infer_stream(table().drop("host", "note", "mode"), "web", FILE)
    assert "--entity" in next(guess.why for guess in draft.guesses if guess.what == "doubtful")


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (pl.DataFrame({"a": [1.0, 2.0]}), "no column holds times"),
        (pl.DataFrame({"ts": [START, START + 1]}), "no column can be a field"),
        (pl.DataFrame({"ts": [], "a": []}), "has no rows"),
        (pl.DataFrame({"@timestamp": [START, START + 1], "a": [1.0, 2.0]}), "Rename it"),
    ],
)
def test_a_table_that_is_no_telemetry_is_refused(frame, message):
    with pytest.raises(PayloadError, match=message):
        infer_stream(frame, "web", FILE)


CELLS = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True, width=32),
    st.none(),
)
NAMES = st.text('abc_xyz9 %é"\\\n#', min_size=1, max_size=8)


@settings(max_examples=60)
@given(
    columns=st.dictionaries(
        NAMES.filter(lambda name: name != "ts"),
        st.one_of(
            st.lists(CELLS, min_size=6, max_size=6),
            st.lists(st.one_of(st.none(), st.text(max_size=6)), min_size=6, max_size=6),
            st.lists(st.one_of(st.none(), st.booleans()), min_size=6, max_size=6),
            st.lists(st.one_of(st.none(), st.integers(-(2**40), 2**40)), min_size=6, max_size=6),
        ),
        min_size=1,
        max_size=5,
    ),
    gaps=st.lists(st.floats(0.0, 1e5), min_size=6, max_size=6),
)
def test_whatever_is_drafted_is_a_definition_and_every_column_is_accounted_for(columns, gaps):
    frame = pl.DataFrame({"ts": START + np.cumsum(gaps), **columns}, strict=False)
    try:
        draft = infer_stream(frame, "web", FILE)
    except PayloadError:  # no column can be a field
        reject()
    assert parse_stream(definition_text(draft, ('a "b".csv\n',)).encode(), FILE) == draft.stream
    about = {guess.about for guess in draft.guesses}
    assert set(frame.columns) <= about
    for field in draft.stream.fields:
        values = frame[field.name]
        if values.dtype.is_numeric() and not field.coded:
            finite = [v for v in values if v is not None and math.isfinite(v)]
            assert field.min is None or min(finite) >= field.min
            assert field.max is None or max(finite) <= field.max


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("DWCP_STREAMS_DIR", "DWCP_MODELS_DIR", "DWCP_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    table().write_csv("web-1.csv")
    return tmp_path


def test_the_command_writes_a_file_that_config_check_takes(folder, capsys):
    assert run(["streams", "infer", "web-1.csv", "--name", "web"]) == 0
    shown = capsys.readouterr().out
    assert "becomes a rate per second" in shown.replace("\n", " ")
    assert "dwcp-stream train web --data web-1.csv" in shown
    assert load_stream(folder / "config/streams/web.toml").entity == ("host",)
    assert run(["config", "check"]) == 0
    assert run(["streams", "list", "--json"]) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out.splitlines()[-1])["streams"]] == ["web"]


def test_a_definition_that_is_there_is_kept_unless_forced(folder, capsys):
    out = folder / "config/streams/web-1.toml"
    out.parent.mkdir(parents=True)
    out.write_text("mine")
    assert run(["streams", "infer", "web-1.csv"]) == 1
    assert "--force" in capsys.readouterr().err
    assert out.read_text() == "mine"
    assert run(["streams", "infer", "web-1.csv", "--force", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["stream"] == "web-1"


def test_a_name_that_another_file_has_is_refused(folder, capsys):
    out = folder / "config/streams"
    assert run(["streams", "infer", "web-1.csv", "--name", "web", "--out", str(out / "mine.toml")]) == 0
    (out / "other.toml").write_text("no = 'stream'")
    assert run(["streams", "infer", "web-1.csv", "--name", "web"]) == 1
    assert "mine.toml" in capsys.readouterr().err
    assert not (out / "web.toml").exists()


def test_several_files_without_an_entity_are_one_each(folder, capsys):
    plain = table(hosts=("a",)).drop("host", "mode", "note")
    plain.write_csv("a.csv")
    plain.write_csv("b.csv")
    assert run(["streams", "infer", "a.csv", "b.csv", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["entities"] == 2
    assert load_stream(folder / "config/streams/a.toml").entity == ("entity",)

"""Plans from measured figures: more entities never need less, slower samples never need more."""

import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dwcp_stream.capacity import FILL, plan, read_figures
from dwcp_stream.cli.main import run
from dwcp_stream.errors import ConfigError
from dwcp_stream.streams import load_streams

ROOT = Path(__file__).resolve().parents[2]
STREAMS = load_streams(ROOT / "config" / "streams")
CONSENSUS, LINK = STREAMS["consensus"], STREAMS["link"]
NEEDS = (
    "workers", "partitions", "cores", "cores_busy", "memory_bytes", "samples_per_second", "telemetry_bytes_per_second",
    "changelog_bytes_per_second", "state_bytes",
)  # fmt: skip
SLOWER = tuple(name for name in NEEDS if name != "state_bytes")


def growth(**changes):
    case = {
        "entities": 100, "rows": 4000.0, "sample_bytes": 400.0, "cpu_us_per_sample": 10.0,
        "cpu_us_per_sample_with_model": 100.0, "cpu_us_per_snapshot": 50.0, "changelog_bytes_per_snapshot": 2000.0,
    }  # fmt: skip
    more = {**case, "entities": 10_000, "rows": 40.0, "peak_bytes_per_entity": 5000.0}
    base = {
        "benchmark": "growth", "stream": "consensus", "window": 30, "fields": len(CONSENSUS.fields),
        "machine": {"cores": 2, "python": "3.11.7"}, "measured_at": "2026-01-01", "method": "by hand",
        "idle": {"resident_bytes": 1e8}, "cases": [case, more],
    }  # fmt: skip
    return {**base, **changes}


SCORING = {"benchmark": "scoring", "models": [{"model": "link-forecast", "pipeline": {"windows_per_second": 1000.0}}]}


@pytest.fixture
def file(tmp_path):
    def write(*lines):
        path = tmp_path / "figures.jsonl"
        path.write_text("".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines))
        return path

    return write


@pytest.fixture(scope="module")
def figures(tmp_path_factory):
    path = tmp_path_factory.mktemp("figures") / "f.jsonl"
    path.write_text(f"{json.dumps(growth())}\n{json.dumps(SCORING)}\n")
    return read_figures(path)


def test_a_plan_worked_out_by_hand(figures):
    found = plan(figures, CONSENSUS, entities=10_000, step=10.0, load=0.5, room=2.0, margin=1.5)
    assert found.samples_per_second == 1000.0
    # 1000 samples/s of 100 us, and as many snapshots of 50 us, since samples are rarer than checkpoints
    assert found.cores_busy == pytest.approx(0.15)
    assert found.cores == pytest.approx(0.3)
    assert (found.workers, found.partitions) == (1, 2)
    assert found.memory_bytes == pytest.approx(1.5 * (1e8 + 10_000 * 5000))
    assert found.telemetry_bytes_per_second == 400_000
    assert found.changelog_bytes_per_second == 2_000_000
    assert found.state_bytes == 20_000_000
    assert "2026-01-01" in found.provenance


def test_checkpoints_not_samples_set_the_changelog_when_samples_are_more_frequent(figures):
    found = plan(figures, CONSENSUS, entities=1000, step=1.0, checkpoint_interval=5.0)
    assert found.changelog_bytes_per_second == pytest.approx(1000 / 5 * 2000)


def test_a_partition_never_gets_more_entities_than_it_may_hold(figures):
    found = plan(figures, CONSENSUS, entities=1_000_000, step=3600.0)
    assert found.workers == 1
    assert found.partitions * FILL * CONSENSUS.max_entities >= 1_000_000


def test_another_stream_is_scaled_by_its_window_and_pays_for_its_models(figures):
    scale = LINK.window * len(LINK.fields) / (30 * len(CONSENSUS.fields))
    found = plan(figures, LINK, entities=1000, step=10.0)
    assert found.state_bytes == pytest.approx(1000 * 2000 * scale)
    assert found.cores_busy == pytest.approx((100 * (10 + 1000 / LINK.stride) + 100 * 50 * scale) / 1e6)
    bare = msgspec.structs.replace(LINK, models=())
    assert plan(figures, bare, entities=1000, step=10.0).cores_busy < found.cores_busy


def test_a_model_that_was_not_measured_is_told(figures):
    with pytest.raises(ConfigError, match="bench_scoring"):
        plan(figures, STREAMS["node"], entities=10, step=1.0)


@given(
    entities=st.lists(st.integers(1, 10**8), min_size=2, max_size=2).map(sorted),
    steps=st.lists(st.floats(0.01, 1e5), min_size=2, max_size=2).map(sorted),
    load=st.floats(0.05, 1.0),
    room=st.floats(1.0, 8.0),
    stream=st.sampled_from([CONSENSUS, LINK]),
)
def test_more_entities_never_need_less_and_a_longer_step_never_more(figures, entities, steps, load, room, stream):
    def need(number, step):
        return plan(figures, stream, entities=number, step=step, load=load, room=room)

    few, many = (need(number, steps[0]) for number in entities)
    often, seldom = (need(entities[0], step) for step in steps)
    for name in NEEDS:
        assert getattr(few, name) <= getattr(many, name), name
    for name in SLOWER:
        assert getattr(often, name) >= getattr(seldom, name), name
    assert often.state_bytes == seldom.state_bytes
    for found in (few, many, often, seldom):
        assert found.partitions >= found.workers
        assert found.cores_busy <= found.workers * load * (1 + 1e-9)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([SCORING], "no figures of the benchmark growth"),
        (["nonsense\n"], "line 1"),
        ([growth(cases=[{"entities": 1}])], "line 1"),
        ([growth(), {"benchmark": "scoring", "models": [{"model": "a"}]}], "line 2"),
        ([growth(cases=[])], "no figures"),
    ],
)
def test_a_file_that_is_no_benchmarks_is_refused(file, lines, said):
    with pytest.raises(ConfigError, match=said):
        read_figures(file(*lines))


def test_other_benchmarks_are_passed_over_and_the_last_line_counts(file):
    path = file(growth(measured_at="old"), {"benchmark": "ingest"}, "\n", growth(measured_at="new"), SCORING)
    found = read_figures(path)
    assert found.growth.measured_at == "new"
    assert found.model_us == {"link-forecast": 1000.0}


def test_the_shipped_figures_cover_every_shipped_stream_and_say_where_they_are_from():
    figures = read_figures(ROOT / "config" / "capacity.jsonl")
    assert figures.growth.measured_at.count("-") == 2
    assert figures.growth.machine["cores"] > 0
    for stream in STREAMS.values():
        found = plan(figures, stream, entities=1_000_000, step=10.0)
        assert found.workers > 1
        assert found.memory_bytes > 1_000_000 * 4 * stream.window * len(stream.fields), "float32 windows at least"


def test_the_command_prints_the_plan(file, capsys):
    path = str(file(growth(), SCORING))
    options = ["capacity", "--entities", "10000", "--step", "10", "--figures", path]
    assert run([*options, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["cores_busy"] == pytest.approx(0.15)
    assert found["assumptions"]["load"] == 0.5
    assert run(options) == 0
    shown = capsys.readouterr().out
    assert "partitions" in shown
    assert "measured 2026-01-01 on 2 cores" in " ".join(shown.split())


def test_the_step_is_the_streams_own_unless_given(file, capsys):
    path = str(file(growth(), SCORING))
    assert run(["capacity", "--entities", "10", "--stream", "link", "--figures", path, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["step_seconds"] == LINK.step


@pytest.mark.parametrize("wrong", [["--entities", "0"], ["--entities", "5", "--step", "0"], []])
def test_bad_usage(wrong, capsys):
    assert run(["capacity", *wrong]) == 2
    assert capsys.readouterr().err

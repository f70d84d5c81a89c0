"""Versions that take over at an offset: the same results however the log is cut, and after any crash."""

from collections import Counter
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dwcp_stream.activations import (
    Activation,
    ScheduleRecord,
    active,
    begun,
    decode_schedule,
    encode_schedule,
    needed,
    pending,
    schedule_of,
)
from dwcp_stream.backtest import published
from dwcp_stream.chunk import Chunk
from dwcp_stream.errors import NewerStateError, StateError
from dwcp_stream.loading import BoundModels
from dwcp_stream.pipeline import Pipeline
from dwcp_stream.registry import ModelRepository
from dwcp_stream.settings import Settings
from dwcp_stream.streams import load_stream
from dwcp_stream.streams.files import read_table, rows_to_records
from dwcp_stream.windows.snapshot import PartitionRecord, SnapshotCodec, decode_partition_record
from lab.links import simulate_links
from tests.integration import probe
from tests.model_graphs import publish_twice

ROOT = Path(__file__).resolve().parents[2]
A, B = "a", "b"


def plan(*steps):
    return schedule_of(Activation(*step) for step in steps)


def test_a_version_scores_from_its_offset_to_the_next():
    schedule = plan((0, A, 1), (50, A, 2), (20, B, 7))
    assert [active(schedule, p)[A].version for p in (0, 50, 51)] == [1, 1, 2]
    assert pending(schedule, 20) == (Activation(20, B, 7), Activation(50, A, 2))[1:]
    assert active(schedule, 0)[B].version == 7, "before the first there is nothing else"
    assert pending(schedule, 50) == (Activation(50, A, 2),), "the sample at 50 is still to come"
    assert not pending(schedule, 51)


def test_a_plan_that_is_taken_back_leaves_no_trace():
    assert plan((0, A, 1), (50, A, 2), (50, A, 1)) == plan((0, A, 1))
    assert plan((0, A, 1), (50, A, 2), (50, A, 3)) == plan((0, A, 1), (50, A, 3))


@given(st.lists(st.tuples(st.integers(0, 30), st.sampled_from([A, B]), st.integers(1, 3)), max_size=8), st.data())
def test_what_is_needed_tells_a_reader_the_same(steps, data):
    schedule = plan(*steps)
    position = data.draw(st.integers(0, 31))
    short = needed(schedule, position)
    assert len(short) <= len(schedule)
    for later in range(position, 33):
        versions = [{m: a.version for m, a in active(s, later).items()} for s in (schedule, short)]
        assert versions[0] == versions[1]
        assert pending(short, later) == pending(schedule, later)


def test_state_of_a_release_without_schedules_goes_on():
    record = PartitionRecord(position=80, models={A: 3}, since={A: 40})
    assert begun(record, [(A, 3)]) == (Activation(40, A, 3),)
    assert begun(record, [(A, 4)]) == (Activation(80, A, 4),)
    assert begun(None, [(A, 1)]) == (Activation(0, A, 1),)


def test_a_schedule_is_read_back_and_a_damaged_or_later_one_is_not():
    record = ScheduleRecord(term=4, activations=plan((0, A, 1), (9, A, 2)))
    data = encode_schedule(record)
    assert decode_schedule(data) == record
    with pytest.raises(StateError, match="damaged"):
        decode_schedule(data[:-1])
    with pytest.raises(NewerStateError):
        decode_schedule(encode_schedule(msgspec.structs.replace(record, version=record.version + 1)))


def test_a_release_that_knows_no_schedules_stops_instead_of_calling_it_damaged(stream):
    with pytest.raises(NewerStateError):
        SnapshotCodec(stream).decode(encode_schedule(ScheduleRecord()))


# --- in the pipeline ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stream(tmp_path_factory):
    return probe.write_definition(tmp_path_factory.mktemp("streams"), "t")


@pytest.fixture(scope="module")
def models(stream, tmp_path_factory):
    """Versions 1 to 4: plain, other scores and severities, and two that remember."""
    root = tmp_path_factory.mktemp("models")
    probe.publish_model(root, stream)
    probe.publish_model(root, stream, factor=1.2, severity=(1.0, 1.7, 3.0))
    probe.publish_model(root, stream, remembers=True)
    probe.publish_model(root, stream, factor=1.1, remembers=True)
    found = BoundModels(Settings(models_dir=root), stream)
    return {version: found.load(probe.MODEL, version) for version in (1, 2, 3, 4)}


def records(entities=4, steps=90):
    return [(key, value) for key, value, _, _ in probe.Telemetry(entities, steps).rows(1)[0]]


def chunk_of(found, begin, end):
    stamps = np.full(end - begin, int((probe.EPOCH + 1e6) * 1000), np.int64)
    part = found[begin:end]
    return Chunk("t", 0, np.arange(begin, end), stamps, [k for k, _ in part], [v for _, v in part])


def swapping(stream, models, versions):
    """A pipeline whose versions take over at the offsets given, and its schedule."""
    schedule = schedule_of(Activation(offset, probe.MODEL, version) for offset, version in versions.items())
    pipeline = Pipeline(stream, [models[schedule[0].version]])
    resume(pipeline, models, None, {}, schedule)
    return pipeline, schedule


def resume(pipeline, models, record, snapshots, schedule):
    kept = needed(schedule, record.position if record else 0)
    pipeline.restore(0, record, snapshots, kept, {a: models[a.version] for a in kept})


def run(pipeline, found, cuts, begin=0, end=None):
    ends = [c for c in cuts if c > begin] + [len(found) if end is None else end]
    starts = [begin, *ends[:-1]]
    return [pipeline.process(chunk_of(found, a, b)) for a, b in zip(starts, ends, strict=True) if a < b]


def said(results, topic="anomalies"):
    return [published(o) for r in results for o in r.outputs if o.topic == topic]


def state_of(pipeline):
    state = pipeline.partitions[0]
    state.touched = set(state.windows.slots.values())
    copy = state.copy()
    return dict(copy.snapshots()), copy.record()


schedules = st.dictionaries(st.integers(1, 320), st.integers(1, 4), max_size=5).map(lambda later: {0: 1, **later})


@settings(max_examples=40, deadline=None)
@given(schedules, st.sets(st.integers(1, 330), max_size=12))
def test_a_swap_does_not_depend_on_how_the_log_is_cut(stream, models, versions, cuts):
    found = records()
    whole, schedule = swapping(stream, models, versions)
    wanted = run(whole, found, [])
    pieces, _ = swapping(stream, models, versions)
    got = run(pieces, found, sorted(cuts))
    assert sorted(map(str, said(got))) == sorted(map(str, said(wanted)))
    assert state_of(pieces) == state_of(whole)
    assert [s for r in got for s in r.swaps] == wanted[0].swaps
    assert len(wanted[0].swaps) == len(schedule) - 1
    assert sum(r.counts for r in got).tolist() == wanted[0].counts.tolist()


@settings(max_examples=40, deadline=None)
@given(schedules, st.data())
def test_after_a_crash_each_sample_is_scored_by_the_version_that_scored_it_first(stream, models, versions, data):
    """Snapshots of a later checkpoint may be there without its partition record, also beyond a swap."""
    found = records()
    whole, schedule = swapping(stream, models, versions)
    wanted = run(whole, found, [])
    first, _ = swapping(stream, models, versions)
    saved = data.draw(st.integers(1, len(found) - 1))
    crash = data.draw(st.integers(saved, len(found)))
    seen = run(first, found, [], 0, saved)
    copy = first.copy(0)
    snapshots, record = dict(copy.snapshots()), decode_partition_record(copy.record())
    if crash > saved:
        seen += run(first, found, [], saved, crash)
        later = first.copy(0)
        written = later.snapshots()
        snapshots |= dict(written[: data.draw(st.integers(0, len(written)))])
    codec = SnapshotCodec(stream)
    second = Pipeline(stream, [models[1]])
    resume(second, models, record, {e: codec.decode(s) for e, s in snapshots.items()}, schedule)
    seen += run(second, found, sorted(data.draw(st.sets(st.integers(1, 330), max_size=4))), saved)
    assert {str(a) for a in said(seen)} == {str(a) for a in said(wanted)}, "repeats are equal to the last word"
    assert state_of(second)[0] == state_of(whole)[0]
    assert decode_partition_record(state_of(second)[1]).models == decode_partition_record(state_of(whole)[1]).models


@pytest.mark.parametrize("crash", [88, 110])
@pytest.mark.parametrize(
    "versions",
    [{0: 3, 40: 1, 50: 3}, {0: 3, 40: 4, 50: 3}, {0: 1, 95: 3}, {0: 4, 95: 3}, {0: 3, 95: 4, 97: 3}],
    ids=str,
)
def test_what_a_version_remembers_comes_back_only_to_itself(stream, models, versions, crash):
    """Of an entity that was silent around two swaps, and of entities that are ahead of the position, beyond a swap."""
    moments = [(step, name) for step in range(100) for name in "aq" if name == "a" or not 15 <= step < 75]
    found = [
        (name.encode(), b'{"id":"%s","ts":%.1f,"value":0.5,"requests":0}' % (name.encode(), probe.EPOCH + step))
        for step, name in moments
    ]
    whole, schedule = swapping(stream, models, versions)
    run(whole, found, [])
    first, _ = swapping(stream, models, versions)
    copies = []
    for begin, end in ((0, 35), (35, 85), (85, crash)):  # the record of the last of these checkpoints is not written
        run(first, found, [], begin, end)
        copies.append(first.copy(0))
    snapshots = {entity: data for copy in copies for entity, data in copy.snapshots()}
    codec, second = SnapshotCodec(stream), Pipeline(stream, [models[1]])
    record = decode_partition_record(copies[1].record())
    resume(second, models, record, {e: codec.decode(s) for e, s in snapshots.items()}, schedule)
    run(second, found, [], 85)
    assert state_of(second)[0] == state_of(whole)[0]


def test_alerts_go_on_over_a_swap_with_the_new_cutoffs(stream, models):
    """A burst at 1.5 that grows to 3: warning and critical to version 1, emergency to version 2."""
    found = [
        (b"e", b'{"id":"e","ts":%.1f,"value":%.1f,"requests":0}' % (probe.EPOCH + i, 0.5 if i < 10 else 1.5))
        for i in range(20)
    ]
    pipeline, _ = swapping(stream, models, {0: 1, 15: 2})
    alerts = said(run(pipeline, found, []))
    assert [(a["action"], a["severity"], a["model_version"]) for a in alerts] == [
        ("firing", "warning", 1),
        ("escalated", "critical", 2),
    ]
    assert len({a["fingerprint"] for a in alerts}) == 1
    assert len({a["startsAt"] for a in alerts}) == 1
    assert pipeline.partitions[0].alerts[probe.MODEL].cutoffs == (1.0, 1.7, 3.0)


def test_what_a_version_remembers_is_not_given_to_another(stream, models):
    found = [(b"e", b'{"id":"e","ts":%.1f,"value":0.5,"requests":0}' % (probe.EPOCH + i)) for i in range(40)]
    pipeline, _ = swapping(stream, models, {0: 3, 20: 4, 30: 3})
    state = pipeline.partitions[0]
    counts = []
    for end in (20, 30, 40):
        pipeline.process(chunk_of(found, state.position or 0, end))
        counts.append(float(state.states[probe.MODEL].read(np.array([state.windows.slots["e"]]))[0, 0]))
    assert counts == [20 - 3, 10, 10], "the first three warm up"


def test_drift_of_the_version_before_ends_with_it(models, tmp_path):
    """Scores jump, so drift is found; the swap says that the new version is stable."""
    path = tmp_path / "probe.toml"
    path.write_text(
        probe.DEFINITION.replace("expire_after = 100000.0", "expire_after = 400.0").format(topic="t", max_entities=9)
    )
    values = [0.2 + 0.01 * (i % 7) + 0.4 * (i > 3000) for i in range(5000)]
    found = [
        (b"e", b'{"id":"e","ts":%.1f,"value":%.2f,"requests":0}' % (probe.EPOCH + i, value))
        for i, value in enumerate(values)
    ]
    pipeline, _ = swapping(load_stream(path), models, {0: 1, 3200: 2})
    drifts = said(run(pipeline, found, list(range(500, 5000, 500))), "drift")
    before = [d for d in drifts if d["version"] == 1]
    assert before[-1]["state"] == "drifted", "or the test shows nothing"
    change = next(d for d in drifts if d["version"] == 2)
    assert (change["state"], change["previous"]) == ("stable", before[-1]["state"])
    assert change["reasons"] == ["version 2 took over from version 1"]
    monitor = pipeline.partitions[0].drift[probe.MODEL]
    assert (monitor.version, monitor.current) == (2, "stable")


def test_a_chunk_of_a_hole_activates_what_lies_in_it(stream, models):
    found = records()
    pipeline, _ = swapping(stream, models, {0: 1, 100: 2, 120: 3})
    run(pipeline, found, [], 0, 90)
    (result,) = run(pipeline, found, [], 200, 210)
    assert [(s.before, s.version) for s in result.swaps] == [(1, 2), (2, 3)]
    assert pipeline.partitions[0].record().since == {probe.MODEL: 120}


def test_forecasts_that_wait_keep_the_version_that_made_them(tmp_path):
    """Two versions with the same graph: what is realised of both together is what one of them alone would have."""
    publish_twice(ModelRepository(ROOT / "models"), ModelRepository(tmp_path), "link-forecast")
    stream = load_stream(ROOT / "config/streams/link.toml")
    found = BoundModels(Settings(models_dir=tmp_path), stream)
    both = {version: found.load("link-forecast", version) for version in (1, 2)}
    simulate_links(1, 0.2, 5).write_parquet(tmp_path / "rows.parquet")
    rows = list(rows_to_records(read_table(tmp_path / "rows.parquet", stream, None), stream))
    half = len(rows) // 2

    def realised(*steps):
        schedule = schedule_of(Activation(offset, "link-forecast", version) for offset, version in steps)
        pipeline = Pipeline(stream, [both[1]], check_ahead=False)
        pipeline.restore(0, None, {}, schedule, {a: both[a.version] for a in schedule})
        stamps = np.array([r[2] for r in rows], np.int64)
        chunk = Chunk("t", 0, np.arange(len(rows)), stamps, [r[0] for r in rows], [r[1] for r in rows])
        return pipeline.process(chunk).accuracies

    def counted(parts):
        total = Counter()
        for part in parts:
            total[part.horizon, part.target, part.bucket_start] += part.n
        return total

    alone, swapped = realised((0, 1)), realised((0, 1), (half, 2))
    assert counted(swapped) == counted(alone)
    assert {part.version for part in swapped} == {1, 2}
    buckets = {version: {p.bucket_start for p in swapped if p.version == version and p.n} for version in (1, 2)}
    assert buckets[1] & buckets[2], "at the swap, forecasts of both come true"
    last = max(p.bucket_start for p in swapped if p.version == 1 and p.n)
    first = min(p.bucket_start for p in swapped if p.version == 2 and p.n)
    assert last > first, "forecasts of version 1 go on to come true after the first of version 2"

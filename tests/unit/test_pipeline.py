"""The pipeline on made-up telemetry whose alerts are known: accounting, chunk cuts, recovery."""

from collections import Counter

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dwcp_stream.backtest import published
from dwcp_stream.chunk import Chunk
from dwcp_stream.events import rfc3339
from dwcp_stream.parts import tick_interval
from dwcp_stream.pipeline import Pipeline
from dwcp_stream.registry import ModelRepository
from dwcp_stream.streams import load_stream
from dwcp_stream.windows.snapshot import SnapshotCodec, decode_partition_record
from tests.integration import probe


@pytest.fixture(scope="module")
def stream(tmp_path_factory):
    return probe.write_definition(tmp_path_factory.mktemp("streams"), "t")


@pytest.fixture(scope="module")
def model(stream, tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    probe.publish_model(root, stream)
    model = ModelRepository(root).load(probe.MODEL, "champion")
    model.bind(stream)
    return model


def records(entities=6, steps=90, poison=0):
    telemetry = probe.Telemetry(entities, steps)
    found = [(key, value) for key, value, _, _ in telemetry.rows(1)[0]]
    for i in range(poison):
        found.insert((i * 7919) % len(found), (b"x", b"{" * (i + 1)))
    return telemetry, found


def chunk_of(found, begin, end):
    part = found[begin:end]
    stamps = np.full(len(part), int((probe.EPOCH + 1e6) * 1000), np.int64)
    return Chunk("t", 0, np.arange(begin, end), stamps, [k for k, _ in part], [v for _, v in part])


def run(pipeline, found, cuts):
    results = []
    for begin, end in zip([0, *cuts], [*cuts, len(found)], strict=True):
        if begin < end:
            results.append(pipeline.process(chunk_of(found, begin, end)))
    return results


def alerts_of(results):
    return [published(o) for r in results for o in r.outputs if o.topic == "anomalies"]


def state_of(pipeline):
    """Snapshots of all entities, as a checkpoint of everything would write them."""
    state = pipeline.partitions[0]
    state.touched = set(state.windows.slots.values())
    return dict(state.copy().snapshots())


def test_alerts_are_those_the_telemetry_must_give(stream, model):
    telemetry, found = records()
    alerts = alerts_of(run(Pipeline(stream, [model]), found, []))
    seen = {(a["entity"], a["action"], a["event_time"]) for a in alerts}
    assert seen == {(e, a, rfc3339(t)) for e, a, t in telemetry.transitions()}
    assert len({a["id"] for a in alerts}) == len(alerts)


@settings(max_examples=25)
@given(st.data())
def test_results_do_not_depend_on_how_the_log_is_cut(stream, model, data):
    _, found = records(4, 60, poison=5)
    whole = Pipeline(stream, [model])
    wanted = run(whole, found, [])
    cuts = sorted(data.draw(st.sets(st.integers(1, len(found) - 1), max_size=12)))
    pieces = Pipeline(stream, [model])
    got = run(pieces, found, cuts)
    assert sorted(a["id"] for a in alerts_of(got)) == sorted(a["id"] for a in alerts_of(wanted))
    assert state_of(pieces) == state_of(whole)
    assert sum(r.counts for r in got).tolist() == wanted[0].counts.tolist()
    letters = [[(o.key, o.value) for r in rs for o in r.outputs if o.topic == "deadletter"] for rs in (got, wanted)]
    assert letters[0] == letters[1]


def test_every_sample_is_in_exactly_one_counter(stream, model):
    _, found = records(poison=40)
    results = run(Pipeline(stream, [model]), found, [100, 333])
    counts = sum(r.counts for r in results)
    assert counts.sum() == len(found)
    assert counts[4] == 40 == sum(sum(r.rejected.values()) for r in results)
    assert sum(r.replayed for r in results) == 0


def test_entities_beyond_the_limit_are_invalid_and_the_others_go_on(tmp_path, model):
    limited = probe.write_definition(tmp_path, "t", max_entities=3)
    _, found = records(entities=5, steps=40)
    result = run(Pipeline(limited, [model]), found, [])[0]
    refused = [v for _, v in found if msgspec.json.decode(v)["id"] >= "e00003"]
    assert result.rejected == Counter(entity_limit=len(refused))
    assert result.counts.sum() == len(found)
    assert len([o for o in result.outputs if o.topic == "deadletter"]) == len(refused)


@settings(max_examples=15)
@given(st.data())
def test_a_checkpoint_brings_everything_back(stream, model, data):
    """Crash anywhere after a checkpoint: the rest gives the same alerts, and only known ids repeat."""
    _, found = records(4, 80)
    whole = Pipeline(stream, [model])
    wanted = {a["id"] for a in alerts_of(run(whole, found, []))}
    saved = data.draw(st.integers(1, len(found) - 1))
    crash = data.draw(st.integers(saved, len(found)))
    first = Pipeline(stream, [model])
    seen = alerts_of([first.process(chunk_of(found, 0, saved))])
    copy = first.copy(0)
    snapshots, record = dict(copy.snapshots()), copy.record()
    if crash > saved:
        seen += alerts_of([first.process(chunk_of(found, saved, crash))])
        # some snapshots of a later checkpoint were written, its partition record was not
        later = first.copy(0)
        written = later.snapshots()
        snapshots |= dict(written[: data.draw(st.integers(0, len(written)))])
    codec = SnapshotCodec(stream)
    second = Pipeline(stream, [model])
    second.restore(0, decode_partition_record(record), {e: codec.decode(s) for e, s in snapshots.items()})
    assert second.partitions[0].position == saved
    results = [second.process(chunk_of(found, saved, len(found)))]
    assert {a["id"] for a in seen + alerts_of(results)} == wanted
    assert state_of(second) == state_of(whole)
    assert results[0].counts.sum() + results[0].replayed == len(found) - saved


def test_records_below_the_position_count_as_replayed_only(stream, model):
    _, found = records(3, 30, poison=3)
    pipeline = Pipeline(stream, [model])
    pipeline.process(chunk_of(found, 0, len(found)))
    again = pipeline.process(chunk_of(found, 0, len(found)))
    assert again.replayed == len(found)
    assert again.counts.sum() == 0
    assert not again.outputs


def test_a_silent_entity_expires_and_its_alert_resolves(tmp_path, model):
    text = probe.DEFINITION.replace("expire_after = 100000.0", "expire_after = 60.0")
    path = tmp_path / "probe.toml"
    path.write_text(text.format(topic="t", max_entities=10))
    short = load_stream(path)
    found = [
        (name, b'{"id":"%s","ts":%.1f,"value":2.0}' % (name, probe.EPOCH + step))
        for step in range(200)
        for name in (b"gone", b"stays")
        if name == b"stays" or step < 20
    ]
    pipeline = Pipeline(short, [model])
    alerts = alerts_of(run(pipeline, found, [37, 120]))
    gone = [a for a in alerts if a["entity"] == "gone"]
    assert [(a["action"], a["reason"]) for a in gone] == [("firing", "threshold"), ("resolved", "expired")]
    assert list(pipeline.entities()) == ["stays"]
    assert pipeline.copy(0).removed == ["gone"]


def test_the_view_reads_named_fields(stream, model):
    _, found = records(2, 30)
    pipeline = Pipeline(stream, [model])
    pipeline.process(chunk_of(found, 0, len(found)))
    view = pipeline.view("e00001")
    assert view["value"].shape == (probe.WINDOW,)
    assert view["value"][-1] in (probe.CALM, probe.WARNING, probe.CRITICAL)
    with pytest.raises(KeyError):
        pipeline.view("nobody")


@pytest.mark.parametrize(
    ("step", "expire_after", "seconds"),
    [
        (1.0, 300.0, 30.0),
        (60.0, 3600.0, 360.0),
        (60.0, 604_800.0, 600.0),
        (1.0, 604_800.0, 300.0),
        (3600.0, 1e6, 36_000.0),
    ],
)
def test_ticks_are_not_seldom_where_entities_may_be_silent_for_long(stream, step, expire_after, seconds):
    changed = msgspec.structs.replace(stream, step=step, expire_after=expire_after)
    assert tick_interval(changed) == seconds
    assert tick_interval(msgspec.structs.replace(changed, step="irregular")) == min(expire_after / 10, 300.0)

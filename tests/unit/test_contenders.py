"""Challengers and shadows: who serves whom, what is told, and that crashes and cuts of the log change none of it."""

from collections import defaultdict

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dwcp_stream.activations import NOTHING, Activation, schedule_of
from dwcp_stream.arm_scores import LARGEST, ScorePairs
from dwcp_stream.backtest import published
from dwcp_stream.chunk import Chunk
from dwcp_stream.errors import StateError
from dwcp_stream.events import ArmScores
from dwcp_stream.loading import BoundModels
from dwcp_stream.pipeline import Pipeline
from dwcp_stream.registry import ModelRepository
from dwcp_stream.settings import Settings
from dwcp_stream.split import Split, draw
from dwcp_stream.streams import load_stream
from dwcp_stream.windows.snapshot import SnapshotCodec, decode_partition_record
from tests.integration import probe
from tests.model_graphs import binding, make_files, make_manifest, make_stream

CHAMPION, CHALLENGER, SHADOW, SHARE = (f"{probe.MODEL}{suffix}" for suffix in ("", "@challenger", "@shadow", "@share"))
STEPS = 700  # two buckets and more


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Version 1 is the champion; 2 fires at the critical values only, 3 remembers, 4 says what 1 says."""
    root = tmp_path_factory.mktemp("site")
    stream = probe.write_definition(root / "streams", "t")
    probe.publish_model(root / "models", stream)
    probe.publish_model(root / "models", stream, factor=0.6, alias=None)
    probe.publish_model(root / "models", stream, remembers=True, alias=None)
    probe.publish_model(root / "models", stream, alias=None)
    found = BoundModels(Settings(models_dir=root / "models"), stream)
    return stream, {version: found.load(probe.MODEL, version) for version in (1, 2, 3, 4)}


def rows(entities=12, steps=STEPS):
    return [(key, value) for key, value, _, _ in probe.Telemetry(entities, steps).rows(1)[0]]


def chunk_of(found, begin, end):
    part = found[begin:end]
    stamps = np.full(len(part), int((probe.EPOCH + 1e6) * 1000), np.int64)
    return Chunk("t", 0, np.arange(begin, end), stamps, [k for k, _ in part], [v for _, v in part])


def planned(site, *activations):
    """A pipeline whose first partition is to follow the activations (offset, line, version)."""
    stream, models = site
    pipeline = Pipeline(stream, [models[1]])
    state = pipeline.assign(0)
    lines = {line for _, line, _ in activations}
    schedule = schedule_of(
        [Activation(0, CHAMPION, 1), *(Activation(0, line, NOTHING) for line in lines - {CHAMPION})]
        + [Activation(*a) for a in activations]
    )
    state.plan(schedule, {a: models[a.version] for a in schedule if a.scores})
    return pipeline


def run(pipeline, found, cuts=()):
    ends = [*cuts, len(found)]
    return [pipeline.process(chunk_of(found, b, e)) for b, e in zip([0, *cuts], ends, strict=True) if b < e]


def alerts_of(results):
    return [published(o) for r in results for o in r.outputs if o.topic == "anomalies"]


def pairs_of(results):
    return [msgspec.json.decode(o.value, type=ArmScores) for r in results for o in r.outputs if o.topic == "accuracy"]


def told(alerts):
    return {(a["entity"], a["action"], a["event_time"], a["severity"]) for a in alerts}


def test_a_shadow_tells_nobody_but_its_scores_are_counted_beside_the_champions(site):
    found = rows()
    alone = run(Pipeline(site[0], [site[1][1]]), found)
    results = run(planned(site, (100, SHADOW, 2)), found)
    assert alerts_of(results) == alerts_of(alone)
    (whole,) = alone
    assert (results[0].counts == whole.counts).all()
    assert results[0].predictions == whole.predictions
    pairs = pairs_of(results)
    assert {(p.arm, p.version, p.champion) for p in pairs} == {("shadow", 2, 1)}
    assert sum(p.n for p in pairs) <= results[0].scored_windows[SHADOW]
    assert sum(p.only_arm for p in pairs) == 0
    assert sum(p.both for p in pairs) > 0
    assert sum(p.only_champion for p in pairs) > 0
    assert all(p.difference > 0 for p in pairs)


def test_each_entity_is_served_by_one_arm(site):
    found = rows()
    by = {v: alerts_of(run(Pipeline(site[0], [site[1][v]]), found)) for v in (1, 2)}
    results = run(planned(site, (1, CHALLENGER, 2), (1, SHARE, 40)), found)
    served = defaultdict(set)
    for alert in alerts_of(results):
        served[alert["entity"]].add(alert["model_version"])
    expected = {e: {2 if draw(f"{probe.MODEL}/2", e) < 0.4 else 1} for e in served}
    assert dict(served) == expected
    assert {1, 2} == set().union(*expected.values())
    wanted = {t for v, alerts in by.items() for t in told(alerts) if expected[t[0]] == {v}}
    assert told(alerts_of(results)) == wanted


def test_a_challenger_without_a_share_serves_nobody(site):
    found = rows()
    results = run(planned(site, (1, CHALLENGER, 2)), found)
    assert alerts_of(results) == alerts_of(run(Pipeline(site[0], [site[1][1]]), found))
    assert pairs_of(results)


def test_an_alert_goes_on_when_its_entity_changes_the_arm(site):
    """The share ends and begins while alerts fire: none fires twice or is left behind."""
    found = rows(6)
    offsets = range(100, len(found), 37)
    changes = [(offset, SHARE, 100 if i % 2 else NOTHING) for i, offset in enumerate(offsets)]
    alerts = alerts_of(run(planned(site, (1, CHALLENGER, 4), *changes), found))
    assert told(alerts) == told(alerts_of(run(Pipeline(site[0], [site[1][1]]), found)))
    assert len({a["id"] for a in alerts}) == len(alerts)
    assert {a["model_version"] for a in alerts} == {1, 4}


def test_what_a_contender_leaves_is_told_at_its_end(site):
    found = rows()
    ends = len(found) // 3
    results = run(planned(site, (1, SHADOW, 2), (ends, SHADOW, NOTHING)), found)
    counted = sum(p.n for p in pairs_of(results))
    assert counted == results[0].scored_windows[SHADOW]
    (begin, end) = results[0].swaps
    assert (begin.arm, begin.before, begin.version) == ("shadow", NOTHING, 2)
    assert (end.arm, end.before, end.version, end.offset) == ("shadow", 2, NOTHING, ends)


PLANS = (
    ((50, SHADOW, 3), (200, CHALLENGER, 2), (400, SHARE, 50), (1500, CHAMPION, 3), (1500, SHADOW, NOTHING)),
    (
        *((50, SHADOW, 3), (250, CHALLENGER, 3), (250, SHADOW, NOTHING), (400, SHARE, 50), (1500, CHAMPION, 3)),
        *((1500, CHALLENGER, NOTHING), (1500, SHARE, NOTHING), (1500, SHADOW, 1), (1800, SHADOW, NOTHING)),
    ),
    (
        *((300, CHAMPION, 3), (1200, CHAMPION, 1), (1200, SHADOW, 3)),
        *((1800, CHALLENGER, 3), (1800, SHADOW, NOTHING), (1800, SHARE, 60)),
    ),
)
PLAN_NAMES = ["two contenders", "one that rises", "one that falls"]


def state_of(pipeline):
    state = pipeline.partitions[0]
    state.touched = set(state.windows.slots.values())
    copy = state.copy()
    return dict(copy.snapshots()), copy.record()


@pytest.mark.parametrize("plan", PLANS, ids=PLAN_NAMES)
@settings(max_examples=15)
@given(data=st.data())
def test_arms_do_not_depend_on_how_the_log_is_cut(site, plan, data):
    found = rows(6, 400)
    whole = planned(site, *plan)
    wanted = run(whole, found)
    cuts = sorted(data.draw(st.sets(st.integers(1, len(found) - 1), max_size=8)))
    pieces = planned(site, *plan)
    got = run(pieces, found, cuts)
    assert sorted(a["id"] for a in alerts_of(got)) == sorted(a["id"] for a in alerts_of(wanted))
    assert pairs_of(got) == pairs_of(wanted)
    assert state_of(pieces) == state_of(whole)


@pytest.mark.parametrize("plan", PLANS, ids=PLAN_NAMES)
@settings(max_examples=25)
@given(data=st.data())
def test_a_crash_changes_no_arm(site, plan, data):
    """Whatever had been written when it crashed: alerts have the ids and versions of an undisturbed run."""
    stream, models = site
    found = rows(6, 400)
    whole = planned(site, *plan)
    wanted = {(a["id"], a["model_version"]) for a in alerts_of(run(whole, found))}
    saved = data.draw(st.integers(1, len(found) - 1))
    crash = data.draw(st.integers(saved, len(found)))
    first = planned(site, *plan)
    seen = alerts_of([first.process(chunk_of(found, 0, saved))])
    copy = first.copy(0)
    snapshots, record = dict(copy.snapshots()), decode_partition_record(copy.record())
    if crash > saved:
        seen += alerts_of([first.process(chunk_of(found, saved, crash))])
        snapshots |= dict(data.draw(st.permutations(first.copy(0).snapshots()))[: data.draw(st.integers(0, 6))])
    schedule = first.partitions[0].schedule
    codec, second = SnapshotCodec(stream), Pipeline(stream, [models[1]])
    known = {a: models[a.version] for a in schedule if a.scores}
    second.restore(0, record, {e: codec.decode(s) for e, s in snapshots.items()}, schedule, known)
    seen += alerts_of([second.process(chunk_of(found, saved, len(found)))])
    assert {(a["id"], a["model_version"]) for a in seen} == wanted
    assert state_of(second)[0] == state_of(whole)[0]


def test_what_a_version_remembers_rises_and_falls_with_it(site):
    found = rows(6, 400)
    alone = Pipeline(site[0], [site[1][3]])
    run(alone, found)
    wanted = memory_of(alone, alone.partitions[0].states[probe.MODEL])
    assert all(np.isfinite(value) for value in wanted.values())
    rise = (
        (1, SHADOW, 3),
        (500, CHALLENGER, 3),
        (500, SHADOW, NOTHING),
        (900, CHAMPION, 3),
        (900, CHALLENGER, NOTHING),
    )
    risen = planned(site, *rise)
    run(risen, found)
    assert memory_of(risen, risen.partitions[0].states[probe.MODEL]) == wanted
    fallen = planned(site, *rise, (1400, CHAMPION, 1), (1400, SHADOW, 3))
    run(fallen, found)
    assert memory_of(fallen, fallen.partitions[0].contenders.by_line[SHADOW].memory) == wanted


def memory_of(pipeline, memory):
    return {
        entity: float(memory.read(np.array([slot]))[0, 0])
        for entity, slot in pipeline.partitions[0].windows.slots.items()
    }


@given(st.lists(st.text(min_size=1), min_size=1, unique=True), st.integers(0, 100))
def test_a_split_is_stable_and_grows_with_the_share(entities, share):
    slots = np.arange(len(entities))
    small, large = Split("m/2", share), Split("m/2", min(100, share + 10))
    for split in (small, large):
        split.resize(len(entities))
    chosen, more = small(slots, entities.__getitem__), large(slots, entities.__getitem__)
    assert (chosen <= more).all()
    assert (chosen == [draw("m/2", e) * 100 < share for e in entities]).all()
    assert (small(slots, entities.__getitem__) == chosen).all()


def test_a_split_draws_its_share():
    drawn = np.array([draw("m/2", f"e{i}") for i in range(20_000)])
    assert abs((drawn < 0.1).mean() - 0.1) < 0.01
    other = np.array([draw("m/3", f"e{i}") for i in range(20_000)])
    assert abs(np.corrcoef(drawn, other)[0, 1]) < 0.03


def test_paired_scores_that_are_infinite_or_missing():
    pairs = ScorePairs()
    inf, nan = np.float32(np.inf), np.float32(np.nan)
    before = np.array([inf, inf, nan, 0.5, 2.0], np.float32)
    scores = np.array([inf, 0.5, 1.0, nan, 3.0], np.float32)
    pairs.add(np.full(5, 10.0), 1, before, scores)
    ((bucket, champion, sums),) = pairs.drain(np.inf)
    assert (bucket, champion, sums) == (0, 1, [3, 2, 1, 0, int((LARGEST + 1.0) * 1e6)])
    assert pairs.drain(np.inf) == []


@pytest.mark.parametrize("plain", [None, [[1, 2, [1]]], [["x", 1, [0] * 5]]])
def test_damaged_paired_scores_are_refused(plain):
    with pytest.raises(StateError, match="paired scores"):
        ScorePairs().load(plain)


@pytest.fixture(scope="module")
def forecasting(tmp_path_factory):
    root = tmp_path_factory.mktemp("forecasting")
    repository = ModelRepository(root)
    manifest = make_manifest("forecast")
    for _ in range(2):
        repository.publish("tiny-forecast", make_files("forecast"), {k: v for k, v in manifest.items() if k != "name"})
    stream = make_stream(models=(binding("forecast"),), min_periods=1)
    found = BoundModels(Settings(models_dir=root), stream)
    return stream, {v: found.load("tiny-forecast", v) for v in (1, 2)}


def test_a_shadows_forecasts_meet_the_same_actuals(forecasting):
    stream, models = forecasting
    pipeline = Pipeline(stream, [models[1]])
    state, line = pipeline.assign(0), "tiny-forecast@shadow"
    schedule = schedule_of([Activation(0, "tiny-forecast", 1), Activation(0, line, 2)])
    state.plan(schedule, {a: models[a.version] for a in schedule})
    state.contenders.change(Activation(0, line, 2), models[2])
    pipeline._hold(state)
    found = [
        (b"e", b'{"id":"e","ts":%d,"latency":%.3f,"loss":0.1}' % (1_700_000_000 + 60 * i, 10 + np.sin(i / 5)))
        for i in range(60)
    ]
    (result,) = run(pipeline, found)
    told_by = {msgspec.json.decode(o.value)["arm"] for o in result.outputs if o.topic == "predictions"}
    assert told_by == {"champion"}
    by_arm = defaultdict(list)
    for part in result.accuracies:
        sums = {k: v for k, v in msgspec.to_builtins(part).items() if k not in ("arm", "version")}
        by_arm[part.arm, part.version].append(sums)
    assert set(by_arm) == {("champion", 1), ("shadow", 2)}
    assert by_arm["champion", 1] == by_arm["shadow", 2]  # the graph is the same


def test_a_promoted_version_keeps_its_correction(forecasting):
    stream, models = forecasting
    state = Pipeline(stream, [models[1]]).assign(0)
    state.contenders.change(Activation(0, "tiny-forecast@challenger", 2), models[2])
    learnt = state.contenders.by_line["tiny-forecast@challenger"].forecasts.correction
    learnt.use(2)
    learnt.factor[:] = 1.5
    coming = Activation(5, "tiny-forecast", 2)
    state.plan(schedule_of([Activation(0, "tiny-forecast", 1), coming]), {coming: models[2]})
    state.activate(coming)
    kept = state.forecasts["tiny-forecast"].correction
    assert kept.version == 2
    assert (kept.factor == 1.5).all()


def test_streams_of_files_are_loaded_without_arms(tmp_path):
    path = tmp_path / "probe.toml"
    path.write_text(probe.DEFINITION.format(topic="t", max_entities=10))
    assert Pipeline(load_stream(path)).wanted() == {}

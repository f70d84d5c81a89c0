"""What a worker shows of its entities: the list, and one in full."""

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dwcp_stream.chunk import Chunk
from dwcp_stream.pipeline import Pipeline
from dwcp_stream.registry import ModelRepository
from dwcp_stream.scoring import LatestScores
from dwcp_stream.web.looks import Glimpse, entity_list, entity_look, glimpse, look
from tests.integration import probe


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    root = tmp_path_factory.mktemp("looks")
    stream = probe.write_definition(root / "streams", "t")
    probe.publish_model(root / "models", stream)
    pipeline = Pipeline(stream, [ModelRepository(root / "models").load(probe.MODEL, "champion").bind(stream)])
    telemetry = probe.Telemetry(6, 24)  # the bursts of the first four entities have begun by then
    found = [(key, value) for key, value, _, _ in telemetry.rows(1)[0]]
    stamps = np.full(len(found), int((probe.EPOCH + 1e6) * 1000), np.int64)
    pipeline.process(Chunk("t", 0, np.arange(len(found)), stamps, [k for k, _ in found], [v for _, v in found]))
    return pipeline


def test_a_list_begins_with_what_fires_and_scores_highest(pipeline):
    listed = entity_list(pipeline.stream, pipeline.models, [glimpse(pipeline.partitions[0])])
    assert [row.entity for row in listed.entities] == ["e00000", "e00001", "e00002", "e00003", "e00004", "e00005"]
    assert [row.scores for row in listed.entities] == [[3.0], [1.5], [1.5], [1.5], [0.5], [0.5]]
    assert [row.severities[0] for row in listed.entities] == ["critical", "warning", "warning", "warning", None, None]
    assert listed.count == 6
    assert {row.time for row in listed.entities} == {probe.EPOCH + 23}
    assert [(m.name, m.task, m.severity, m.resolve_below) for m in listed.models] == [
        (probe.MODEL, "anomaly", [1.0, 2.0, 5.0], 0.8)
    ]


def test_a_list_can_be_cut_and_searched(pipeline):
    seen = [glimpse(pipeline.partitions[0])]
    cut = entity_list(pipeline.stream, pipeline.models, seen, limit=2)
    assert ([row.entity for row in cut.entities], cut.count) == (["e00000", "e00001"], 6)
    found = entity_list(pipeline.stream, pipeline.models, seen, like="E00004")
    assert ([row.entity for row in found.entities], found.count) == (["e00004"], 1)


def test_one_entity_in_full(pipeline):
    found = msgspec.to_builtins(entity_look(pipeline.stream, look(pipeline.partitions[0], "e00000")))
    value, requests = found["fields"]
    assert value["values"] == [0.5, 0.5, 0.5, 0.5, 1.5, 1.5, 1.5, 3.0]
    assert requests["kind"] == "counter"
    assert set(requests["values"]) == {3.0}  # a rate
    assert found["times"][-1] == probe.EPOCH + 23
    (said,) = found["models"]
    assert (said["score"], said["severity"], said["since"]) == (3.0, "critical", probe.EPOCH + 20)
    assert said["expected"] == [None, None]
    assert said["contributions"] is None  # the model explains nothing
    with pytest.raises(KeyError):
        look(pipeline.partitions[0], "nobody")


def test_a_look_is_a_copy(pipeline):
    seen = look(pipeline.partitions[0], "e00005")
    before = seen.view.rows.copy()
    pipeline.partitions[0].latest[probe.MODEL].write(np.array([5]), np.array([9.0], np.float32))
    assert seen.models[0][2] == 0.5
    np.testing.assert_array_equal(seen.view.rows, before)


@given(st.lists(st.tuples(st.integers(0, 6), st.floats(0, 9, width=32)), max_size=40), st.integers(0, 6))
def test_the_last_score_of_each_slot_is_kept(writes, cleared):
    latest = LatestScores()
    latest.resize(3)
    latest.resize(7)
    expected = dict(writes)
    if writes:
        latest.write(np.array([slot for slot, _ in writes]), np.array([score for _, score in writes], np.float32))
    latest.clear(np.array([cleared]))
    expected.pop(cleared, None)
    read = latest.read(np.arange(7))
    assert {slot: score for slot, score in enumerate(read.tolist()) if not np.isnan(score)} == expected


@given(st.lists(st.lists(st.one_of(st.just(float("nan")), st.floats(0, 9, width=32)), min_size=2, max_size=2)))
def test_lists_are_in_order_whatever_is_known(pipeline, scores):
    array = np.array(scores, np.float32).reshape(-1, 2)
    names = [f"e{i}" for i in range(len(array))]
    part = Glimpse(0, names, np.zeros(len(array)), array, np.full(array.shape, -1))
    listed = entity_list(pipeline.stream, pipeline.models * 2, [part]).entities
    worst = [max((s for s in row.scores if s is not None), default=-1) for row in listed]
    assert worst == sorted(worst, reverse=True)
    assert sorted(row.entity for row in listed) == sorted(names)

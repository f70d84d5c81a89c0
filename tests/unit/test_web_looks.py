"""What a worker shows of its entities: the list, and one in full."""

import asyncio

import aiohttp
import msgspec
import numpy as np
import pytest
import yarl
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from dwcp_stream.chunk import Chunk
from dwcp_stream.kafka.locks import PartitionLocks
from dwcp_stream.pipeline import Pipeline
from dwcp_stream.registry import ModelRepository
from dwcp_stream.scoring import LatestScores
from dwcp_stream.telemetry.health import Readiness
from dwcp_stream.web import HttpServer
from dwcp_stream.web.looks import Glimpse, entity_list, entity_look, glimpse, look
from tests.integration import probe
from topologies.looking import PipelineLooks

TOKEN = "a-token-of-some-length"


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


@pytest.fixture
async def client(pipeline):
    server = HttpServer(
        CollectorRegistry(),
        Readiness().check,
        Readiness().check,
        PipelineLooks(pipeline, PartitionLocks()),
        token=TOKEN,
    )
    await server.start()
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with aiohttp.ClientSession(server.url, headers=headers) as session:
        yield session
    await server.stop()


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/entities", 200, '"count":6'),
        ("/entities?limit=1&like=e00003", 200, '"entity":"e00003"'),
        ("/entities?limit=0", 400, "limit must be 1 to"),
        ("/entities?limit=9999999", 400, "limit must be 1 to"),
        ("/entities?limit=%E2%85%A7", 400, "limit must be 1 to"),
        ("/entities/e00000", 200, '"severity":"critical"'),
        ("/entities/nobody%2Fhere", 404, "no partition of this worker has an entity nobody/here"),
    ],
)
async def test_a_worker_answers_about_its_entities(client, path, status, text):
    async with client.get(yarl.URL(path, encoded=True)) as answer:
        assert (answer.status, answer.content_type) == (status, "application/json")
        assert text in await answer.text()


async def test_entities_are_for_those_with_the_token_only(client):
    async with client.get("/entities", headers={"Authorization": "Bearer other"}) as answer:
        assert answer.status == 401


async def test_a_look_waits_for_the_chunk_under_way(pipeline):
    locks = PartitionLocks()
    async with locks[0]:
        asked = asyncio.create_task(PipelineLooks(pipeline, locks).entity("e00000"))
        done, _ = await asyncio.wait({asked}, timeout=0.05)
        assert not done
    assert (await asked).entity == "e00000"

"""The app of one stream, put together without a broker."""

import numpy as np
import pytest
from faust.types import TP
from prometheus_client import CollectorRegistry

from dwcp_stream.chunk import Chunk
from dwcp_stream.kafka.outputs import KafkaOutputs
from dwcp_stream.pipeline import Pipeline
from dwcp_stream.settings import Settings
from dwcp_stream.telemetry.health import Liveness, Readiness
from dwcp_stream.telemetry.metrics import Metrics
from tests.integration import probe
from topologies.app import create_app
from topologies.names import app_id, changelog_topic
from topologies.observer import MetricsObserver
from topologies.telemetry import telemetry_agent


@pytest.fixture
async def app(tmp_path):
    stream = probe.write_definition(tmp_path / "streams", "telemetry.probe")
    settings = Settings(data_dir=tmp_path, app_id="here")
    pipeline = Pipeline(stream)
    liveness = Liveness(lambda: 0.0, 60.0)
    observer = MetricsObserver(pipeline, Metrics(CollectorRegistry()), liveness, Readiness())
    outputs = KafkaOutputs(settings)
    yield create_app(settings, pipeline, 4, outputs, observer)
    await outputs.stop()


def fill(pipeline, steps=10):
    rows = probe.Telemetry(2, steps).rows(1)[0]
    n = len(rows)
    stamps = np.full(n, int(probe.EPOCH * 1000) + 60_000, np.int64)
    chunk = Chunk("dwcp.telemetry.probe", 0, np.arange(n), stamps, [r[0] for r in rows], [r[1] for r in rows])
    return pipeline.process(chunk)


async def test_names_are_those_operators_are_told(app):
    stream, settings = app.table.pipeline.stream, Settings(app_id="here")
    assert app.conf.id == app_id(settings, stream) == "here-probe"
    assert app.table.changelog_topic_name == changelog_topic(settings, stream) == "here-probe-state-changelog"
    assert app.lane.topic == "dwcp.telemetry.probe"


async def test_the_table_reads_live_windows_by_field_and_features(app):
    fill(app.table.pipeline)
    window = app.table["e00001"]
    assert window["value"][-1] == pytest.approx(probe.CALM)
    assert window.features()["value"]["mean"] == pytest.approx(probe.CALM)
    assert set(app.table.data) == {"e00000", "e00001"}
    assert "e00000" in app.table.data
    assert "nobody" not in app.table.data
    with pytest.raises(KeyError):
        app.table["nobody"]


async def test_the_table_is_read_only(app):
    with pytest.raises(TypeError, match="read-only"):
        app.table.data["e00001"] = {}
    with pytest.raises(TypeError, match="read-only"):
        del app.table.data["e00001"]


async def test_a_partition_that_the_state_does_not_have_stops_the_worker(app, monkeypatch):
    crashed = []

    async def crash(reason):
        crashed.append(reason)

    monkeypatch.setattr(app, "crash", crash)
    store, source = app.table.data, "dwcp.telemetry.probe"
    await store.on_rebalance({TP(source, p) for p in range(4)}, set(), {TP(source, 3)}, 1)
    assert crashed == []
    await store.on_rebalance({TP(source, p) for p in range(6)}, set(), {TP(source, 5)}, 2)
    assert crashed == [store.failed]
    assert "dwcp-stream topics repartition probe --partitions N" in str(store.failed)


async def test_a_halted_worker_writes_no_checkpoint(app):
    fill(app.table.pipeline)
    app.processor.halted = "the number of partitions has changed"
    assert await app.checkpointer() == {}
    assert app.table.pipeline.partitions[0].touched, "nothing was copied"


async def test_nothing_listens_and_nothing_is_declared_behind_the_operators_back(app):
    assert not app.conf.web_enabled
    assert not app.conf.topic_allow_declare
    assert app.conf.topic_disable_leader
    assert app.conf.table_standby_replicas == 0


async def test_the_agent_reads_raw_bytes(app):
    agent = telemetry_agent(app)
    topic = agent.channel
    assert topic.value_serializer == "raw"
    assert list(topic.topics) == [app.lane.topic]


async def test_a_lost_generation_drops_state_and_a_kept_one_does_not(app):
    store, source = app.table.data, app.lane.topic
    fill(app.table.pipeline)
    tp = TP(source, 0)
    store.member_of = 6
    store.ready.add(0)
    await store.on_rebalance({tp}, set(), set(), generation_id=7)
    assert store.ready == {0}
    assert "e00001" in store
    await store.on_rebalance({tp}, set(), set(), generation_id=9)  # 8 was somebody else's
    assert store.ready == set()
    assert "e00001" not in store
    assert store.persisted_offset(TP(app.lane.changelog, 0)) == -1

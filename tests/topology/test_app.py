"""The app of one stream, put together without a broker."""

from types import SimpleNamespace

import numpy as np
import pytest
from faust.types import TP
from prometheus_client import CollectorRegistry

from dwcp_stream.chunk import Chunk
from dwcp_stream.errors import BrokerError, NewerStateError, StateError
from dwcp_stream.kafka.generations import PARTITION_KEY, make_key
from dwcp_stream.kafka.outputs import KafkaOutputs
from dwcp_stream.kafka.store import as_they_are
from dwcp_stream.pipeline import Pipeline
from dwcp_stream.settings import Settings
from dwcp_stream.telemetry.health import Liveness, Readiness
from dwcp_stream.telemetry.metrics import Metrics
from dwcp_stream.windows.snapshot import PartitionRecord, encode_partition_record
from tests.integration import probe
from tests.kafka.broker import free_port
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


async def test_a_recovery_that_ends_after_the_next_assignment_has_come_completes_nothing(app):
    """What it had read is dropped by then: completed, the partition would be empty and count as recovered."""
    store, recovery = app.table.data, app.tables.recovery
    source, state = TP(app.lane.topic, 0), TP(app.lane.changelog, 0)
    written = []

    async def write(records):
        written.extend(records)
        return {0: 0}

    app.activator.write = write
    await store.on_rebalance({source}, set(), {source}, generation_id=7)
    recovery._generation_id = 7  # as Faust sets it once it knows of the assignment
    await store.on_rebalance({source}, set(), {source}, generation_id=8)
    await store.on_recovery_completed({state}, set())
    assert store.ready == set()
    recovery._generation_id = 8
    recovery.signal_recovery_start.set()  # told, but not begun
    await store.on_recovery_completed({state}, set())
    assert store.ready == set()
    recovery.signal_recovery_start.clear()
    assert not written
    await store.on_recovery_completed({state}, set())
    assert store.ready == {0}
    assert [key for _, key, _ in written] == [b"\0versions@8"]


async def test_an_assignment_that_comes_while_the_versions_are_written_down_completes_nothing(app):
    store, recovery = app.table.data, app.tables.recovery
    source, state = TP(app.lane.topic, 0), TP(app.lane.changelog, 0)

    async def write(records):
        await store.on_rebalance({source}, set(), {source}, generation_id=8)
        return {0: 0}

    app.activator.write = write
    await store.on_rebalance({source}, set(), {source}, generation_id=7)
    recovery._generation_id = 7
    await store.on_recovery_completed({state}, set())
    assert store.ready == set()
    assert not app.table.pipeline.partitions


@pytest.mark.parametrize("error", [StateError, NewerStateError])
async def test_what_the_pipeline_refuses_is_rebuilt_unless_it_is_newer(app, monkeypatch, error):
    """What is kept beside the windows is looked at only when the pipeline takes it."""
    store, source, state = app.table.data, TP(app.lane.topic, 0), TP(app.lane.changelog, 0)
    pipeline, restored, erased, crashed = app.table.pipeline, [], [], []
    whole = pipeline.restore

    def restore(partition, record, snapshots, *more):
        restored.append((record.position, sorted(snapshots)))
        if snapshots:
            raise error("not an alert's state")
        return whole(partition, record, snapshots, *more)

    async def write(records):
        erased.extend(records)

    async def crash(reason):
        crashed.append(reason)

    monkeypatch.setattr(pipeline, "restore", restore)
    app.table.write, app.table.take_over, app.crash = write, as_they_are, crash
    await store.on_rebalance({source}, set(), {source}, generation_id=7)
    app.tables.recovery._generation_id = 7
    fill(pipeline)
    (snapshot,) = [value for name, value in pipeline.copy(0).snapshots() if name == "e00001"]
    pipeline.revoke(0)
    entity, own = make_key("e00001", 5), make_key(PARTITION_KEY, 5)
    store.apply(0, 0, entity, snapshot)
    store.apply(0, 1, own, encode_partition_record(PartitionRecord(position=9)))
    await store.on_recovery_completed({state}, set())
    if error is NewerStateError:
        assert isinstance(crashed[0], NewerStateError)
        assert not erased
        assert not store.ready
        return
    assert restored == [(9, ["e00001"]), (0, [])]
    begun = encode_partition_record(PartitionRecord(position=0))
    assert erased[0] == (0, make_key(PARTITION_KEY, 7), begun), "first where it begins, in case nothing follows"
    assert erased[1:] == [(0, own, None), (0, entity, None)]
    assert store.generations[0].winner(PARTITION_KEY) == 7
    assert store.ready == {0}
    assert not crashed


async def test_a_drift_of_a_partition_that_is_gone_is_counted_without_it(app):
    pipeline = app.table.pipeline
    result = fill(pipeline)
    result.drifts.append(SimpleNamespace(partition=0, model="m", state="drifted"))
    pipeline.revoke(0)
    app.processor.observer.chunk(None, result)


async def test_a_service_that_does_not_stop_keeps_no_other_from_it(app):
    stopped = []

    async def nothing():
        return None

    async def stop():
        stopped.append("producer")

    async def fail():
        raise RuntimeError("Event loop is closed")

    app.services = [(nothing, stop), (nothing, fail)]
    await app.on_shutdown()
    assert stopped == ["producer"]


async def test_a_worker_that_finds_no_broker_says_so_in_one_line(tmp_path):
    outputs = KafkaOutputs(Settings(data_dir=tmp_path, kafka={"bootstrap_servers": f"127.0.0.1:{free_port()}"}))
    try:
        with pytest.raises(BrokerError, match="no broker"):
            await outputs.start()
    finally:
        await outputs.stop()

"""Records of the lane's topics come as they were parsed; all others as aiokafka's own."""

from types import SimpleNamespace

import pytest
from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.consumer.fetcher import FetchError, FetchResult, PartitionRecords
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords

from dwcp_stream.kafka.bare_records import keep_bare

ROWS = [(5, 1_000, b"a", b"one"), (6, 1_001, None, b"two"), (7, 1_002, b"b", None)]


def fetched(tp: TopicPartition, compression: int = 0) -> FetchResult:
    """What a fetch of a batch with ROWS gives, from before the first of them."""
    batch = DefaultRecordBatchBuilder(2, compression, 0, -1, -1, -1, 1 << 20)
    for offset, (_, timestamp, key, value) in enumerate(ROWS):
        batch.append(offset, timestamp, key, value, [])
    data = batch.build()
    data[:8] = (5).to_bytes(8, "big")  # the first offset
    records = PartitionRecords(tp, MemoryRecords(bytes(data)), [], 6, None, None, True, 0)
    assignment = SimpleNamespace(state_value=lambda tp: SimpleNamespace(consumed_to=lambda offset: None))
    return FetchResult(tp, assignment=assignment, partition_records=records, backoff=0)


@pytest.fixture
def records():
    consumer = SimpleNamespace(_fetcher=SimpleNamespace(_records={}))
    keep_bare(consumer, {"source"})
    return consumer._fetcher._records


@pytest.mark.parametrize("compression", [0, 1])
@pytest.mark.parametrize("topic", ["source", "control"])
def test_every_record_has_its_offset_time_key_and_value(records, topic, compression):
    tp = TopicPartition(topic, 0)
    records[tp] = fetched(tp, compression)
    found = list(records[tp]._partition_records)
    assert [(r.offset, r.timestamp, r.key, r.value) for r in found] == ROWS[1:], "what is before the position is left"
    assert [r.timestamp_type for r in found] == [0, 0]
    assert {isinstance(r, ConsumerRecord) for r in found} == {topic == "control"}


def test_an_error_is_kept_as_it_is(records):
    tp = TopicPartition("source", 0)
    records[tp] = error = FetchError(error=OSError("gone"), backoff=0)
    assert records[tp] is error

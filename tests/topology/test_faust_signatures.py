"""Faust's private methods that are overridden or called, pinned: another version must fail here, not in production."""

import inspect

import aiokafka
import faust
import pytest
from faust.stores.base import Store
from faust.tables.base import Collection
from faust.tables.recovery import Recovery
from faust.transport.consumer import Consumer as BaseConsumer
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer

PINNED = {
    (Consumer, "_getmany"): "(self, active_partitions, timeout)",
    (Consumer, "_add_gap"): "(self, tp, offset_from, offset_to)",
    (Consumer, "_new_offset"): "(self, tp)",
    (Consumer, "_commit_tps"): "(self, tps, start_new_transaction)",
    (Consumer, "maybe_wait_for_commit_to_finish"): "(self)",
    (Consumer, "perform_seek"): "(self)",
    (Consumer, "seek_wait"): "(self, partitions)",
    (Consumer, "highwater"): "(self, tp)",
    (Consumer, "on_partitions_revoked"): "(self, revoked)",
    (Consumer, "_new_consumer_thread"): "(self)",
    (AIOKafkaConsumerThread, "_fetch_records"): "(self, consumer, active_partitions, timeout, max_records)",
    (AIOKafkaConsumerThread, "_seek_wait"): "(self, consumer, partitions)",
    (Consumer, "verify_event_path"): "(self, now, tp)",
    (AIOKafkaConsumerThread, "_create_worker_consumer"): "(self, transport)",
    (Store, "persisted_offset"): "(self, tp)",
    (Store, "on_rebalance"): "(self, assigned, revoked, newly_assigned, generation_id)",
    (Store, "on_recovery_completed"): "(self, active_tps, standby_tps)",
    (Collection, "_new_store"): "(self)",
    (Collection, "_serializer_from_type"): "(self, typ)",
    (Collection, "apply_changelog_batch"): "(self, batch)",
    (Recovery, "on_rebalance"): "(self, assigned, revoked, newly_assigned, generation_id)",
    (faust.App, "on_start"): "(self)",
    (faust.App, "on_shutdown"): "(self)",
}


@pytest.mark.parametrize(("owner", "name"), PINNED, ids=lambda v: getattr(v, "__name__", v))
def test_signature_is_the_one_the_override_was_written_for(owner, name):
    names = ", ".join(inspect.signature(getattr(owner, name)).parameters)
    assert f"({names})" == PINNED[owner, name]


def test_versions_are_those_the_overrides_were_read_from():
    assert faust.__version__.startswith("0.15.")
    assert aiokafka.__version__ == "0.14.0"


def test_faust_still_keeps_its_acknowledgements_where_the_lane_clears_them():
    source = inspect.getsource(BaseConsumer.ack)
    assert "_acked_index" in source
    assert "_acked[tp]" in source


def test_faust_still_keeps_the_commit_that_is_under_way_where_the_lane_waits_for_it():
    source = inspect.getsource(BaseConsumer.commit)
    assert "self._commit_fut = asyncio.Future" in source
    assert "fut, self._commit_fut = self._commit_fut, None" in source


def test_aiokafka_still_reads_the_fetch_wait_when_it_starts():
    assert "self._fetch_max_wait_ms" in inspect.getsource(aiokafka.AIOKafkaConsumer.start)


def test_faust_still_says_which_assignment_a_recovery_is_of():
    assert "self.signal_recovery_start.set()" in inspect.getsource(Recovery.on_rebalance)
    assert "self._generation_id = generation_id" in inspect.getsource(Recovery.on_rebalance)
    assert "self.signal_recovery_start.clear()" in inspect.getsource(Recovery._restart_recovery.fun)

"""The worker's timer: what it does beside reporting."""

import asyncio
import gc
import weakref
from types import SimpleNamespace
from unittest.mock import Mock

import pytest

from dwcp_stream.settings import Settings
from topologies import worker
from topologies.tidy import collect_seldom
from topologies.worker import Monitor


class Node:
    """An object that can be in a cycle and be watched."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
def collector():
    """Put the collector back as it was."""
    thresholds = gc.get_threshold()
    yield
    gc.set_threshold(*thresholds)
    gc.unfreeze()


async def test_what_is_in_a_cycle_does_not_wait_for_the_collectors_thresholds(monkeypatch, collector) -> None:
    monkeypatch.setattr(worker, "POLL_SECONDS", 0.0)
    monkeypatch.setattr(worker, "TOPICS_EVERY", 1_000_000)  # no broker is there to ask
    store = SimpleNamespace(ready=set(), member_of=1, failed=None)
    lane = SimpleNamespace(end_offsets={}, topic="t")
    app = SimpleNamespace(table=SimpleNamespace(data=store), rebalancing=False, in_recovery=False, lane=lane)
    polls = Mock()
    monitor = Monitor(app, Settings(), Mock(), SimpleNamespace(poll=polls, readiness=Mock()), 4, ())  # type: ignore[arg-type]
    collect_seldom()
    gone = weakref.ref(Node())
    assert gone() is not None
    await monitor.start()
    for _ in range(2 * worker.TIDY_EVERY):
        await asyncio.sleep(0)
    await monitor.stop()
    assert polls.call_count > worker.TIDY_EVERY
    assert gone() is None

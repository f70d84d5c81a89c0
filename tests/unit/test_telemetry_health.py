"""Liveness is progress against the high watermark; readiness is named conditions with reasons."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dwcp_stream.telemetry.health import CONDITIONS, Liveness, Readiness


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def liveness(clock: Clock) -> Liveness:
    return Liveness(clock, stalled_after=30.0)


def test_a_worker_without_partitions_is_alive(liveness):
    assert liveness.check().ok


def test_a_partition_with_lag_that_stands_still_is_not_alive(liveness, clock):
    liveness.progress(3, 10, 20)
    clock.now += 29
    liveness.progress(3, 10, 25)
    assert liveness.check().ok
    clock.now += 1
    liveness.progress(3, 10, 25)
    report = liveness.check()
    assert not report.ok
    assert report.checks["partition 3"].reason == "at offset 10 for 30 s with 15 records to read"
    liveness.progress(3, 11, 25)
    assert liveness.check().ok


def test_idle_time_at_the_end_is_not_held_against_the_next_record(liveness, clock):
    liveness.progress(0, 10, 10)
    clock.now += 1000
    liveness.progress(0, 10, 10)
    clock.now += 1
    liveness.progress(0, 10, 11)
    assert liveness.check().ok
    clock.now += 29.5
    liveness.progress(0, 10, 11)
    assert not liveness.check().ok


def test_a_partition_not_heard_of_is_not_alive(liveness, clock):
    liveness.progress(0, 10, 10)
    clock.now += 30
    assert "nothing reported" in liveness.check().checks["partition 0"].reason
    assert not liveness.check().ok
    liveness.revoked(0)
    assert liveness.check().ok


def test_one_stalled_partition_is_enough(liveness, clock):
    for position in range(5):
        liveness.progress(0, position, 100)
        liveness.progress(1, 7, 100)
        clock.now += 10
    report = liveness.check()
    assert [check.ok for check in report.checks.values()] == [True, False]
    assert not report.ok


@given(st.lists(st.tuples(st.floats(0.1, 20), st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40))
def test_not_alive_exactly_when_it_stood_still_with_lag_too_long(steps):
    clock = Clock()
    liveness = Liveness(clock, stalled_after=30.0)
    position = high = 0
    since = None
    for wait, read, written in steps:
        clock.now += wait
        high += written
        moved = min(read, high - position)
        position += moved
        liveness.progress(0, position, high)
        if since is None or moved or position == high:
            since = clock.now
        assert liveness.check().ok == (clock.now - since < 30.0)


def test_readiness_needs_every_condition_and_says_why_not():
    readiness = Readiness()
    assert not readiness.check().ok
    for name in CONDITIONS:
        readiness.meet(name)
    assert readiness.check().ok
    readiness.fail("models", "consensus-lstm-ae 3: golden outputs differ")
    report = readiness.check()
    assert not report.ok
    assert report.checks["models"].reason == "consensus-lstm-ae 3: golden outputs differ"
    assert report.checks["assigned"].ok
    with pytest.raises(KeyError, match="no condition"):
        readiness.meet("moddels")


def test_a_report_does_not_change_afterwards():
    readiness = Readiness(("one",))
    before = readiness.check()
    readiness.meet("one")
    assert not before.ok
    assert not before.checks["one"].ok

"""The open-loop load: requests are planned without regard to answers, and counted from when they were planned."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.etcd.arrivals import SIZES, Arrivals
from lab.etcd.errors import RequestError
from lab.etcd.load import MOST_IN_FLIGHT, Load
from lab.etcd.rotation import PAUSE, STRIKES, Rotation
from lab.etcd.shapes import SHAPES


def taken(seed, rate, count, gets=0.1):
    arrivals = Arrivals(seed, rate, gets)
    return [arrivals.next() for _ in range(count)]


@given(st.integers(0, 1000), st.floats(0.1, 1000))
def test_same_seed_same_requests_in_order(seed, rate):
    first = taken(seed, lambda t: rate, 50)
    assert taken(seed, lambda t: rate, 50) == first
    times = [operation.planned for operation in first]
    assert times == sorted(times)
    assert [operation.number for operation in first] == list(range(50))
    assert all(SIZES[0] <= operation.size <= SIZES[1] for operation in first)


def test_the_rate_is_kept_and_both_kinds_come():
    operations = taken(1, lambda t: 200.0, 20_000, gets=0.25)
    assert len(operations) / operations[-1].planned == pytest.approx(200, rel=0.03)
    assert sum(operation.kind == "get" for operation in operations) / 20_000 == pytest.approx(0.25, abs=0.02)


def test_a_rate_of_zero_waits_for_a_better_one():
    assert taken(1, lambda t: 0.0 if t < 10 else 100.0, 1)[0].planned >= 10


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_are_seeded_and_stay_about_the_base(name):
    shape, again = SHAPES[name](3), SHAPES[name](3)
    rates = [shape(t / 2) for t in range(14_400)]
    assert rates == [again(t / 2) for t in range(14_400)]
    assert 0.7 < sum(rates) / len(rates) < 1.4
    assert 0.3 < min(rates) <= max(rates) <= 3
    if name != "constant":
        assert rates != [SHAPES[name](4)(t / 2) for t in range(14_400)]
        assert max(rates) > 1.4 * min(rates)


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self):
        self.now = 0.0
        self.end = float("inf")
        self.done = asyncio.Event()

    def __call__(self):
        return self.now

    async def sleep(self, seconds):
        until = self.now + seconds
        for _ in range(3):  # what has been begun is done before time goes on
            await asyncio.sleep(0)
        if until > self.end:
            self.now = self.end
            self.done.set()
            await asyncio.Event().wait()
        self.now = max(self.now, until)


class Stalling:
    """Answers at once, but stops the whole process for a while at one request."""

    def __init__(self, clock, at, seconds):
        self.clock, self.at, self.seconds = clock, at, seconds
        self.seen = []

    async def perform(self, operation, left):
        self.seen.append((operation, left))
        if operation.number == self.at:
            self.clock.now += self.seconds


async def run(load, clock, seconds):
    clock.end = seconds
    async with load:
        await clock.done.wait()
        for _ in range(10):
            await asyncio.sleep(0)
        return load.take()


async def test_a_stall_is_counted_for_every_request_that_was_planned_in_it():
    clock = Clock()
    target = Stalling(clock, at=100, seconds=1.0)
    window = await run(Load(target, 100.0, SHAPES["constant"](0), gets=0.0, clock=clock, sleep=clock.sleep), clock, 5.0)
    planned = [operation.planned for operation, _ in target.seen]
    assert planned == [operation.planned for operation in taken(0, lambda t: 100.0, len(planned), gets=0.0)]
    slow = [latency for latency in window.latencies if latency > 10]
    during = [t for t in planned if planned[100] <= t < planned[100] + 0.99]
    assert len(slow) == pytest.approx(len(during), abs=1)
    assert len(slow) > 60
    assert max(slow) == pytest.approx(1000, abs=1)
    # a closed loop would have seen one slow request; here they fall from a second to nothing
    assert sum(slow) / len(slow) == pytest.approx(500, rel=0.2)
    assert window.offered == window.completed == len(planned)


class Never:
    """Does not answer until it is told to, then says what it was told."""

    def __init__(self):
        self.told = asyncio.Event()
        self.error = None

    async def perform(self, operation, left):
        await self.told.wait()
        if self.error is not None:
            raise self.error


async def test_requests_go_on_while_none_is_answered_up_to_a_limit():
    clock, target = Clock(), Never()
    window = await run(Load(target, 1000.0, SHAPES["constant"](0), gets=0.0, clock=clock, sleep=clock.sleep), clock, 3)
    assert window.offered == window.in_flight == MOST_IN_FLIGHT
    assert window.rejected == pytest.approx(3000 - MOST_IN_FLIGHT, rel=0.15)
    assert window.latencies == []


@pytest.mark.parametrize(("error", "field"), [(TimeoutError(), "timeouts"), (RequestError("no"), "errors")])
async def test_failures_are_counted_apart_and_have_no_latency(error, field):
    clock, target = Clock(), Never()
    target.error = error
    target.told.set()
    window = await run(Load(target, 100.0, SHAPES["constant"](0), clock=clock, sleep=clock.sleep), clock, 2.0)
    assert getattr(window, field) == window.offered > 100
    assert (window.completed, window.in_flight, window.latencies, window.get_latencies) == (0, 0, [], [])


async def test_gets_are_no_commits():
    clock = Clock()
    target = Stalling(clock, at=-1, seconds=0)
    window = await run(Load(target, 100.0, SHAPES["constant"](0), gets=0.5, clock=clock, sleep=clock.sleep), clock, 5.0)
    assert len(window.get_latencies) + window.completed == len(target.seen)
    assert len(window.get_latencies) > 150
    assert window.completed == len(window.latencies) > 150


async def test_a_factor_multiplies_the_rate_from_the_next_request_on():
    clock = Clock()
    target = Stalling(clock, at=-1, seconds=0)
    load = Load(target, 100.0, SHAPES["constant"](0), gets=0.0, clock=clock, sleep=clock.sleep)
    load.factor = 3.0
    window = await run(load, clock, 4.0)
    assert window.rate == 300
    assert window.offered == pytest.approx(1200, rel=0.1)


def test_rotation_goes_round_and_leaves_out_who_fails():
    rotation = Rotation(3)
    assert [rotation.order(0)[0] for _ in range(6)] == [0, 1, 2, 0, 1, 2]
    for _ in range(STRIKES):
        rotation.failed(1, 10.0)
    assert {rotation.order(10.0 + PAUSE / 2)[0] for _ in range(9)} == {0, 2}
    firsts = [rotation.order(10.0 + PAUSE)[0] for _ in range(9)]
    assert firsts.count(1) == 1, "one request tries it again, the next ones do not wait for what became of it"
    rotation.worked(1)
    assert {rotation.order(20.0)[0] for _ in range(3)} == {0, 1, 2}


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans(), st.floats(0, 3)), max_size=60))
def test_rotation_always_names_everybody_once(happened):
    rotation, now = Rotation(5), 0.0
    for member, worked, later in happened:
        now += later
        assert sorted(rotation.order(now)) == [0, 1, 2, 3, 4]
        if worked:
            rotation.worked(member)
        else:
            rotation.failed(member, now)

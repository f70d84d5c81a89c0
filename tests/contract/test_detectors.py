"""What every change detector must do, whichever library it comes from."""

import math

import msgspec
import numpy as np
import pytest
import river
from hypothesis import given, settings
from hypothesis import strategies as st

from dwcp_stream.drift import Adwin, Detector, PageHinkley
from dwcp_stream.drift.detector import KEEP, WARM_UP

DETECTORS = [Adwin, PageHinkley]
each = pytest.mark.parametrize("make", DETECTORS)


def block_means(rng, blocks, *, level=5.0, spread=1.0, per_block=60, memory=0.9):
    """Block means of an autocorrelated signal: each sample keeps `memory` of the one before."""
    noise = rng.normal(0, math.sqrt(1 - memory**2), blocks * per_block)
    signal = np.empty(len(noise))
    last = rng.normal()
    for i, shock in enumerate(noise.tolist()):
        last = memory * last + shock
        signal[i] = last
    return level + spread * signal.reshape(blocks, per_block).mean(axis=1)


def run(detector, values):
    """Positions at which the detector says drift."""
    found = []
    for i, value in enumerate(values):
        detector.update(float(value))
        if detector.drift:
            found.append(i)
    return found


@each
def test_it_is_a_detector(make):
    detector = make()
    assert isinstance(detector, Detector)
    assert (detector.drift, detector.warning, detector.ignored) == (False, False, 0)


@each
def test_stationary_autocorrelated_data_rarely_fire(make):
    rng = np.random.default_rng(11)
    assert sum(len(run(make(), block_means(rng, 400))) for _ in range(8)) <= 1


@each
@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e6])
@pytest.mark.parametrize("sign", [-1, 1])
def test_a_level_shift_fires_soon_at_any_scale_and_in_both_directions(make, scale, sign):
    rng = np.random.default_rng(5)
    values = block_means(rng, 200) * scale
    values[100:] += sign * 3 * values[:100].std()
    found = run(make(), values)
    assert [100 < at < 130 for at in found] == [True]


@each
def test_a_warning_comes_no_later_than_drift(make):
    rng = np.random.default_rng(6)
    values = block_means(rng, 200)
    values[100:] += 1.5 * values[:100].std()
    detector, warned = make(), None
    for i, value in enumerate(values.tolist()):
        detector.update(value)
        if detector.warning and warned is None:
            warned = i
        if detector.drift:
            assert warned is not None
            assert 100 < warned < i
            return
    pytest.fail("the shift was not found")


@each
def test_it_starts_anew_after_drift_and_finds_the_way_back(make):
    rng = np.random.default_rng(7)
    values = block_means(rng, 400)
    values[100:200] += 3 * values[:100].std()
    found = run(make(), values)
    assert len(found) == 2
    assert 100 < found[0] < 130
    assert 200 < found[1] < 240


@each
@pytest.mark.parametrize("level", [0.0, 3.0])
def test_a_constant_signal_is_quiet_until_it_moves(make, level):
    assert run(make(), [level] * 300) == []
    found = run(make(), [level] * 100 + [level + 1.0] * 40)
    assert found
    assert found[0] >= 100


@each
def test_it_says_the_same_every_time(make):
    values = block_means(np.random.default_rng(8), 300)
    values[150:] += 2 * values[:100].std()
    assert run(make(), values) == run(make(), values)


def through_msgpack(detector):
    return msgspec.msgpack.decode(msgspec.msgpack.encode(detector.state()))


@each
@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 2 * KEEP + 40), st.floats(-3, 3))
def test_a_restored_detector_goes_on_identically(make, seed, cut, shift):
    rng = np.random.default_rng(seed)
    values = rng.normal(5, 1, 2 * KEEP + 120)
    values[rng.integers(0, len(values)) :] += shift
    kept, moved = make(), make()
    run(kept, values[:cut])
    assert moved.load(through_msgpack(kept)) is None
    assert (moved.drift, moved.warning) == (kept.drift, kept.warning)
    for value in values[cut:].tolist():
        kept.update(value)
        moved.update(value)
        assert (moved.drift, moved.warning) == (kept.drift, kept.warning)
    assert moved.state() == kept.state()


@each
@pytest.mark.parametrize("seed", range(4))
def test_a_detector_forgets_like_its_state(make, seed):
    """Once old values are dropped from the state, they must not act in the live detector either."""
    rng = np.random.default_rng(seed)
    kept, moved = make(), make()
    assert run(kept, rng.normal(5, 1, 2 * KEEP)) == []
    assert moved.load(through_msgpack(kept)) is None
    later = rng.normal(6, 1, 150)
    found = run(kept, later)
    assert found
    assert run(moved, later) == found


@each
def test_its_state_is_bounded(make):
    detector = make()
    run(detector, np.random.default_rng(9).normal(0, 1, 5 * KEEP))
    assert len(msgspec.msgpack.encode(detector.state())) < 9 * 2 * KEEP + 400


@each
def test_what_is_not_finite_is_ignored_and_counted(make):
    values = block_means(np.random.default_rng(10), 200)
    values[100:] += 3 * values[:100].std()
    clean, dirty = make(), make()
    for value in values.tolist():
        clean.update(value)
        for bad in (math.nan, math.inf, -math.inf):
            dirty.update(bad)
            assert not dirty.drift
        dirty.update(value)
        assert (dirty.drift, dirty.warning) == (clean.drift, clean.warning)
    assert dirty.ignored == 3 * len(values)
    assert dirty.state() | {"ignored": 0} == clean.state()


@each
@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"tag": "adwin/0/river-0.1"}, "river-0.1"),
        ({"parameters": {}}, "parameters"),
        ({"values": ["x"]}, "cannot be read"),
        ({"flags": None}, "cannot be read"),
    ],
)
def test_foreign_state_resets_and_says_so(make, change, why):
    detector, fresh = make(), make()
    run(detector, np.random.default_rng(12).normal(0, 1, WARM_UP + 20))
    reason = detector.load(through_msgpack(detector) | change)
    assert why in reason
    assert detector.name in reason
    assert detector.state() == fresh.state()


@each
@pytest.mark.parametrize("plain", [None, 3, [], "x"])
def test_what_is_no_state_resets_and_says_so(make, plain):
    assert "starts anew" in make().load(plain)


@each
def test_its_state_names_the_version_of_river(make):
    assert river.__version__ in make().state()["tag"]


@each
@pytest.mark.parametrize(("memory", "least"), [(0.6, 7), (0.9, 4)])
def test_blocks_that_are_like_the_one_before_rarely_fire_and_a_large_shift_does(make, memory, least):
    quiet = shifted = 0
    for seed in range(8):
        rng = np.random.default_rng(seed)
        quiet += len(run(make(), block_means(rng, 800, per_block=1, memory=memory)))
        values = block_means(rng, 200, per_block=1, memory=memory)
        values[100:] += 8.0
        shifted += bool([at for at in run(make(), values) if at >= 100])
    assert quiet <= 3, "independent values of River's would have made dozens"
    assert shifted >= least, "of 8"

"""Paired differences of two versions' realised errors: which buckets count, and what they say."""

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dwcp_stream.events import Accuracy, rfc3339
from dwcp_stream.loop import PairedErrors
from dwcp_stream.loop.pairs import LIMIT, SETTLE, WARM_UP

BUCKET = 300.0
DAY = 86_400.0


def part(version, bucket, abs_error=1.0, n=1, **changed):
    names = {"stream": "link", "model": "m", "arm": "champion", "horizon": 1, "target": "latency_ms", "partition": 0}
    names |= changed
    sums = dict.fromkeys(("sq_error", "error", "ape", "persistence_abs_error", "paired_abs_error", "pinball"), 0.0)
    counts = dict.fromkeys(("ape_n", "persistence_n", "covered", "covered_raw", "missed"), 0)
    return Accuracy(
        version=version,
        bucket_start=rfc3339(bucket * BUCKET),
        bucket_end=rfc3339((bucket + 1) * BUCKET),
        event_time=rfc3339((bucket + 2) * BUCKET),
        n=n,
        abs_error=abs_error,
        **names,
        **sums,
        **counts,
    )


def filled(parts, longest=7 * DAY, **more):
    pairs = PairedErrors(longest, **more)
    for i, each in enumerate(parts):
        pairs.add(f"id-{i}", each)
    return pairs


def usual(until, champion=1.0, candidate=1.0):
    return [part(v, b, e) for b in range(until) for v, e in ((1, champion), (2, candidate))]


def test_a_difference_is_a_share_of_the_usual_error_of_the_buckets_before():
    parts = [*usual(WARM_UP, 2.0, 4.0), part(1, WARM_UP, 6.0, 3), part(2, WARM_UP, 3.0, 3)]
    found = filled(parts, settle=0).series("link", "m", 1, 2)
    assert found.times.tolist() == [(WARM_UP + 1) * BUCKET]
    assert found.differences.tolist() == [pytest.approx((2.0 - 1.0) / 2.0)]  # 2 is the better version's
    assert (found.first, found.last, found.unpaired) == (BUCKET, (WARM_UP + 1) * BUCKET, 0)


def test_horizons_and_targets_weigh_alike_and_partitions_add_up():
    parts = []
    for b, (h, t, p) in product(range(WARM_UP + 1), product((1, 3), ("a", "b"), (0, 1))):
        size = {"a": 1.0, "b": 1000.0}[t]
        better = 0.5 if b == WARM_UP and t == "b" and p == 1 else 1.0
        cell = {"horizon": h, "target": t, "partition": p}
        parts += [part(1, b, size, **cell), part(2, b, size * better, **cell)]
    found = filled(parts, settle=0).series("link", "m", 1, 2)
    assert found.differences.tolist() == [pytest.approx(0.125)]  # half of one of two partitions, for two of four lines


def test_only_buckets_with_the_same_forecasts_are_paired():
    odd = [
        part(1, WARM_UP, n=2), part(2, WARM_UP, n=1),
        part(1, WARM_UP + 1), part(1, WARM_UP + 1, partition=1), part(2, WARM_UP + 1, n=2),
        part(1, WARM_UP + 2),
        part(1, WARM_UP + 3, 0.0, 0), part(2, WARM_UP + 3, 0.0, 0),
        part(1, WARM_UP + 4), part(2, WARM_UP + 4), part(1, WARM_UP + 4, 0.0, 0, partition=1),
    ]  # fmt: skip
    found = filled([*usual(WARM_UP), *odd], settle=0).series("link", "m", 1, 2)
    assert found.times.tolist() == [(WARM_UP + 5) * BUCKET]
    assert found.unpaired == 4


def test_what_only_one_version_was_there_for_is_no_odd_bucket():
    parts = [*(part(1, b) for b in range(50)), *(part(2, b) for b in range(20, 40))]
    found = filled(parts, settle=0).series("link", "m", 1, 2)
    assert (found.first, found.last, found.unpaired) == (21 * BUCKET, 40 * BUCKET, 0)
    assert len(found.times) == 20 - WARM_UP


def test_a_bucket_waits_for_slow_partitions_and_takes_later_parts():
    pairs = filled(usual(WARM_UP + 3))
    assert pairs.series("link", "m", 1, 2).last == (WARM_UP + 3) * BUCKET - SETTLE
    late = {"partition": 1, "n": 4, "abs_error": 4.0}
    pairs.add("late", part(1, WARM_UP, **late))
    assert pairs.series("link", "m", 1, 2).unpaired == 1
    pairs.add("too", part(2, WARM_UP, **late))
    found = pairs.series("link", "m", 1, 2)
    assert (found.unpaired, found.differences.tolist()) == (0, [0.0])


def test_arms_are_added_up():
    parts = [
        *usual(WARM_UP),
        part(1, WARM_UP, 2.0, 2),
        part(2, WARM_UP, arm="challenger"),
        part(2, WARM_UP, arm="shadow"),
    ]
    assert filled(parts, settle=0).series("link", "m", 1, 2).differences.tolist() == [0.0]


def test_what_is_older_than_the_longest_is_forgotten_but_versions_are_known():
    pairs = filled(usual(500), longest=DAY)
    assert pairs.newest("link") == 500 * BUCKET
    assert pairs.newest("node") is None
    assert pairs.versions("link", "m") == {1: (BUCKET, 500 * BUCKET), 2: (BUCKET, 500 * BUCKET)}
    found = pairs.series("link", "m", 1, 2)
    assert found.first == 500 * BUCKET - DAY + BUCKET
    log = pairs._logs["link", "m"]
    assert len(log.ids) <= 1.2 * DAY / BUCKET
    assert all(len(buckets) <= 1.2 * DAY / BUCKET for buckets in log.buckets.values())


def test_streams_models_and_unknown_versions_are_apart():
    pairs = filled([*usual(30), *(part(1, b, model="other") for b in range(30))], settle=0)
    assert pairs.series("link", "other", 1, 2).first is None
    assert pairs.series("node", "m", 1, 2).times.tolist() == []
    assert pairs.versions("link", "nothing") == {}


def test_an_explosion_does_not_become_the_scale():
    parts = [*usual(WARM_UP), part(1, WARM_UP), part(2, WARM_UP, 1e38), part(1, WARM_UP + 1, 1.5), part(2, WARM_UP + 1)]
    found = filled(parts, settle=0).series("link", "m", 1, 2)
    assert found.differences.tolist() == [-LIMIT, pytest.approx(0.5)]
    assert found.ratio == pytest.approx(1e38 / (2.5 + WARM_UP))


def test_perfect_versions_give_no_difference_until_one_errs():
    parts = [*usual(WARM_UP + 1, 0.0, 0.0), *[part(1, WARM_UP + 1, 1.0), part(2, WARM_UP + 1, 0.0)]]
    assert filled(parts, settle=0).series("link", "m", 1, 2).times.tolist() == []
    more = [*parts, part(1, WARM_UP + 2, 0.01), part(2, WARM_UP + 2, 0.0)]
    found = filled(more, settle=0).series("link", "m", 1, 2)
    assert found.differences.tolist() == [pytest.approx(0.01 * (WARM_UP + 2))]
    assert found.ratio == 0.0
    assert math.isnan(filled(more, settle=0).series("link", "m", 2, 1).ratio)


@pytest.mark.parametrize(
    ("event_id", "wrong"),
    [
        ("", {}),
        ("x", {"n": -1}),
        ("x", {"abs_error": -1.0}),
        ("x", {"abs_error": math.nan}),
        ("x", {"abs_error": 1e300}),
    ],
)
def test_what_is_no_part_is_refused(event_id, wrong):
    with pytest.raises(ValueError):
        PairedErrors(DAY).add(event_id, part(1, 0, **wrong))


PARTS = st.lists(
    st.builds(
        part,
        st.integers(1, 3),
        st.integers(0, 40),
        st.floats(0, 1e6),
        st.integers(0, 2),
        horizon=st.integers(1, 2),
        partition=st.integers(0, 1),
        arm=st.sampled_from(("champion", "shadow")),
    ),
    max_size=40,
)


def same(a, b, sign=1.0):
    assert a.times.tolist() == b.times.tolist()
    np.testing.assert_allclose(a.differences, sign * b.differences, rtol=1e-9, atol=1e-9)
    assert (a.unpaired, a.first, a.last) == (b.unpaired, b.first, b.last)


@given(PARTS, st.sampled_from((1500.0, 5000.0, DAY)), st.randoms(use_true_random=False))
def test_order_and_repeats_do_not_matter_and_places_change_the_sign(parts, longest, random):
    parts = [*usual(35), *parts]
    once = filled(parts, longest).series("link", "m", 1, 2)
    numbered = [*enumerate(parts), *random.sample(list(enumerate(parts)), 10)]
    random.shuffle(numbered)
    pairs = PairedErrors(longest)
    for i, each in numbered:
        pairs.add(f"id-{i}", each)
    same(pairs.series("link", "m", 1, 2), once)
    same(pairs.series("link", "m", 2, 1), once, -1.0)
    assert len(once.times) == len(once.differences)
    assert (np.diff(once.times) > 0).all()

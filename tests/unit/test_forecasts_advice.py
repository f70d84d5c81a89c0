"""Advice at its bounds, confidence, the conformal correction, statistics, and the messages."""

import json
import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace

from dwcp_stream.events import Accuracy
from dwcp_stream.forecasts import (
    Correction,
    PredictionSource,
    build_accuracy,
    build_forecasts,
    build_incidents,
    confidence,
    link_scale,
    recommend,
    statistics,
)
from dwcp_stream.forecasts.conformal import BOUNDS, RATE, WARM_UP


def advised(bandwidth, latency, loss=0.0, jitter=0.0, sure=1.0, **more):
    found = recommend(*(np.array([v]) for v in (bandwidth, latency, loss, jitter)), confidence=np.array([sure]), **more)
    return int(found.streams[0]), int(found.buffer_bytes[0])


@pytest.mark.parametrize(
    ("bandwidth", "latency", "loss", "sure", "streams"),
    [
        (100, 20, 0.001, 1.0, 5),
        (500, 100, 0.03, 1.0, 12),
        (1000, 80, 0.005, 1.0, 16),
        (40, 200, 0.03, 1.0, 2),  # the reference system says 1
        (99.99, 49.99, 0.02, 1.0, 4),
        (120, 0, 0.021, 1.0, 4),
        (140, 0, 0.021, 1.0, 5),
        (100000, 0, 0, 0.5, 16),
        (100000, 0, 0, 0.499, 4),
        (40, 200, 0.03, 0.1, 4),
        (math.nan, 20, 0, 1.0, 4),
        (100, math.nan, 0, 1.0, 4),
        (100, 20, math.nan, 1.0, 5),
        (math.inf, 20, 0, 1.0, 4),
    ],
)
def test_streams(bandwidth, latency, loss, sure, streams):
    assert advised(bandwidth, latency, loss, sure=sure)[0] == streams


@pytest.mark.parametrize(
    ("bandwidth", "latency", "jitter", "cap", "size"),
    [
        (500, 50, 5, 2**24, 3_437_500),
        (1000, 80, 0, 2**24, 10_000_000),
        (1000, 80, 0, 2**20, 2**20),
        (10000, 80, 0, 2**24, 2**24),
        (1, 1, 0, 2**24, 16_384),
        (0, 0, math.nan, 2**24, 16_384),
        (math.nan, 80, 0, 2**24, 65_536),
        (math.nan, 80, 0, 2**15, 2**15),
        (1000, 80, 0, 1, 16_384),
    ],
)
def test_buffer(bandwidth, latency, jitter, cap, size):
    assert advised(bandwidth, latency, jitter=jitter, cap=cap)[1] == size


ANY = st.floats(allow_nan=True, allow_infinity=True)


@given(ANY, ANY, ANY, ANY, st.floats(0, 1))
@example(1.8e302, 0.0, 0.0, 0.0, 0.0)
@example(0.0, 1.8e308, 0.0, 1.8e308, 1.0)
def test_advice_is_within_its_bounds_whatever_the_forecast(bandwidth, latency, loss, jitter, sure):
    streams, size = advised(bandwidth, latency, loss, jitter, sure)
    assert 2 <= streams <= 16
    assert 16_384 <= size <= 2**24


def test_confidence_is_one_minus_relative_width_within_bounds():
    said = np.array([[[[90, 100, 110], [0, 100, 400], [5, 5, 5], [math.nan, 5, 6]]]], np.float32)
    found = confidence(said, np.array([[100, 0, 0, 1]], np.float32))
    assert found[0, 0].tolist() == [0.9, 0.0, 1.0, 0.0]
    said[0, 0, 0] = math.inf
    assert confidence(said, np.ones((1, 4)))[0, 0, 0] == 0.0
    assert confidence(np.zeros((1, 1, 1, 3), np.float32), np.zeros((1, 1))).item() == 1.0
    assert confidence(np.array([[[[-1, 0, 1]]]], np.float32), np.zeros((1, 1))).item() == 0.0


def test_link_scale_leaves_out_what_is_missing():
    window = np.array([[[1, np.nan], [3, np.nan]]], np.float32)
    assert link_scale(window).tolist() == [[2.0, 0.0]]


def test_the_correction_waits_then_learns_the_width_that_covers():
    made = Correction(1, 1)
    made.use(1)
    rng = np.random.default_rng(1)
    coverage = []
    for bucket in range(600):
        factor = made.factor[0, 0]
        actual = rng.normal(0, 1, 50)
        covered = float((np.abs(actual) <= 0.5 * factor).sum())  # the model thinks the spread is far smaller
        coverage.append(covered / 50)
        made.update(1, np.array([[50.0]]), np.array([[covered]]))
        if (bucket + 1) * 50 < WARM_UP:
            assert made.factor[0, 0] == 1.0
    assert np.mean(coverage[:3]) < 0.5
    assert np.mean(coverage[-200:]) == pytest.approx(0.8, abs=0.02)
    assert made.factor[0, 0] * 0.5 == pytest.approx(1.28, abs=0.15)  # the normal distribution's 90 % point


@given(st.lists(st.tuples(st.integers(0, 300), st.floats(0, 1)), max_size=80))
def test_the_factor_moves_slowly_and_stays_in_bounds(buckets):
    made = Correction(1, 1)
    for n, share in buckets:
        before = made.factor[0, 0]
        made.update(0, np.array([[float(n)]]), np.array([[round(n * share)]], float))
        assert abs(made.factor[0, 0] - before) <= RATE
        assert BOUNDS[0] <= made.factor[0, 0] <= BOUNDS[1]


def test_an_untouched_correction_gives_the_models_quantiles_to_the_bit():
    said = np.sort(np.random.default_rng(0).normal(0, 1e3, (50, 2, 3, 3)), axis=3).astype(np.float32)
    assert np.array_equal(Correction(2, 3).apply(said), said)


def test_another_version_starts_a_correction_anew_and_old_buckets_teach_it_nothing():
    made = Correction(1, 1)
    made.use(1)
    made.factor[:] = 3.0
    made.seen[:] = 1000
    made.use(2)
    assert made.factor[0, 0] == 1.0
    made.seen[:] = 1000
    made.update(1, np.array([[50.0]]), np.array([[0.0]]))
    assert made.factor[0, 0] == 1.0
    made.update(2, np.array([[50.0]]), np.array([[0.0]]))
    assert made.factor[0, 0] > 1.0


LINK = PredictionSource(
    "link", "link-forecast", 4, targets=("bandwidth_mbps", "latency_ms", "packet_loss", "jitter_ms"),
    horizons=(1, 6), step=60.0,
)  # fmt: skip


def forecasts(source=LINK, ts=1.7e9, entities=("c/n/p",)):
    b, shape = len(entities), (len(entities), len(source.horizons), 4, 3)
    q = np.broadcast_to(np.array([[90, 100, 110], [19, 20, 21], [0, 0, 0], [1, 1, 1]], np.float32), shape)
    wide = q.copy()
    wide[..., 2] += 5
    return build_forecasts(
        source,
        entities,
        np.full(b, ts),
        raw=q,
        corrected=wide,
        scale=np.full((b, 4), 100, np.float32),
        last=np.tile(np.array([100, 20, 0, np.nan], np.float32), (b, 1)),
        score=np.full(b, 0.5, np.float32),
    )


def ids(outputs):
    return [dict(output.headers)["ce_id"] for output in outputs]


def test_a_forecast_message_has_target_times_both_intervals_advice_and_confidence():
    (output,) = forecasts()
    body = json.loads(output.value)
    assert output.key == b"c/n/p"
    assert (body["kind"], body["version"], body["arm"], body["levels"]) == (
        "forecast",
        4,
        "champion",
        [0.1, 0.5, 0.9],
    )
    assert body["repeats"] == 0.75  # bandwidth, latency and loss are as they were, the jitter of before is not known
    first, second = body["forecasts"]
    assert (first["horizon"], first["target_time"]) == (1, "2023-11-14T22:14:20.000Z")
    assert (second["horizon"], second["target_time"]) == (6, "2023-11-14T22:19:20.000Z")
    assert first["raw"]["bandwidth_mbps"] == [90.0, 100.0, 110.0]
    assert first["corrected"]["bandwidth_mbps"] == [90.0, 100.0, 115.0]
    assert first["confidence"] == pytest.approx((1 - 25 / 200 + 1 - 7 / 120) / 2, abs=1e-6)
    assert first["advice"] == body["advice"] == {"streams": 5, "buffer_bytes": 262_500}
    assert first["id"] != second["id"]


def test_forecast_ids_hold_time_entity_version_arm_and_horizons():
    sources = [
        LINK,
        PredictionSource("link", "link-forecast", 5, "champion", LINK.targets, LINK.horizons, 60.0),
        PredictionSource("link", "link-forecast", 4, "shadow", LINK.targets, LINK.horizons, 60.0),
        PredictionSource("link", "link-forecast", 4, "champion", LINK.targets, (1, 12), 60.0),
    ]
    found = [ids(forecasts(source))[0] for source in sources]
    found += ids(forecasts(ts=1.7e9 + 60)) + ids(forecasts(entities=("a", "b")))
    assert len(set(found)) == len(found)
    assert ids(forecasts()) == ids(forecasts())


def test_without_the_four_link_targets_there_is_no_advice():
    source = PredictionSource("s", "m", 1, targets=("a", "b", "c", "d"), horizons=(1, 2))
    body = json.loads(forecasts(source)[0].value)
    assert body["advice"] is None
    assert body["forecasts"][0]["target_time"] is None


def test_an_incident_message_has_the_probability():
    source = PredictionSource("node", "node-gbt", 2)
    outputs = build_incidents(
        source, ["c/1", "c/2"], np.array([1.7e9, 1.7e9]), np.array([0.25, 0.5]), np.array([0.5, np.nan])
    )
    bodies = [json.loads(output.value) for output in outputs]
    assert [(b["kind"], b["entity"], b["probability"], b["score"]) for b in bodies] == [
        ("incident", "c/1", 0.25, 0.5),
        ("incident", "c/2", 0.5, None),
    ]
    assert len(set(ids(outputs))) == 2


PART = Accuracy(
    stream="link",
    model="link-forecast",
    version=4,
    arm="champion",
    horizon=6,
    target="latency_ms",
    partition=1,
    bucket_start="2023-11-14T22:10:00.000Z",
    bucket_end="2023-11-14T22:15:00.000Z",
    event_time="2023-11-14T22:20:00.000Z",
    n=4,
    abs_error=8.0,
    sq_error=20.0,
    error=-4.0,
    ape=0.3,
    ape_n=3,
    persistence_n=2,
    persistence_abs_error=8.0,
    paired_abs_error=4.0,
    pinball=6.0,
    covered=3,
    covered_raw=2,
    missed=1,
)


def test_statistics_of_parts_add_up():
    more = replace(PART, n=6, abs_error=2.0, sq_error=80.0, error=-6.0, ape=0.9, covered=6, covered_raw=3)
    s = statistics([PART, more])
    assert (s["n"], s["missed"], s["mae"], s["bias"], s["skill"]) == (10, 2, 1.0, -1.0, 0.5)
    assert (s["rmse"], s["coverage"], s["coverage_raw"]) == (math.sqrt(10), 0.9, 0.5)
    assert (s["mape"], s["pinball"]) == (pytest.approx(0.2), pytest.approx(0.4))
    assert all(math.isnan(statistics([])[name]) for name in ("mae", "rmse", "mape", "skill", "coverage"))


def test_accuracy_messages_are_keyed_by_model_and_told_apart_by_partition_and_closing():
    outputs = [
        build_accuracy(replace(PART, **changes))
        for changes in (
            {},
            {"partition": 2},
            {"event_time": "2023-11-14T22:25:00.000Z"},
            {"target": "jitter_ms"},
        )
    ]
    assert {output.key for output in outputs} == {b"link/link-forecast/4/champion/6"}
    assert len(set(ids(outputs))) == 4
    assert json.loads(outputs[0].value)["abs_error"] == 8.0

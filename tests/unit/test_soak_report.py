"""The verdict of a soak: it tells growth from noise, a sawtooth from a slope."""

import json

import numpy as np
import pytest

from benchmarks.soak_report import draw, judge, peaks, trend

MIB = 1 << 20


def readings(memory, lag=lambda t: 0, state=lambda t: 20 * MIB, hours=1.0, seed=1):
    """Rows every five seconds; `memory`, `lag` and `state` are functions of the time in seconds."""
    rng = np.random.default_rng(seed)
    return [
        {
            "t": float(t),
            "rss": memory(t) + rng.normal(0, MIB),
            "blocks": 1000,
            "lag": lag(t),
            "state_bytes": state(t),
            "entities": 10,
        }
        for t in np.arange(0, hours * 3600, 5.0)
    ]


def sawtooth(t):
    return (10 + (t % 600) / 60) * MIB


def test_a_line_is_found_with_its_interval():
    seconds = np.arange(0, 3600, 5.0)
    found = trend(seconds, 100.0 + 36.0 * seconds / 3600 + np.random.default_rng(2).normal(0, 3, len(seconds)))
    assert found.low < 36 < found.high
    assert found.high - found.low < 10
    assert found.grown(1.0) == pytest.approx(found.low / found.mean)


@pytest.mark.parametrize("seed", range(10))
def test_noise_is_no_growth(seed):
    found = judge(readings(lambda t: 250 * MIB, seed=seed), 2000)
    assert found["verdict"] == {"flat_memory": True, "lag_returns": True, "state_bounded": True}
    assert abs(found["memory_bytes_per_hour"]["slope"]) < 2 * MIB


def test_a_warm_up_is_no_growth():
    assert judge(readings(lambda t: 250 * MIB - 60 * MIB * max(0.0, 1 - t / 800)), 2000)["verdict"]["flat_memory"]


def test_a_leak_is_growth():
    found = judge(readings(lambda t: 250 * MIB + t / 3600 * 20 * MIB), 2000)
    assert not found["verdict"]["flat_memory"]
    assert found["memory_bytes_per_hour"]["low"] > 15 * MIB


def test_a_lag_that_grows_or_stays_is_told():
    assert not judge(readings(lambda t: MIB, lag=lambda t: 10 * t), 2000)["verdict"]["lag_returns"]
    assert not judge(readings(lambda t: MIB, lag=lambda t: 5000), 2000)["verdict"]["lag_returns"]
    assert judge(readings(lambda t: MIB, lag=lambda t: 1000 + 900 * np.sin(t)), 2000)["verdict"]["lag_returns"]


def test_a_state_topic_that_is_compacted_may_rise_and_fall():
    assert judge(readings(lambda t: MIB, state=sawtooth), 2000)["verdict"]["state_bounded"]
    assert not judge(readings(lambda t: MIB, state=lambda t: t * 1000), 2000)["verdict"]["state_bounded"]
    assert peaks([1, 9, 3, 4, 5, 6]) == (4, 6)


def test_too_short_a_run_says_so():
    with pytest.raises(ValueError, match="too few"):
        judge(readings(lambda t: MIB, hours=0.01), 2000)


def test_the_result_can_be_written_and_drawn(tmp_path):
    rows = readings(lambda t: 250 * MIB)
    found = judge(rows, 2000)
    assert json.loads(json.dumps(found)) == found
    draw(rows, found, tmp_path / "soak.png")
    assert (tmp_path / "soak.png").read_bytes().startswith(b"\x89PNG")

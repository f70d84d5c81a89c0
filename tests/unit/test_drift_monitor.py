"""Block means, population stability index, and the drift state they lead to."""

import json
import math
from datetime import datetime

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dwcp_stream.drift import DriftMonitor, InputShares, build_drift, psi
from dwcp_stream.drift.blocks import BlockMeans, split
from dwcp_stream.drift.detector import WARM_UP
from dwcp_stream.drift.monitor import FARTHEST, HOLD
from dwcp_stream.errors import ModelError

BLOCK, START = 60.0, 1.7e9 - 1.7e9 % 60
REFERENCE = {
    "load": {"edges": [-0.67, 0.0, 0.67], "share": [0.25, 0.25, 0.25, 0.25]},
    "mode": {"edges": [0.5], "share": [0.5, 0.5]},
    "unknown": {"edges": [], "share": [1.0]},
}
FIELDS = ("unknown", "load", "mode")
PER_BLOCK = 30


def monitor(**changes):
    return DriftMonitor(
        "link", "m", REFERENCE, BLOCK, FIELDS, **({"version": 1, "partition": 2, "psi_blocks": 20} | changes)
    )


def telemetry(blocks, *, shift_at=None, score=0.0, error=0.0, load=0.0, seed=3):
    """Rows of some blocks; from block `shift_at` on, signals are moved."""
    rng = np.random.default_rng(seed)
    n = blocks * PER_BLOCK
    ts = START + BLOCK / PER_BLOCK * np.arange(n)
    after = np.arange(n) >= (blocks if shift_at is None else shift_at) * PER_BLOCK
    inputs = np.stack([rng.normal(0, 1, n), rng.normal(0, 1, n) + load * after, rng.integers(0, 2, n)], axis=1)
    return (
        ts,
        (rng.normal(0.4, 0.1, n) + score * after).astype(np.float32),
        inputs.astype(np.float32),
        (rng.normal(0.2, 0.05, n) + error * after).astype(np.float32),
    )


def feed(made, rows, calls=1):
    """Give rows in calls of whole blocks, with a tick after each call; return the events."""
    ts = rows[0]
    events = []
    for part in np.array_split(np.arange(len(ts)), calls):
        made.observe(*(column[part] for column in rows))
        events += made.finish(float(ts[part][-1]))
    return events


def test_a_quiet_stream_has_no_events():
    made = monitor()
    assert feed(made, telemetry(150), 150) == []
    assert made.current == "stable"
    assert made.states() == {"adwin": "stable", "page_hinkley": "stable", "psi": "stable"}
    assert set(made.psi) == {"load", "mode"}


@pytest.mark.parametrize(("signal", "shift"), [("score", {"score": 0.2}), ("error", {"error": 0.1})])
def test_a_shift_of_a_signal_is_drift_and_passes_when_the_level_is_usual_again(signal, shift):
    made = monitor()
    events = feed(made, telemetry(200, shift_at=100, **shift), 200)
    assert "drifted" in [event.state for event in events]
    first = next(event for event in events if event.state == "drifted")
    assert all(reason.startswith(f"{signal}: ") for reason in first.reasons)
    assert first.signals[signal].n == PER_BLOCK
    assert "drifted" in first.signals[signal].detectors.values()
    assert [event.previous for event in events[1:]] == [event.state for event in events[:-1]]
    assert events[-1].state == made.current == "stable"
    assert sum(made.detections().values()) >= 1
    assert sum(count for name, count in made.detections().items() if not name.startswith(signal)) == 0


def test_a_finding_counts_for_a_number_of_blocks():
    made = monitor()
    events = feed(made, telemetry(200, shift_at=100, score=1.0), 200)
    begun = [event.block_end for event in events if event.state == "drifted"]
    ended = [event.block_end for event in events if event.previous == "drifted"]
    assert len(begun) == len(ended) == 1
    seconds = [datetime.fromisoformat(text[0]).timestamp() for text in (begun, ended)]
    assert seconds[1] - seconds[0] >= (HOLD - 1) * BLOCK


def test_a_shift_of_inputs_is_warning_then_drift():
    made = monitor()
    events = feed(made, telemetry(120, shift_at=60, load=1.5), 120)
    assert [event.state for event in events] == ["warning", "drifted"]
    assert events[0].reasons == ["psi: load"]
    assert 0.1 < events[0].psi["load"] < 0.25 < events[1].psi["load"]
    assert events[1].psi["mode"] < 0.1
    assert events[1].psi_n >= 500
    assert made.states()["psi"] == "drifted"


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_events_do_not_depend_on_the_cut_between_ticks(data):
    rows = telemetry(110, shift_at=60, score=0.3, load=2.0)
    whole, cut = monitor(), monitor()
    for begin in range(0, len(rows[0]), 10 * PER_BLOCK):
        part = np.arange(begin, begin + 10 * PER_BLOCK)
        inner = data.draw(st.lists(st.integers(0, len(part)), max_size=3))
        whole.observe(*(column[part] for column in rows))
        for some in np.split(part, sorted(inner)):
            cut.observe(*(column[some] for column in rows))
        tick = float(rows[0][part[-1]])
        assert cut.finish(tick) == whole.finish(tick)
    assert cut.state() == whole.state()
    assert cut.current == "drifted"


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 119))
def test_state_goes_through_msgpack_and_on_identically(at):
    rows = telemetry(120, shift_at=70, score=0.3, load=1.0)
    kept, moved = monitor(), monitor()
    before, after = (tuple(c[: at * 30 - 7] for c in rows), tuple(c[at * 30 - 7 :] for c in rows))
    feed(kept, before, at)
    assert moved.load(msgspec.msgpack.decode(msgspec.msgpack.encode(kept.state()))) == []
    assert feed(moved, after, 120 - at) == feed(kept, after, 120 - at)
    assert moved.state() == kept.state()
    assert moved.states() == kept.states()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"version": 9}, "model version 9, not 1"),
        ({"v": 2}, "state version 2"),
        ({"block_seconds": 1.0}, "block length"),
        ({"signals": {}}, "cannot be read"),
        ({"inputs": {"names": [], "bins": []}}, "psi starts anew"),
    ],
)
def test_state_that_does_not_fit_resets_and_says_so(change, why):
    made = monitor()
    feed(made, telemetry(40), 40)
    other = monitor()
    said = other.load(made.state() | change)
    assert len(said) == 1
    assert why in said[0]
    assert other.psi == {}


def test_a_detectors_mismatch_resets_it_alone():
    made = monitor()
    feed(made, telemetry(WARM_UP + 10), 40)
    plain = made.state()
    plain["signals"]["score"]["detectors"]["adwin"]["tag"] = "adwin/1/river-0.0"
    other = monitor()
    assert ["river-0.0" in said for said in other.load(plain)] == [True]
    assert other.state()["signals"]["error"] == plain["signals"]["error"]


def test_another_model_version_starts_anew():
    made = monitor()
    feed(made, telemetry(120, shift_at=60, load=2.0), 120)
    made.reset(2, REFERENCE)
    assert made.state() == monitor(version=2).state()


def test_late_and_far_rows_are_left_out_and_counted():
    made = monitor()
    feed(made, telemetry(10), 10)
    one = np.zeros(1, np.float32)
    made.observe(np.array([START]), one)
    made.observe(np.array([START + (FARTHEST + 100) * BLOCK]), one)
    made.observe_errors(np.array([START]), one)
    assert made.late == 3
    assert made.finish(-math.inf) == []


def test_lateness_holds_a_block_open():
    made = monitor(lateness=30.0)
    made.observe(np.array([START, START + 70]), np.zeros(2, np.float32))
    made.finish(START + 89)
    made.observe(np.array([START + 1]), np.zeros(1, np.float32))
    made.finish(START + 90)
    made.observe(np.array([START + 1]), np.zeros(1, np.float32))
    assert made.late == 1


def test_rows_without_numbers_lead_to_nothing():
    made = monitor()
    ts, nothing = START + np.arange(600.0), np.full(600, np.nan, np.float32)
    made.observe(ts, nothing, np.full((600, 3), np.nan, np.float32), nothing)
    made.observe(ts[:0], nothing[:0])
    assert made.finish(START + 600) == []
    assert made.state()["signals"]["score"]["means"] == []


def test_a_drift_message_has_the_numbers_and_an_id_of_its_own():
    made = monitor()
    events = feed(made, telemetry(120, shift_at=60, load=1.5), 120)
    outputs = [build_drift(event) for event in events]
    body = json.loads(outputs[1].value)
    assert outputs[1].key == b"link/m"
    assert (body["state"], body["previous"], body["partition"], body["version"]) == (
        "drifted",
        "warning",
        2,
        1,
    )
    assert body["psi"]["load"] > 0.25
    headers = dict(outputs[1].headers)
    assert headers["ce_type"] == b"dwcp.drift.drifted"
    assert headers["ce_time"].decode() == body["event_time"] == body["block_end"]
    elsewhere = feed(monitor(partition=3), telemetry(120, shift_at=60, load=1.5), 120)
    found = [dict(build_drift(event).headers)["ce_id"] for event in events + elsewhere]
    assert len(set(found)) == 4


BLOCKS = st.lists(st.tuples(st.integers(-3, 3), st.floats(width=32)), max_size=40)


@given(BLOCKS)
def test_block_means_leave_out_what_is_not_finite(rows):
    made = BlockMeans()
    made.add(np.array([r[0] for r in rows], np.int64), np.array([r[1] for r in rows], np.float32))
    for block in range(-3, 4):
        known = [v for b, v in rows if b == block and math.isfinite(v)]
        mean, n = made.pop(block)
        assert n == len(known)
        assert mean == (pytest.approx(math.fsum(known) / n, rel=1e-6, abs=1e23) if n else None)
    assert made.blocks() == set()


@given(st.lists(st.integers(-3, 3), max_size=30))
def test_split_keeps_order(blocks):
    found = split(np.array(blocks, np.int64))
    assert [block for block, _ in found] == sorted(set(blocks))
    for block, mine in found:
        assert np.arange(len(blocks))[mine].tolist() == [i for i, b in enumerate(blocks) if b == block]


SHARES = st.lists(st.integers(0, 50), min_size=2, max_size=12).filter(any)


@given(SHARES, st.data())
def test_psi_is_never_negative_and_zero_only_for_equal_shares(counts, data):
    other = data.draw(st.lists(st.integers(0, 50), min_size=len(counts), max_size=len(counts)).filter(any))
    a, b = (np.array(c) / sum(c) for c in (counts, other))
    assert psi(a, a) == 0.0
    assert (psi(a, b) > 0) == (not np.allclose(a, b, atol=0))
    assert math.isfinite(psi(a, b))


def test_inputs_are_judged_only_with_enough_values_over_a_whole_window():
    shares = InputShares(REFERENCE, FIELDS, window=3, minimum=500)
    rng = np.random.default_rng(0)
    found = []
    for block, n in enumerate([600, 600, 600, 10, 10, 10]):
        rows = rng.normal(0, 1, (n, 3)).astype(np.float32)
        rows[: n // 2, 2] = np.nan
        shares.add(np.full(n, block), rows)
        found.append(shares.finish(block))
    assert [sorted(index) for index, _ in found] == [[], [], ["load", "mode"], ["load", "mode"], ["load"], []]
    assert [n for _, n in found] == [0, 0, 900, 605, 620, 0]


def test_a_value_on_a_cut_counts_above_it():
    shares = InputShares({"x": {"edges": [1.0], "share": [0.5, 0.5]}}, ["x"], window=1, minimum=1)
    shares.add(np.zeros(4, np.int64), np.array([[1.0], [1.0], [0.9], [0.8]], np.float32))
    assert shares.finish(0) == ({"x": 0.0}, 4)


@pytest.mark.parametrize(
    "wrong", [{"edges": [1.0], "share": [0.2, 0.3, 0.5]}, {"edges": [2.0, 1.0], "share": [0.2, 0.3, 0.5]}]
)
def test_a_reference_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(ModelError, match=r"reference\.x"):
        InputShares({"x": wrong}, ["x"])

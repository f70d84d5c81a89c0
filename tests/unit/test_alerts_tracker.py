"""The alert policy: transitions against a definition written over whole histories, cuts, restarts, expiry."""

import math
from dataclasses import replace
from itertools import pairwise

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dwcp_stream.alerts import LEVELS, AlertTracker
from dwcp_stream.errors import ConfigError, ModelError, NewerStateError, StateError
from dwcp_stream.streams.definition import AlertPolicy

CUTOFFS = (1.0, 2.0, 5.0)
SCORES = st.sampled_from([0.0, 0.5, 0.79, 0.8, 0.9, 1.0, 1.01, 1.5, 2.0, 2.5, 5.0, 6.0, math.inf, math.nan])
POLICIES = st.builds(
    AlertPolicy, min_duration=st.sampled_from([0.0, 1.0, 2.5, 4.0]), resolve_below=st.sampled_from([0.8, 1.0])
)
HISTORIES = st.lists(
    st.tuples(st.integers(0, 3), st.integers(1, 3), SCORES), max_size=60
)  # (slot, seconds since the slot's last verdict, score)


def arrays(history):
    """Slots, times and scores in the order of the log."""
    clock = dict.fromkeys(range(4), 0.0)
    rows = []
    for slot, gap, score in history:
        clock[slot] += gap
        rows.append((slot, clock[slot], score))
    slots = np.array([r[0] for r in rows], np.int64)
    return slots, np.array([r[1] for r in rows], float), np.array([r[2] for r in rows], np.float32)


def observe(tracker, history, cuts=()):
    slots, ts, scores = arrays(history)
    found = []
    edges = [0, *sorted(cuts), len(slots)]
    for begin, end in pairwise(edges):
        part = slice(begin, end)
        found += [replace(t, index=t.index + begin) for t in tracker.observe(slots[part], ts[part], scores[part])]
    return found


def level(score):
    return sum(score > cutoff for cutoff in CUTOFFS)


def by_definition(ts, scores, index, policy):
    """Transitions of one entity as (index, action, starts_at, ends_at, severity), from whole stretches."""
    known = [(t, s, i) for t, s, i in zip(ts, scores, index, strict=True) if not math.isnan(s)]
    result, begin = [], 0

    def first_run(position, test):
        for end in range(position, len(known)):
            for start in range(position, end + 1):
                if all(test(s) for _, s, _ in known[start : end + 1]):
                    if known[end][0] - known[start][0] >= policy.min_duration:
                        return start, end
                    break
        return None

    while (fire := first_run(begin, lambda s: s > 1)) is not None:
        start, at = fire
        quiet = first_run(at + 1, lambda s: s < policy.resolve_below)
        last = quiet[1] if quiet else len(known)
        highest = max(level(s) for _, s, _ in known[start : at + 1])
        since = known[start][0]
        result.append((known[at][2], "firing", since, None, LEVELS[highest]))
        for _, s, i in known[at + 1 : last]:
            if level(s) > highest:
                highest = level(s)
                result.append((i, "escalated", since, None, LEVELS[highest]))
        if quiet is None:
            break
        result.append((known[last][2], "resolved", since, known[quiet[0]][0], LEVELS[highest]))
        begin = last + 1
    return result


def told(transitions):
    return [
        (t.index, t.action, t.starts_at, None if math.isnan(t.ends_at) else t.ends_at, t.severity) for t in transitions
    ]


@settings(max_examples=200, deadline=None)
@given(HISTORIES, POLICIES)
def test_transitions_are_those_of_the_definition(history, policy):
    found = observe(AlertTracker(policy, CUTOFFS, 4), history)
    slots, ts, scores = arrays(history)
    expected = []
    for slot in range(4):
        mine = np.flatnonzero(slots == slot)
        expected += by_definition(ts[mine].tolist(), scores[mine].tolist(), mine.tolist(), policy)
    assert told(found) == sorted(expected)


@settings(max_examples=100, deadline=None)
@given(HISTORIES, POLICIES, st.data())
def test_transitions_do_not_depend_on_how_rows_are_cut_into_calls(history, policy, data):
    cuts = data.draw(st.lists(st.integers(0, len(history)), max_size=8))
    whole, cut = AlertTracker(policy, CUTOFFS, 4), AlertTracker(policy, CUTOFFS, 4)
    assert repr(observe(cut, history, cuts)) == repr(observe(whole, history))
    assert cut.firing == whole.firing


@settings(max_examples=100, deadline=None)
@given(HISTORIES, POLICIES)
def test_an_entity_is_independent_of_the_others(history, policy):
    together = observe(AlertTracker(policy, CUTOFFS, 4), history)
    for slot in range(4):
        alone = AlertTracker(policy, CUTOFFS, 4)
        mine = [row for row in history if row[0] == slot]
        expected = [(t.action, t.starts_at, t.event_time) for t in observe(alone, mine)]
        assert [(t.action, t.starts_at, t.event_time) for t in together if t.slot == slot] == expected


@settings(max_examples=100, deadline=None)
@given(HISTORIES, POLICIES)
def test_an_alert_never_fires_twice_and_only_escalates_upward(history, policy):
    open_alerts: dict[int, str] = {}
    for t in observe(AlertTracker(policy, CUTOFFS, 4), history):
        if t.action == "firing":
            assert t.slot not in open_alerts
        else:
            assert t.slot in open_alerts
            before = LEVELS.index(open_alerts[t.slot])
            assert LEVELS.index(t.severity) >= before + (t.action == "escalated")
        if t.action == "resolved":
            assert t.starts_at < t.ends_at <= t.event_time
            del open_alerts[t.slot]
        else:
            open_alerts[t.slot] = t.severity


@settings(max_examples=100, deadline=None)
@given(HISTORIES, POLICIES, st.data())
def test_state_goes_through_msgpack_mid_alert(history, policy, data):
    cut = data.draw(st.integers(0, len(history)))
    slots, ts, scores = arrays(history)
    kept, moved = AlertTracker(policy, CUTOFFS, 4), AlertTracker(policy, CUTOFFS, 9)
    kept.observe(slots[:cut], ts[:cut], scores[:cut])
    taken = kept.take(np.arange(4))
    later = kept.observe(slots[cut:], ts[cut:], scores[cut:])  # the copy must not see this
    for slot in range(4):
        moved.load(slot + 5, msgspec.msgpack.decode(msgspec.msgpack.encode(taken.plain(slot))))
    again = moved.observe(slots[cut:] + 5, ts[cut:], scores[cut:])
    assert repr([replace(t, slot=t.slot - 5) for t in again]) == repr(later)


def run(scores, policy=None, step=1.0):
    tracker = AlertTracker(policy or AlertPolicy(), CUTOFFS, 1)
    slots = np.zeros(len(scores), np.int64)
    found = tracker.observe(slots, 1.7e9 + step * np.arange(len(scores)), np.array(scores, np.float32))
    return [(t.index, t.action, t.severity) for t in found], tracker


def test_hysteresis_band_holds():
    assert run([1.2, 0.85, 0.99, 1.1, 0.8, 0.79])[0] == [
        (0, "firing", "warning"),
        (5, "resolved", "warning"),
    ]


def test_exactly_the_threshold_is_not_over_it():
    assert run([1.0, 1.0])[0] == []


def test_two_faults_are_two_alerts():
    found, _ = run([1.5, 0.1, 1.5, 0.1])
    assert [action for _, action, _ in found] == ["firing", "resolved"] * 2


def test_min_duration_counts_from_the_first_verdict_over_and_holds_for_the_end_too():
    policy = AlertPolicy(min_duration=2.0)
    found, _ = run([1.5, 1.5, 0.9, 1.5, 6.0, 1.5, 0.1, 0.1, 0.85, 0.1, 0.1, 0.1], policy)
    assert found == [(5, "firing", "emergency"), (11, "resolved", "emergency")]


def test_durations_of_fractions_of_a_second_are_not_missed_by_rounding():
    assert run([2.0] * 4, AlertPolicy(min_duration=0.3), step=0.1)[0] == [(3, "firing", "warning")]


def test_no_verdict_changes_nothing():
    found, tracker = run([1.5, math.nan, math.nan])
    assert len(found) == 1
    assert tracker.firing == 1


def test_expired_alerts_resolve_with_a_reason_and_an_end():
    _, tracker = run([1.5])
    tracker.resize(3)
    tracker.observe(np.array([1]), np.array([1.7e9]), np.array([0.3], np.float32))
    found = tracker.expire(np.arange(3), np.full(3, 1.7e9 + 60))
    assert [(t.index, t.slot, t.action, t.reason) for t in found] == [(-1, 0, "resolved", "expired")]
    assert (found[0].starts_at, found[0].ends_at, found[0].event_time) == (1.7e9, 1.7e9 + 60, 1.7e9 + 60)
    assert math.isnan(found[0].score)
    assert tracker.firing == 0
    assert tracker.expire(np.arange(3), np.full(3, 1.7e9 + 120)) == []


def test_a_pending_condition_is_forgotten_at_expiry():
    _, tracker = run([1.5], AlertPolicy(min_duration=30.0))
    assert tracker.expire(np.array([0]), np.array([1.7e9 + 60])) == []
    later = tracker.observe(np.array([0]), np.array([1.7e9 + 90]), np.array([1.5], np.float32))
    assert later == []


def test_firing_and_stale_over_many_slots():
    tracker = AlertTracker(AlertPolicy(), CUTOFFS, 1000)
    slots = np.arange(1000)
    scores = np.where(slots % 10 == 0, 3.0, 0.5).astype(np.float32)
    found = tracker.observe(slots, np.full(1000, 50.0), scores)
    assert len(found) == tracker.firing == 100
    assert np.array_equal(tracker.active(slots), slots % 10 == 0)
    last = np.where(slots < 500, 50.0, 95.0)
    assert np.array_equal(tracker.stale(slots, last, 100.0, 30.0), (slots % 10 == 0) & (slots < 500))
    tracker.clear(slots[:500])
    assert tracker.firing == 50
    assert tracker.take(slots[:500]).plain(0) is None


def test_many_quiet_verdicts_take_no_step_per_verdict(monkeypatch):
    tracker = AlertTracker(AlertPolicy(), CUTOFFS, 4000)
    tracker.observe(np.array([7]), np.array([0.0]), np.array([2.0], np.float32))
    seen = []
    monkeypatch.setattr(tracker, "_verdict", lambda *row: seen.append(row))
    tracker.observe(np.arange(4000), np.full(4000, 1.0), np.full(4000, 0.9, np.float32))
    assert [row[1] for row in seen] == [7]


def test_new_cutoffs_count_from_the_next_verdict():
    _, tracker = run([1.5])
    tracker.cutoffs = (1.0, 1.2, 9.0)
    found = tracker.observe(np.array([0]), np.array([1.7e9 + 1]), np.array([1.5], np.float32))
    assert [(t.action, t.severity) for t in found] == [("escalated", "critical")]


def test_growing_keeps_what_is_held():
    _, tracker = run([1.5])
    tracker.resize(10)
    tracker.resize(5)
    assert tracker.active(np.arange(10)).tolist() == [True] + [False] * 9


@pytest.mark.parametrize("cutoffs", [(1, 2), (1, 5, 2), (0.5, 2, 5), (1, math.nan, 5)])
def test_wrong_cutoffs_are_refused(cutoffs):
    with pytest.raises(ModelError, match="severity"):
        AlertTracker(AlertPolicy(), cutoffs)


@pytest.mark.parametrize(
    "policy",
    [
        AlertPolicy(resolve_below=1.2),
        AlertPolicy(resolve_below=0.0),
        AlertPolicy(min_duration=-1.0),
        AlertPolicy(threshold=0.0),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(policy):
    with pytest.raises(ConfigError, match=r"resolve_below|min_duration|threshold"):
        AlertTracker(policy, CUTOFFS)


@pytest.mark.parametrize("plain", [3, [], ["x"], [1, 2.0], [1, "a", True, 1, None], {"a": 1}])
def test_foreign_state_is_refused(plain):
    with pytest.raises(StateError):
        AlertTracker(AlertPolicy(), CUTOFFS, 1).load(0, plain)


def test_state_of_a_newer_version_is_refused_by_name():
    with pytest.raises(NewerStateError, match="version 2"):
        AlertTracker(AlertPolicy(), CUTOFFS, 1).load(0, [2, "anything"])


def test_alerts_are_counted_while_another_thread_changes_them():
    tracker = AlertTracker(AlertPolicy(), [1, 2, 5], capacity=3)
    for slot in range(2):
        tracker.load(slot, [1, 1.0, True, 1, None])

    class Condition:
        """Adds a condition while it is being looked at, as another thread may."""

        @property
        def active(self):
            tracker._conditions[99] = tracker._conditions[0]
            return True

    tracker._conditions[2] = Condition()
    assert tracker.firing == 3


@given(st.lists(st.sampled_from([0.5, 0.9, 1.5, 2.5, 6.0]), max_size=12), st.sampled_from([0.5, 2.0, 4.0]))
def test_a_threshold_is_the_same_as_scores_divided_by_it(scores: list[float], threshold: float) -> None:
    found = AlertTracker(AlertPolicy(threshold=threshold), CUTOFFS, 1)
    wanted = AlertTracker(AlertPolicy(), CUTOFFS, 1)
    slots, ts = np.zeros(len(scores), np.int64), np.arange(len(scores), dtype=np.float64)
    raw = np.array(scores, np.float32)
    pairs = zip(found.observe(slots, ts, raw), wanted.observe(slots, ts, raw / np.float32(threshold)), strict=True)
    for one, other in pairs:
        assert (one.action, one.event_time, one.severity) == (other.action, other.event_time, other.severity)
        assert one.score == raw[one.index], "what is told is the model's own score"

"""The harness itself: the telemetry is what it says, and a comparison of runs notices what it should."""

from collections import Counter
from dataclasses import replace

import msgspec
import pytest

from tests.integration.probe import BURST, EPOCH, Telemetry, entity_name
from tests.integration.workers import PARTITIONS, Final, assert_same

TELEMETRY = Telemetry(40, 200)


def test_telemetry_is_the_same_however_it_is_cut() -> None:
    whole = TELEMETRY.rows(PARTITIONS)
    cut = [TELEMETRY.rows(PARTITIONS, s, s + 7) for s in range(0, TELEMETRY.steps, 7)]
    assert whole == {p: [row for part in cut for row in part[p]] for p in range(PARTITIONS)}
    assert all(len({row[0] for row in rows}) > 1 for rows in whole.values())


def test_telemetry_has_holes_repeats_and_late_samples_but_none_in_a_burst() -> None:
    sent = Counter(TELEMETRY.samples())
    everything = {(e, s) for e in range(TELEMETRY.entities) for s in range(TELEMETRY.steps)}
    newest: dict[int, int] = {}
    late = 0
    for entity, step in TELEMETRY.samples():
        late += step < newest.get(entity, -1)
        newest[entity] = max(step, newest.get(entity, -1))
    assert everything - sent.keys(), "some are missing"
    assert max(sent.values()) == 2, "some are sent twice"
    assert late > 50
    for entity, action, ts in TELEMETRY.transitions():
        number, step = int(entity[1:]), int(ts - EPOCH)
        around = range(step, min(step + BURST + 1, TELEMETRY.steps)) if action == "firing" else [step]
        assert all(sent[number, s] == 1 for s in around)


def test_transitions_are_where_the_values_cross_the_thresholds() -> None:
    expected = set()
    for entity in range(TELEMETRY.entities):
        values = [TELEMETRY.value(entity, s) for s in range(TELEMETRY.steps)]
        for step in range(1, TELEMETRY.steps):
            before, now = values[step - 1], values[step]
            names = {"firing": before < 1 < now, "resolved": now < 1 < before, "escalated": 1 < before < now}
            action = next((name for name, is_so in names.items() if is_so), None)
            if action:
                expected.add((entity_name(entity), action, EPOCH + step))
    assert TELEMETRY.transitions() == expected
    sample = msgspec.json.decode(TELEMETRY.payload(7, 31))
    assert sample == {"id": "e00007", "ts": EPOCH + 31, "value": TELEMETRY.value(7, 31), "requests": 31 * 5}


GOOD = Final(
    {"a": b"1", "b": b"2"},
    {"a": b"x", "b": b"y"},
    {0: 10, 1: 12},
    {"id1": {"entity": "a", "action": "firing"}, "id2": {"entity": "b", "action": "firing"}},
    0,
)


def test_repeats_are_no_difference() -> None:
    assert_same(replace(GOOD, repeats=5), GOOD)


@pytest.mark.parametrize(
    "other",
    [
        replace(GOOD, windows={"a": b"1"}),
        replace(GOOD, windows={"a": b"1", "b": b"3"}),
        replace(GOOD, parts={"a": b"x", "b": b"z"}),
        replace(GOOD, positions={0: 10, 1: 11}),
        replace(GOOD, alerts={"id1": GOOD.alerts["id1"]}),
        replace(GOOD, alerts=GOOD.alerts | {"id3": {"entity": "a", "action": "resolved"}}),
        replace(GOOD, alerts=GOOD.alerts | {"id2": {"entity": "b", "action": "resolved"}}),
    ],
)
def test_every_difference_is_noticed(other: Final) -> None:
    with pytest.raises(AssertionError):
        assert_same(other, GOOD)

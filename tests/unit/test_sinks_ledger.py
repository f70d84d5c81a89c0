"""What a sink is to be told: repeats, old alerts that are over, severities, and what was told before."""

from hypothesis import given
from hypothesis import strategies as st

from dwcp_stream.sinks import Ledger
from tests.unit.sink_cases import alert


def turn(ledger: Ledger, one, age: float = 0.0, severity: str = "warning") -> str:
    """Judge a transition and do as the verdict says."""
    verdict = ledger.judge(one, age, 600.0, severity)
    if verdict == "tell":
        ledger.tell(one)
    else:
        ledger.see(one)
    return verdict


def test_an_alert_is_told_from_its_begin_to_its_end_and_no_repeat_is():
    ledger = Ledger()
    three = [alert(), alert("escalated", at=3), alert("resolved", at=9)]
    assert [turn(ledger, one) for one in three] == ["tell"] * 3
    assert [turn(ledger, one) for one in three] == ["repeat"] * 3
    assert ledger.told == {}
    assert turn(ledger, alert(at=20, since=20)) == "tell"


def test_what_was_told_before_comes_with_a_transition():
    ledger = Ledger()
    first, second = alert(), alert("escalated", at=3)
    assert ledger.tell(first).before is None
    assert ledger.tell(second) == (second, first)


def test_an_old_alert_that_is_over_is_left_out_and_so_is_its_end():
    ledger = Ledger()
    pair = [alert(), alert("resolved", at=9)]
    for one in pair:
        ledger.know(one)
    assert [turn(ledger, one, age=3600) for one in pair] == ["stale", "untold"]


def test_an_old_alert_that_still_fires_is_told():
    ledger = Ledger()
    ledger.know(alert())
    ledger.know(alert("escalated", at=3))
    assert turn(ledger, alert(), age=3600) == "tell"


def test_a_young_alert_that_is_over_is_told_with_its_end():
    ledger = Ledger()
    pair = [alert(), alert("resolved", at=9)]
    for one in pair:
        ledger.know(one)
    assert [turn(ledger, one, age=5) for one in pair] == ["tell", "tell"]


def test_a_sink_for_emergencies_hears_of_an_alert_when_it_has_become_one():
    ledger = Ledger()
    told = [alert(), alert("escalated", at=3, severity="emergency"), alert("resolved", at=9)]
    assert [turn(ledger, one, severity="emergency") for one in told] == ["below", "tell", "tell"]
    other = [alert(entity="n2"), alert("resolved", entity="n2", at=4)]
    assert [turn(ledger, one, severity="critical") for one in other] == ["below", "untold"]


transitions = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from(["firing", "escalated", "resolved"]), st.floats(0, 5000)), max_size=40
)


@given(transitions)
def test_a_sink_takes_for_firing_only_what_it_was_told_and_not_told_the_end_of(steps):
    ledger, heard = Ledger(), {}
    for at, (entity, action, age) in enumerate(steps):
        one = alert(action, entity=f"n{entity}", at=float(at))
        ledger.know(one)
        if turn(ledger, one, age) == "tell":
            assert (one.action == "resolved") <= (one.entity in heard)
            if action == "resolved":
                del heard[one.entity]
            else:
                heard[one.entity] = one
    assert {one.entity: one for one in ledger.told.values()} == heard

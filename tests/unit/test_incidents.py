"""Incidents: the same from any order of arrival, and after a restart; silences; the guess at the cause."""

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from dwcp_stream.alerts.identity import fingerprint
from dwcp_stream.events import Alert, rfc3339
from dwcp_stream.incidents import IncidentTracker, Silence, Silences, build_incident, build_silence, matches, silenced
from dwcp_stream.incidents.incident import Incident
from dwcp_stream.incidents.silences import ended
from dwcp_stream.streams import load_streams

STREAMS = load_streams(Path(__file__).parents[2] / "config/streams")
T0 = 1_790_000_000.0
GAP = 60.0
ENTITIES = {
    "consensus": ["eu-1", "eu-2"],
    "node": ["eu-1/n1", "eu-1/n2", "eu-2/n1"],
    "link": ["eu-1/n1/n2", "eu-2/n1/n2"],
}


def message(
    stream: str, entity: str, starts: float, at: float, action: str = "firing", severity: str = "warning"
) -> Alert:
    """One transition; a resolved one ends when it is told."""
    ends = {"ends_at": rfc3339(T0 + at)} if action == "resolved" else {}
    return Alert(
        labels={}, annotations={}, starts_at=rfc3339(T0 + starts), fingerprint=fingerprint("a", stream, entity, "m"),
        action=action, reason="threshold", severity=severity, score=2.0, kind=None, state="scored", fields=[],
        stream=stream, entity=entity, model="m", model_version=1, event_time=rfc3339(T0 + at), **ends,
    )  # fmt: skip


@st.composite
def lives(draw: st.DrawFn) -> list[Alert]:
    """All messages of some alerts, some of which still fire."""
    found: list[Alert] = []
    for _ in range(draw(st.integers(1, 8))):
        stream = draw(st.sampled_from(sorted(ENTITIES)))
        entity = draw(st.sampled_from(ENTITIES[stream]))
        begin, lasts = draw(st.integers(0, 600)), draw(st.integers(1, 120))
        found.append(message(stream, entity, begin, begin + 1))
        if draw(st.booleans()):
            found.append(message(stream, entity, begin, begin + 2, "escalated", "critical"))
        if draw(st.booleans()):
            found.append(message(stream, entity, begin, begin + 2 + lasts, "resolved", "critical"))
    return found


def fed(alerts: list[Alert], *, one_by_one: bool = False) -> tuple[IncidentTracker, list[Incident]]:
    tracker = IncidentTracker(STREAMS, GAP)
    told: list[Incident] = []
    for alert in alerts:
        tracker.alert(alert)
        if one_by_one:
            told += tracker.changes()
    return tracker, told + tracker.changes()


@given(lives(), st.randoms())
def test_order_and_repeats_change_no_incident(alerts: list[Alert], rng: random.Random) -> None:
    shuffled = [*alerts, *rng.sample(alerts, len(alerts) // 2)]
    rng.shuffle(shuffled)
    wanted = fed(alerts)[0].incidents()
    tracker, told = fed(shuffled, one_by_one=True)
    assert tracker.incidents() == wanted
    last = {incident.id: incident for incident in told}
    living = {i.id: msgspec.structs.replace(i, action="opened") for i in last.values() if i.state != "merged"}
    assert living == {i.id: msgspec.structs.replace(i, action="opened") for i in wanted}, "what was told last is true"


@given(lives(), st.data())
def test_a_restart_tells_what_had_not_been_told_and_no_more(alerts: list[Alert], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(alerts)))
    _, before = fed(alerts[:at], one_by_one=True)
    kept = before[: data.draw(st.integers(0, len(before)))]
    tracker = IncidentTracker(STREAMS, GAP)
    for incident in kept:
        # through JSON, as it comes back from the topic
        tracker.told(msgspec.json.decode(build_incident(incident).value, type=Incident))
    for alert in alerts:
        tracker.alert(alert)
    after = tracker.changes()
    assert tracker.changes() == []
    last = {i.id: i for i in [*kept, *after]}
    wanted = {i.id for i in fed(alerts)[0].incidents()}
    assert {i.id for i in last.values() if i.state != "merged"} == wanted
    assert tracker.incidents() == fed(alerts)[0].incidents()


@given(lives())
def test_every_alert_is_in_exactly_one_incident_of_its_cluster(alerts: list[Alert]) -> None:
    found = fed(alerts)[0].incidents()
    members = [(m.fingerprint, m.starts_at) for i in found for m in i.alerts]
    assert len(members) == len(set(members))
    assert set(members) == {(a.fingerprint, a.starts_at) for a in alerts}
    assert all(m.entity.split("/")[0] == i.cluster for i in found for m in i.alerts)
    for one in found:
        for other in found:
            if one.cluster == other.cluster and one.starts_at < other.starts_at:
                assert isinstance(one.ends_at, str), "everything after an open incident belongs to it"
                gap = datetime.fromisoformat(other.starts_at) - datetime.fromisoformat(one.ends_at)
                assert gap > timedelta(seconds=GAP)


def test_one_fault_is_one_incident_with_what_it_did_to_links_nodes_and_consensus() -> None:
    tracker, told = fed(
        [
            message("consensus", "eu-1", 0, 2),
            message("node", "eu-1/n1", 30, 30, severity="critical"),
            message("link", "eu-1/n1/n2", 60, 60, severity="critical"),
            message("node", "eu-2/n1", 10, 10),
        ],
        one_by_one=True,
    )
    first, other = tracker.incidents()
    assert (first.cluster, other.cluster) == ("eu-1", "eu-2")
    assert first.streams == {"consensus": 1, "link": 1, "node": 1}
    assert (first.cause.stream, first.cause.entity) == ("link", "eu-1/n1/n2")
    assert first.severity == "critical"
    assert [i.action for i in told] == ["opened", "updated", "updated", "opened"]


def test_the_life_of_an_incident() -> None:
    tracker = IncidentTracker(STREAMS, GAP)
    actions = []
    for alert in (
        message("node", "eu-1/n1", 100, 100),
        message("node", "eu-1/n1", 100, 150, "resolved"),
        message("node", "eu-1/n2", 200, 200),  # within the gap
        message("node", "eu-1/n2", 200, 210, "resolved"),
        message("consensus", "eu-1", 50, 90, "resolved"),  # late: it began before all
    ):
        tracker.alert(alert)
        actions.append([i.action for i in tracker.changes()])
    assert actions == [["opened"], ["resolved"], ["reopened"], ["resolved"], ["resolved", "merged"]]
    (whole,) = tracker.incidents()
    assert (whole.starts_at, whole.ends_at) == (rfc3339(T0 + 50), rfc3339(T0 + 210))


def test_what_was_resolved_long_ago_is_forgotten() -> None:
    tracker = IncidentTracker(STREAMS, GAP, keep=1000.0)
    tracker.alert(message("node", "eu-1/n1", 0, 50, "resolved"))
    tracker.alert(message("node", "eu-2/n1", 0, 5))
    tracker.changes()
    tracker.alert(message("node", "eu-2/n1", 2000, 2000))
    tracker.changes()
    assert [i.cluster for i in tracker.incidents()] == ["eu-2", "eu-2"][: len(tracker.incidents())]
    assert not any(i.cluster == "eu-1" for i in tracker.incidents())


# --- silences -------------------------------------------------------------------------------------------


def silence(pattern: str, begin: float, end: float, name: str = "s1", said: float = 0.0) -> Silence:
    def at(seconds: float) -> datetime:
        return datetime.fromtimestamp(T0 + seconds, UTC)

    return Silence(id=name, pattern=pattern, starts_at=at(begin), ends_at=at(end), said_at=at(said), by="ann")


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("eu-1/*", ["eu-1", "eu-1/n1", "eu-1/n1/n2"], ["eu-10", "eu-10/n1", "us/eu-1"]),
        ("eu-1", ["eu-1"], ["eu-1/n1"]),
        ("eu-?/n1", ["eu-1/n1", "eu-2/n1"], ["eu-1", "eu-1/n2"]),
        ("*", ["eu-1", "a/b/c"], []),
    ],
)
def test_patterns(pattern: str, yes: list[str], no: list[str]) -> None:
    assert all(matches(pattern, entity) for entity in yes)
    assert not any(matches(pattern, entity) for entity in no)


def test_an_alert_is_silenced_in_its_time_and_place() -> None:
    known = [silence("eu-1/*", 0, 100), silence("eu-1/n1", 50, 200, "s2")]
    alert = message("node", "eu-1/n1", 60, 60)
    by = [silenced(alert, known, T0 + at) for at in (-1, 0, 60, 100, 199, 200)]
    assert [None if s is None else s.id for s in by] == [None, "s1", "s2", "s2", "s2", None]
    assert silenced(message("node", "eu-2/n1", 60, 60), known, T0 + 60) is None


def test_incidents_say_what_silences_them_and_when_it_is_over() -> None:
    known = [silence("eu-1/n*", 0, 100)]
    tracker = IncidentTracker(STREAMS, GAP)
    tracker.alert(message("node", "eu-1/n1", 10, 10))
    (opened,) = tracker.changes(known, T0 + 11)
    assert (opened.action, opened.silenced_by, opened.alerts[0].silenced_by) == ("opened", ["s1"], "s1")
    assert tracker.changes(known, T0 + 50) == []
    (over,) = tracker.changes(known, T0 + 101)
    assert (over.action, over.silenced_by) == ("updated", [])
    tracker.alert(message("consensus", "eu-1", 20, 20))
    assert tracker.changes(known, T0 + 30)[0].silenced_by == [], "one alert that is not silenced is enough"


def test_the_last_word_on_a_silence_counts_and_it_can_be_ended() -> None:
    first = silence("eu-1/*", 0, 1000)
    over = ended(first, datetime.fromtimestamp(T0 + 10, UTC), "ann")
    for order in ([first, over], [over, first], [over, first, over]):
        known = Silences()
        for said in order:
            known.take(build_silence(said)[1], [])
        assert known.current == [over]
    assert not over.covers("eu-1", T0 + 10)


def test_only_signed_silences_count_where_there_are_keys() -> None:
    key = Ed25519PrivateKey.generate()
    known = Silences({"ann": key.public_key()})
    _, value, _ = build_silence(silence("a", 0, 1))
    assert known.take(value, []) is None
    assert known.take(*build_silence(silence("a", 0, 1), ("bob", key))[1:]) is None
    assert known.take(*build_silence(silence("a", 0, 1), ("ann", Ed25519PrivateKey.generate()))[1:]) is None
    assert known.take(*build_silence(silence("a", 0, 1), ("ann", key))[1:]) is not None
    assert dict(known.refused) == {"unsigned": 1, "unknown_key": 1, "bad_signature": 1}

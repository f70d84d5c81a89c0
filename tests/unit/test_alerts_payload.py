"""Alert identity and payload."""

import json
import math
import string

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dwcp_stream.alerts import AlertSource, Transition, build_alert, ce_id, fingerprint
from dwcp_stream.streams.definition import Field

FIELDS = (
    Field(name="queue_depth"),
    Field(name="latency_p99", unit="ms"),
    Field(name="mode", vocabulary=("datacenter", "internet")),
    Field(name="leader_changes"),
    Field(name="idle"),
)
SOURCE = AlertSource("consensus", "consensus_anomaly", "consensus-lstm-ae", 3, FIELDS)
FIRING = Transition(0, 5, "firing", 1.7e9, math.nan, 1.7e9 + 2.25, 2.5, "critical", "threshold")
RESOLVED = Transition(9, 5, "resolved", 1.7e9, 1.7e9 + 60, 1.7e9 + 62, 0.2, "critical", "recovered")
VALUES = np.array([120.0, 85.123456789, 1.0, np.nan, 0.0], np.float32)
EXPECTED = np.array([30.0, 20.0, 0.0, 0.0, np.nan], np.float32)
CONTRIBUTION = np.array([0.5, 1.5, 0.1, 0.3, np.nan], np.float32)

TEXT = st.text(string.printable, max_size=8)


def body(output):
    return json.loads(output.value)


def header(output, name):
    return dict(output.headers)[name].decode()


def test_a_firing_alert_has_alertmanagers_fields_and_more():
    output = build_alert(SOURCE, "c1/g1", FIRING, values=VALUES, expected=EXPECTED, contribution=CONTRIBUTION)
    alert = body(output)
    assert alert["labels"] == {
        "alertname": "consensus_anomaly",
        "stream": "consensus",
        "entity": "c1/g1",
        "model": "consensus-lstm-ae",
        "severity": "critical",
    }
    assert alert["startsAt"] == "2023-11-14T22:13:20.000Z"
    assert "endsAt" not in alert
    assert "generatorURL" not in alert
    assert alert["event_time"] == "2023-11-14T22:13:22.250Z"
    assert (alert["action"], alert["severity"], alert["score"]) == ("firing", "critical", 2.5)
    assert [f["name"] for f in alert["fields"]] == ["latency_p99", "queue_depth", "leader_changes"]
    assert alert["fields"][0] == {
        "name": "latency_p99", "value": 85.1235, "expected": 20.0, "contribution": 1.5, "unit": "ms",
    }  # fmt: skip
    assert alert["fields"][2]["value"] is None
    assert "latency_p99 85.12 (expected 20)" in alert["annotations"]["summary"]
    assert output.key.decode() == alert["fingerprint"]
    assert header(output, "ce_type") == "dwcp.anomaly.firing"
    assert header(output, "ce_subject") == "c1/g1"


def test_a_resolved_alert_has_an_end_and_keeps_its_fingerprint():
    first, last = build_alert(SOURCE, "c1", FIRING), build_alert(SOURCE, "c1", RESOLVED)
    assert body(last)["endsAt"] == "2023-11-14T22:14:20.000Z"
    assert body(last)["startsAt"] == body(first)["startsAt"]
    assert first.key == last.key
    assert header(first, "ce_id") != header(last, "ce_id")
    assert "resolved after 60 s, back to normal" in body(last)["annotations"]["summary"]


def test_expiry_is_told_as_such_and_its_score_is_null():
    expired = Transition(-1, 5, "resolved", 1.7e9, 1.7e9 + 9, 1.7e9 + 9, math.nan, "warning", "expired")
    alert = body(build_alert(SOURCE, "c1", expired, state="stale"))
    assert (alert["reason"], alert["score"], alert["state"], alert["fields"]) == (
        "expired",
        None,
        "stale",
        [],
    )
    assert "no samples" in alert["annotations"]["summary"]


def test_categories_are_shown_by_name():
    mode = np.array([0, 0, 9, 0, 0], np.float32)
    alert = body(build_alert(SOURCE, "c1", FIRING, values=VALUES, expected=EXPECTED, contribution=mode))
    assert alert["fields"] == [
        {"name": "mode", "value": "internet", "expected": "datacenter", "contribution": 9.0, "unit": "1"}
    ]


def test_without_contributions_fields_are_ranked_by_relative_deviation():
    alert = body(build_alert(SOURCE, "c1", FIRING, values=VALUES, expected=EXPECTED))
    assert [f["name"] for f in alert["fields"]] == ["mode", "latency_p99", "queue_depth"]
    assert body(build_alert(SOURCE, "c1", FIRING, values=VALUES))["fields"] == []


def test_severity_and_version_are_not_part_of_the_fingerprint():
    other = AlertSource("consensus", "consensus_anomaly", "consensus-lstm-ae", 4, FIELDS, "http://x/")
    output = build_alert(other, "c1", RESOLVED)
    assert output.key == build_alert(SOURCE, "c1", FIRING).key
    assert body(output)["generatorURL"] == "http://x/"


@given(st.tuples(TEXT, TEXT, TEXT, TEXT), st.tuples(TEXT, TEXT, TEXT, TEXT))
def test_fingerprints_differ_exactly_when_labels_do(a, b):
    assert (fingerprint(*a) == fingerprint(*b)) == (a == b)


TIMES = st.floats(1.6e9, 1.8e9)
EVENTS = st.tuples(TEXT, TIMES, st.sampled_from(["firing", "escalated", "resolved"]), TIMES)


@given(EVENTS, EVENTS)
def test_ids_differ_exactly_when_events_do(a, b):
    assert (ce_id(*a) == ce_id(*b)) == (a == b)


def test_ids_are_the_same_in_every_process_and_release():
    mark = fingerprint("consensus_anomaly", "consensus", "c1/g1", "consensus-lstm-ae")
    assert mark == "c9f061b9a986e813e8b14cd0bde3c62a"
    assert ce_id(mark, 1.7e9, "firing", 1700000002) == "b817e30927644d1612581be8b1e16ff5"
    assert ce_id(mark, np.nextafter(1.7e9, 2e9), "firing", 1700000002.0) != "b817e30927644d1612581be8b1e16ff5"

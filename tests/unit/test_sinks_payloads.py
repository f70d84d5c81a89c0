"""What Alertmanager, Slack, PagerDuty and other webhooks are sent, against what their makers say they take."""

from datetime import datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dwcp_stream.events import AlertField
from dwcp_stream.sinks import Telling, alertmanager, templates
from tests.unit.sink_cases import BEGIN, alert

SLACK_HEADER, SLACK_SECTION, SLACK_FIELDS, SLACK_FIELD, SLACK_BLOCKS = 150, 3000, 10, 2000, 50
PD_SEVERITIES = {"critical", "error", "warning", "info"}
NOW = BEGIN + 100


def moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def test_what_fires_ends_a_while_ahead():
    (body,) = alertmanager.told([Telling(alert(), None)], NOW, 300.0)
    assert body["labels"]["severity"] == "warning"
    assert (moment(body["startsAt"]), moment(body["endsAt"])) == (BEGIN, NOW + 300)
    assert body["generatorURL"] == "https://wiki.example/hot"
    assert all(isinstance(text, str) and text for text in body["annotations"].values())


def test_an_escalation_ends_the_alert_with_the_labels_of_before():
    first, second = alert(), alert("escalated", at=3)
    old, new = alertmanager.told([Telling(second, first)], NOW, 300.0)
    assert (old["labels"]["severity"], moment(old["endsAt"])) == ("warning", NOW)
    assert (new["labels"]["severity"], moment(new["endsAt"])) == ("critical", NOW + 300)


def test_the_end_is_that_of_the_alert():
    (body,) = alertmanager.told([Telling(alert("resolved", at=9), alert())], NOW, 300.0)
    assert moment(body["endsAt"]) == BEGIN + 9


@given(since=st.floats(-1e6, 1e6), at=st.floats(-1e6, 1e6), action=st.sampled_from(["firing", "resolved"]))
def test_no_alert_ends_before_it_begins_nor_begins_in_the_future(since, at, action):
    bodies = alertmanager.told([Telling(alert(action, at=at, since=since), alert(severity="critical"))], NOW, 300.0)
    for body in bodies:
        assert moment(body["startsAt"]) <= min(moment(body["endsAt"]), NOW + 0.001)
    assert (moment(bodies[-1]["endsAt"]) > NOW + 1) == (action == "firing")


def slack_blocks(message: dict) -> list[dict]:
    (attachment,) = message["attachments"]
    return attachment["blocks"]


texts = st.text(max_size=4000)
fields = st.lists(st.builds(AlertField, texts, st.none() | st.floats() | texts), max_size=3)


@given(entity=texts, kind=st.none() | texts, summary=texts, fields=fields)
def test_slack_takes_any_alert(entity, kind, summary, fields):
    message = templates.slack(alert(entity=entity, kind=kind, annotations={"summary": summary}, fields=fields))
    blocks = slack_blocks(message)
    assert 0 < len(blocks) <= SLACK_BLOCKS
    for block in blocks:
        if block["type"] == "header":
            assert block["text"]["type"] == "plain_text"
            assert 0 < len(block["text"]["text"]) <= SLACK_HEADER
        for text in [block["text"]] if block["type"] == "section" and "text" in block else []:
            assert 0 < len(text["text"]) <= SLACK_SECTION
            assert "<" not in text["text"]
        for text in block.get("fields", []):
            assert 0 < len(text["text"]) <= SLACK_FIELD
        assert len(block.get("fields", [])) <= SLACK_FIELDS
    assert message["text"]


def test_slack_says_what_and_escapes_what_it_would_take_for_markup():
    message = templates.slack(alert())
    title, sentence, facts, _ = slack_blocks(message)
    assert title["text"]["text"] == "WARNING: Hot on eu-1/n1"
    assert "cpu &lt;95&gt; &amp; rising" in sentence["text"]["text"]
    assert {"type": "mrkdwn", "text": "*cpu*\n95 % (expected 40)"} in facts["fields"]
    end = templates.slack(alert("resolved", at=9))
    assert end["text"].startswith("RESOLVED: ")
    assert end["attachments"][0]["color"] != message["attachments"][0]["color"]


@given(entity=texts.filter(bool), summary=texts, action=st.sampled_from(["firing", "escalated", "resolved"]))
def test_pagerduty_takes_any_alert(entity, summary, action):
    event = templates.pagerduty(alert(action, entity=entity, annotations={"summary": summary}), "k" * 32)
    assert event["event_action"] == ("resolve" if action == "resolved" else "trigger")
    assert 0 < len(event["dedup_key"]) <= 255
    assert event["routing_key"] == "k" * 32
    if action != "resolved":
        payload = event["payload"]
        assert {"summary", "source", "severity"} <= payload.keys()
        assert 0 < len(payload["summary"]) <= 1024
        assert payload["severity"] in PD_SEVERITIES
        moment(payload["timestamp"])
    assert len(msgspec.json.encode(event)) < 512 * 1024


def test_an_incident_is_found_again_by_its_end_and_by_a_rise():
    keys = {templates.pagerduty(alert(action, at=at), "k")["dedup_key"] for action, at in
            (("firing", 0), ("escalated", 3), ("resolved", 9))}  # fmt: skip
    assert len(keys) == 1


def test_the_generic_template_is_the_alert_with_a_status():
    body = templates.generic(alert("resolved", at=9))
    assert (body["status"], body["version"], body["startsAt"]) == ("resolved", "1", "2023-11-14T22:13:20.000Z")
    assert body["fields"][0] == {"name": "cpu", "value": 95.0, "expected": 40.0, "contribution": 0.9, "unit": "%"}


@pytest.mark.parametrize("severity", ["warning", "critical", "emergency"])
def test_every_severity_has_a_word_of_pagerduty_and_a_colour(severity):
    assert templates.pagerduty(alert(severity=severity), "k")["payload"]["severity"] == templates.PAGERDUTY[severity]
    assert templates.slack(alert(severity=severity))["attachments"][0]["color"] == templates.COLOURS[severity]

"""Settings of sinks, waiting times, and the command without Kafka."""

import asyncio
import json
from datetime import UTC, datetime
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dwcp_stream.cli.main import run
from dwcp_stream.errors import ConfigError
from dwcp_stream.settings import Settings, load_settings
from dwcp_stream.sinks import sinks_of
from dwcp_stream.sinks.backoff import MOST_ASKED, Backoff
from dwcp_stream.sinks.client import http_session, retry_after
from dwcp_stream.telemetry.redact import Redactor, secrets_of
from tests.unit.sink_cases import Receiver

HOOK = "https://hooks.slack.example/services/T0/B0/abcdef"
WEBHOOKS = [
    {"name": "chat", "url": HOOK, "template": "slack"},
    {"name": "page", "url": "https://pagerduty.example/v2/enqueue", "template": "pagerduty", "routing_key": "r" * 32,
     "severity": "critical", "headers": {"X-Token": "t0k3n-of-mine"}},
]  # fmt: skip


def test_sinks_come_from_variables(monkeypatch):
    monkeypatch.setenv("DWCP_SINKS__ALERTMANAGER_URLS", '["http://am-1:9093", "https://AM-2/prefix/"]')
    monkeypatch.setenv("DWCP_SINKS__ALERTMANAGER_HEADERS", '{"Authorization": "Bearer x"}')
    monkeypatch.setenv("DWCP_SINKS__WEBHOOKS", json.dumps(WEBHOOKS))
    sinks = sinks_of(load_settings().sinks)
    assert [(sink.name, sink.url) for sink in sinks[:2]] == [
        ("alertmanager-am-1-9093", "http://am-1:9093/api/v2/alerts"),
        ("alertmanager-am-2", "https://AM-2/prefix/api/v2/alerts"),
    ]
    assert sinks[0].headers == {"Authorization": "Bearer x"}
    assert [(sink.name, sink.severity, sink.forgets) for sink in sinks[2:]] == [
        ("chat", "warning", False),
        ("page", "critical", False),
    ]


def test_every_secret_of_a_sink_is_known_to_the_redactor_and_none_is_printed():
    settings = Settings(sinks={"webhooks": WEBHOOKS, "alertmanager_headers": {"Authorization": "Bearer abc.def"}})
    secrets = {HOOK, "r" * 32, "t0k3n-of-mine", "Bearer abc.def"}
    assert secrets <= secrets_of(settings)
    text = Redactor(secrets_of(settings)).text(f"POST {HOOK} with t0k3n-of-mine")
    shown = f"{settings!r} {settings.model_dump(mode='json')} {text}"
    assert not [secret for secret in secrets if secret in shown]


@pytest.mark.parametrize(
    ("sinks", "words"),
    [
        ({"alertmanager_urls": ["am:9093"]}, "must begin with https:// or http://"),
        ({"alertmanager_urls": ["http://u:secretpw@am:9093"]}, "give an Authorization header"),
        ({"webhooks": [{"name": "a", "url": "ftp://x/secretpw"}]}, "must begin with"),
        ({"webhooks": [{"name": "a", "url": HOOK, "template": "pagerduty"}]}, "routing_key"),
        ({"webhooks": [{"name": "a", "url": HOOK, "routing_key": "secretpw"}]}, "routing_key"),
        ({"webhooks": [{"name": "a", "url": HOOK}, {"name": "a", "url": HOOK}]}, "names of their own"),
        ({"webhooks": [{"name": "alertmanager-x", "url": HOOK}]}, "names of their own"),
        ({"resend_seconds": 200.0}, "at least twice"),
    ],
)
def test_what_is_wrong_is_said_without_repeating_it(sinks, words, tmp_path, monkeypatch):
    for name, value in sinks.items():
        monkeypatch.setenv(f"DWCP_SINKS__{name.upper()}", json.dumps(value))
    with pytest.raises(ConfigError) as caught:
        load_settings()
    assert words in str(caught.value)
    assert "secretpw" not in str(caught.value)
    assert HOOK not in str(caught.value)


@given(attempt=st.integers(0, 10_000), seed=st.integers(), asked=st.none() | st.floats(-1e9, 1e9))
def test_waits_grow_to_a_bound_and_are_no_shorter_than_asked(attempt, seed, asked):
    backoff = Backoff(0.5, 60.0)
    assert backoff.ceiling(attempt) <= backoff.ceiling(attempt + 1) <= 60.0
    wait = backoff.wait(attempt, Random(seed), asked)
    assert 0 <= wait <= MOST_ASKED
    if asked is not None:
        assert wait >= min(max(asked, 0), MOST_ASKED)


def test_jitter_spreads_those_that_failed_together():
    waits = {Backoff().wait(5, Random(seed)) for seed in range(50)}
    assert len(waits) == 50
    assert max(waits) > 10
    assert min(waits) < 5


@pytest.mark.parametrize(
    ("header", "seconds"),
    [(None, None), ("7", 7.0), ("Sat, 28 Nov 2026 12:00:30 GMT", 30.0), ("soon", None), ("", None)],
)
def test_a_server_says_how_long_to_wait(header, seconds):
    assert retry_after(header, datetime(2026, 11, 28, 12, 0, tzinfo=UTC)) == seconds


async def test_a_file_of_authorities_that_is_not_there_is_told(tmp_path):
    with pytest.raises(ConfigError, match="ssl_cafile"):
        async with http_session(1.0, tmp_path / "none.pem"):
            pass


async def test_check_tells_every_sink_and_says_which_took_it(monkeypatch, capsys):
    async with Receiver() as good, Receiver() as bad:
        bad.answers = [403]
        hooks = [{"name": "good", "url": f"{good.url}/hook"}, {"name": "bad", "url": f"{bad.url}/hook"}]
        monkeypatch.setenv("DWCP_SINKS__WEBHOOKS", json.dumps(hooks))
        assert await asyncio.to_thread(run, ["alert-sink", "--check", "--json"]) == 1
        assert [body["status"] for body in good.bodies] == ["firing", "resolved"]
    told = json.loads(capsys.readouterr().out)["sinks"]
    assert [(one["sink"], one["outcome"], one["reason"]) for one in told] == [
        ("good", "taken", "200"),
        ("bad", "failed", "403 told so"),
    ]


def test_the_rights_of_a_sink_are_its_group_and_the_alerts(monkeypatch, capsys):
    monkeypatch.setenv("DWCP_SINKS__ALERTMANAGER_URLS", '["http://am:9093"]')
    assert run(["topics", "acls", "node", "--principal", "User:sink", "--for", "alert-sink", "--json"]) == 0
    rights = {
        (right["resource"], right["name"], right["operation"])
        for right in json.loads(capsys.readouterr().out)["rights"]
    }
    assert rights == {
        ("topic", "dwcp.anomalies", "Read"),
        ("topic", "dwcp.silences", "Read"),
        ("group", "dwcp-stream-alert-sink-alertmanager-am-9093", "Read"),
    }


def test_without_sinks_the_command_says_what_to_do(capsys):
    assert run(["alert-sink"]) == 1
    assert "Set sinks.alertmanager_urls or sinks.webhooks" in capsys.readouterr().err

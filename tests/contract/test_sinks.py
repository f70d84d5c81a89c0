"""What every sink must do, whoever it tells: against a real HTTP server that fails in every way."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from random import Random

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from dwcp_stream.events import Alert
from dwcp_stream.kafka.alert_feed import Transition
from dwcp_stream.setting_sections import SinkSettings
from dwcp_stream.sinks import Ledger, Telling, sinks_of
from dwcp_stream.sinks.backoff import Backoff
from dwcp_stream.sinks.client import http_session, post
from dwcp_stream.sinks.courier import Courier
from dwcp_stream.telemetry.metrics import Metrics
from tests.integration.harness import wait_until
from tests.kafka.certificates import Authority
from tests.unit.sink_cases import BEGIN, Receiver, alert
from topologies.sink_process import SinkReader

SECRET = "Bearer s3cr3t-of-the-sink"
KEY = "r" * 32
KINDS = ("alertmanager", "generic", "slack", "pagerduty")
NOW = BEGIN + 50


def settings_for(kind: str, url: str) -> SinkSettings:
    if kind == "alertmanager":
        given = {"alertmanager_urls": [url], "alertmanager_headers": {"Authorization": SECRET}}
    else:
        more = {"routing_key": KEY} if kind == "pagerduty" else {}
        webhook = {"name": kind, "url": f"{url}/T0/secret-path", "template": kind, "headers": {"Authorization": SECRET}}
        given = {"webhooks": [{**webhook, **more}]}
    return SinkSettings(**given, timeout_seconds=1.0)  # a busy machine needs some of it


class Bench:
    """One sink, its reader and the server it talks to."""

    def __init__(self, kind: str, receiver: Receiver, session, settings: SinkSettings) -> None:
        (sink,) = sinks_of(settings)
        self.kind, self.receiver, self.name = kind, receiver, sink.name
        self.metrics, self.ledger, self.interrupt = Metrics(CollectorRegistry()), Ledger(), asyncio.Event()
        self.courier = Courier(sink, session, self.metrics, 3600.0, 0.2, Backoff(0.001, 0.005), Random(1))
        self.now = NOW
        self.reader = SinkReader(sink, self.courier, self.metrics, settings, lambda: self.now)

    async def tell(self, *alerts: Alert | None) -> int:
        return await self.reader.deliver(self.ledger, [Transition(one, NOW - 1) for one in alerts], self.interrupt)

    def count(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, {"sink": self.name, **labels}) or 0.0

    def heard(self) -> list[str]:
        """`firing` or `resolved`, as the receiver understands what it got."""
        words = []
        for body in self.receiver.bodies:
            if self.kind == "alertmanager":
                words += ["firing" if one["endsAt"] > "2023-11-14T22:15" else "resolved" for one in body]
            elif self.kind == "slack":
                words.append("resolved" if body["text"].startswith("RESOLVED") else "firing")
            elif self.kind == "pagerduty":
                words.append({"trigger": "firing", "resolve": "resolved"}[body["event_action"]])
            else:
                words.append(body["status"])
        return words


@pytest.fixture(params=KINDS)
async def bench(request) -> AsyncIterator[Bench]:
    async with Receiver() as receiver:
        settings = settings_for(request.param, receiver.url)
        async with http_session(settings.timeout_seconds) as session:
            yield Bench(request.param, receiver, session, settings)


async def test_an_alert_fires_once_and_ends(bench):
    assert await bench.tell(alert()) == 1
    assert await bench.tell(alert()) == 1  # the topic repeats it
    assert await bench.tell(alert("resolved", at=9)) == 1
    assert bench.heard() == ["firing", "resolved"]
    assert bench.count("dwcp_sink_sent_total") == 2
    assert bench.count("dwcp_sink_skipped_total", verdict="repeat") == 1
    assert bench.count("dwcp_sink_delay_seconds_count") == 2
    assert bench.receiver.requests[0][0]["Authorization"] == SECRET


@pytest.mark.parametrize("answer", [500, 503, 429, 401, 404, 302, 0])
async def test_what_fails_is_tried_again_until_it_is_taken(bench, answer):
    bench.receiver.answers = [answer, answer]
    assert await bench.tell(alert()) == 1
    assert bench.heard() == ["firing"] * 3
    assert bench.count("dwcp_sink_retries_total") == 2
    assert bench.count("dwcp_sink_sent_total") == 1
    assert bench.count("dwcp_sink_up") == 1


async def test_nobody_there_is_tried_again(bench):
    url = bench.receiver.url
    await bench.receiver._runner.cleanup()
    telling = asyncio.create_task(bench.tell(alert()))
    await wait_until(lambda: bench.count("dwcp_sink_retries_total") >= 3, "three attempts", every=0.001)
    assert bench.count("dwcp_sink_up") == 0
    app = web.Application()
    app.add_routes([web.post("/{path:.*}", bench.receiver._take)])
    bench.receiver._runner = web.AppRunner(app, access_log=None, handle_signals=False)
    await bench.receiver._runner.setup()
    await web.TCPSite(bench.receiver._runner, "127.0.0.1", int(url.rsplit(":", 1)[1])).start()
    assert await telling == 1
    assert bench.heard() == ["firing"]


@pytest.mark.parametrize("answer", [400, 413, 422])
async def test_what_will_never_be_taken_is_dropped_and_counted_and_the_next_goes_on(bench, answer):
    bench.receiver.answers = [answer]
    assert await bench.tell(alert()) == 1
    assert await bench.tell(alert(entity="n2")) == 1
    assert len(bench.receiver.requests) == 2
    assert bench.count("dwcp_sink_dropped_total", reason="refused") == 1
    assert bench.count("dwcp_sink_sent_total") == 1


async def test_after_a_time_it_is_given_up(bench):
    bench.receiver.answers = [500] * 100
    times = iter(range(0, 10_000, 1000))
    bench.courier.clock = lambda: next(times)
    assert await bench.tell(alert()) == 1
    assert bench.count("dwcp_sink_dropped_total", reason="gave_up") == 1
    assert len(bench.receiver.requests) == 4  # at 1000, 2000, 3000 and 4000 seconds


async def test_a_delivery_that_waits_ends_when_it_is_interrupted_and_has_not_had_its_turn(bench):
    bench.receiver.answers = [500] * 10_000
    telling = asyncio.create_task(bench.tell(alert()))
    await wait_until(lambda: bool(bench.receiver.requests), "a request", every=0.001)
    bench.interrupt.set()
    assert await telling == 0


async def test_neither_headers_nor_addresses_are_logged(bench):
    bench.receiver.answers = [500, lambda: web.Response(status=400, text="no")]
    with capture_logs() as logs:
        await bench.tell(alert())
    assert [entry["log_level"] for entry in logs] == ["warning", "error"]
    for secret in (SECRET, KEY, "secret-path"):
        assert secret not in str(logs)


async def test_a_record_that_is_no_alert_is_passed_over(bench):
    assert await bench.tell(None, alert()) == 2
    assert bench.heard() == ["firing"]


async def test_a_new_process_goes_on_where_the_old_one_was(bench):
    bench.reader.remember(bench.ledger, alert())
    assert await bench.tell(alert(), alert("resolved", at=9)) == 2
    assert bench.heard() == ["resolved"]


async def test_only_alertmanager_is_told_again_what_fires(bench):
    await bench.tell(alert(), alert(entity="n2"), alert("resolved", entity="n2", at=9))
    before = len(bench.receiver.requests)
    await bench.reader.idle([bench.ledger], 0, bench.interrupt)
    await bench.reader.idle([bench.ledger], 0, bench.interrupt)  # not due yet
    bench.now += 61
    await bench.reader.idle([bench.ledger], 0, bench.interrupt)
    again = bench.receiver.bodies[before:]
    assert [[one["labels"]["entity"] for one in body] for body in again] == (
        [["eu-1/n1"], ["eu-1/n1"]] if bench.kind == "alertmanager" else []
    )
    if again:
        assert again[1][0]["endsAt"] > again[0][0]["endsAt"]
    assert bench.count("dwcp_sink_firing") == 1


async def test_a_message_says_the_time_of_its_last_attempt(bench):
    if bench.kind != "alertmanager":
        bench.receiver.answers = [500]
        await bench.tell(alert())
        assert bench.receiver.bodies[0] == bench.receiver.bodies[1]  # they hold no time but the alert's
        return

    def later() -> web.Response:
        bench.now += 1000
        return web.Response(status=500)

    bench.receiver.answers = [later]
    await bench.tell(alert())
    first, second = bench.receiver.bodies
    assert second[0]["endsAt"] > first[0]["endsAt"]


async def test_after_a_long_wait_the_rest_is_judged_anew(bench):
    def late() -> web.Response:
        bench.now += 10_000
        return web.Response()

    bench.receiver.answers = [late]
    told = await bench.tell(alert(), alert(entity="n2"))
    assert told == (2 if bench.kind == "alertmanager" else 1)


@pytest.mark.parametrize(
    ("trusted", "expired", "word"), [(True, False, "taken"), (False, False, "failed"), (True, True, "failed")]
)
async def test_https_is_spoken_to_whom_the_authority_signed_only(tmp_path, trusted, expired, word):
    authority, other = Authority(tmp_path / "a"), Authority(tmp_path / "b")
    certificate, key, _ = authority.issue("sink", expired=expired)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    async with Receiver(tls) as receiver, http_session(2.0, (authority if trusted else other).file) as session:
        (sink,) = sinks_of(settings_for("generic", receiver.url))
        answer = await post(session, sink, sink.tell([Telling(alert(), None)], NOW))
        assert answer.word == word, answer
        assert len(receiver.requests) == (word == "taken")
        assert "secret-path" not in answer.reason


async def test_what_is_silenced_is_told_when_the_silence_is_over_if_it_still_fires(bench):
    until = NOW + 100
    bench.reader.hushed = lambda one, at: one.entity == alert().entity and at < until
    assert await bench.tell(alert(), alert("escalated", at=3)) == 2
    await bench.reader.idle([bench.ledger], 0, bench.interrupt)
    assert bench.heard() == []
    assert bench.count("dwcp_sink_skipped_total", verdict="silenced") == 2
    bench.now = until
    await bench.reader.idle([bench.ledger], 0, bench.interrupt)
    assert set(bench.heard()) == {"firing"}
    assert bench.ledger.held == {}
    assert await bench.tell(alert("resolved", at=9)) == 1
    assert "resolved" in bench.heard()


async def test_what_begins_and_ends_in_a_silence_nobody_hears_of(bench):
    bench.reader.hushed = lambda _one, _at: True
    assert await bench.tell(alert(), alert("resolved", at=9)) == 2
    bench.reader.hushed = lambda _one, _at: False
    await bench.reader.idle([bench.ledger], 0, bench.interrupt)
    assert bench.heard() == []


async def test_the_end_of_what_was_told_is_told_in_a_silence_too(bench):
    assert await bench.tell(alert()) == 1
    bench.reader.hushed = lambda _one, _at: True
    assert await bench.tell(alert("resolved", at=9)) == 1
    assert bench.heard() == ["firing", "resolved"]


async def test_after_a_restart_what_began_in_a_silence_is_told_when_it_is_over(bench):
    bench.reader.hushed = lambda _one, at: at < NOW
    bench.reader.remember(bench.ledger, alert())
    assert set(bench.ledger.held) == {alert().fingerprint}
    await bench.reader.idle([bench.ledger], 0, bench.interrupt)
    assert set(bench.heard()) == {"firing"}

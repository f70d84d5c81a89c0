"""What the page makes of records and answers: alerts, tables, scores, forecasts, numbers; and who may see it."""

import asyncio
import socket

import aiohttp
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest

from dwcp_stream.errors import ConfigError
from dwcp_stream.settings import Settings
from dwcp_stream.streams import load_streams
from dwcp_stream.telemetry.metrics import Metrics
from dwcp_stream.web.page import board as board_module
from dwcp_stream.web.page.board import Board
from dwcp_stream.web.page.hub import MOST_WAITING, Hub
from dwcp_stream.web.page.process import Page, addresses, rows
from dwcp_stream.web.page.scrape import quantile, stream_numbers
from dwcp_stream.web.page.server import PageServer
from dwcp_stream.web.page.tracks import POINTS, Rings, Tracks
from dwcp_stream.web.page.workers import Workers, spread

TOKEN = "a-token-of-some-length"


def alert(action="firing", number=0, second=0, severity="warning", fields=("cpu",)):
    body = {
        "labels": {"alertname": "A", "entity": f"e{number}"}, "annotations": {"summary": action},
        "fingerprint": f"f{number}",
        "startsAt": "2026-01-01T00:00:00.000Z", "action": action, "reason": "threshold", "severity": severity,
        "score": 2.0, "kind": None, "state": "scored", "fields": [{"name": f, "value": 1.0} for f in fields],
        "stream": "node", "entity": f"e{number}", "model": "m", "model_version": 1,
        "event_time": f"2026-01-01T00:00:{second:02}.000Z",
    }  # fmt: skip
    if action == "resolved":
        body["endsAt"] = body["event_time"]
    return msgspec.json.encode(body)


def prediction(time="2026-01-01T00:00:00.000Z", entity="e", score=0.5):
    body = {
        "kind": "forecast", "stream": "link", "entity": entity, "model": "m", "version": 1, "arm": "champion",
        "issued_at": time, "score": score, "confidence": 0.7, "levels": [0.1, 0.5, 0.9],
        "forecasts": [
            {"id": "x", "horizon": 1, "target_time": "2026-01-01T00:01:00.000Z", "raw": {"a": [1.0, 2.0, 3.0]},
             "corrected": {"a": [0.5, 2.0, 3.5]}, "confidence": 0.7, "advice": None}
        ],
    }  # fmt: skip
    return msgspec.json.encode(body)


def test_an_alert_is_one_row_and_keeps_why_it_fired():
    board = Board()
    board.take("anomalies", alert(), {})
    board.take("anomalies", alert("escalated", second=5, severity="critical", fields=("disk",)), {})
    row = board.take("anomalies", alert("resolved", second=9, severity="critical", fields=("noise",)), {})
    assert list(board.alerts.values()) == [row]
    assert (row["resolved"], row["severity"], row["ends_at"]) == (True, "critical", "2026-01-01T00:00:09.000Z")
    assert [f["name"] for f in row["fields"]] == ["disk"]
    repeat = board.take("anomalies", alert(), {})  # after a crash
    assert repeat["resolved"]
    assert board.of_entity("node", "e0") == [row]


def test_alerts_are_bounded_and_what_fires_goes_last(monkeypatch):
    monkeypatch.setattr(board_module, "MOST_ALERTS", 3)
    board = Board()
    board.take("anomalies", alert(number=0), {})
    board.take("anomalies", alert(number=1), {})
    board.take("anomalies", alert("resolved", number=1, second=1), {})
    for number in range(2, 4):
        board.take("anomalies", alert(number=number), {})
    assert [row["entity"] for row in board.alerts.values()] == ["e0", "e2", "e3"]
    board.take("anomalies", alert(number=4), {})
    assert [row["entity"] for row in board.alerts.values()] == ["e2", "e3", "e4"]


@given(st.sampled_from(["anomalies", "drift", "models", "accuracy"]), st.binary())
def test_what_cannot_be_read_is_counted(topic, value):
    board = Board()
    assert board.take(topic, value, {"ce_type": b"x"}) is None
    assert board.unreadable == 1
    assert board.take(topic, None, {}) is None  # a tombstone
    assert board.unreadable == 1


def test_tables_hold_the_last_word():
    board = Board()
    for state, previous in (("drifted", "stable"), ("warning", "drifted")):
        drift = {
            "stream": "s", "model": "m", "version": 1, "partition": 0, "state": state, "previous": previous,
            "reasons": ["psi"], "block_start": "", "block_end": "", "event_time": "2026-01-01T00:00:00Z", "signals": {},
            "psi": {}, "psi_n": 0,
        }  # fmt: skip
        board.take("drift", msgspec.json.encode(drift), {})
    decided = {
        "stream": "s", "model": "m", "decision": "promoted", "version": 2, "champion": 2, "reason": "better",
        "numbers": {}, "event_time": "2026-01-01T00:00:00Z",
    }  # fmt: skip
    board.take("models", msgspec.json.encode(decided), {"ce_type": b"dwcp.model.decided"})
    tables = board.tables()
    assert [row["state"] for row in tables["drift"]] == ["warning"]
    assert [row["decision"] for row in tables["decisions"]] == ["promoted"]
    assert tables["forecasts"] == {"hour": [], "day": []}


def test_scores_and_forecasts_are_kept_in_order_of_time():
    tracks = Tracks()
    assert tracks.predicted(prediction("2026-01-01T00:00:01.000Z"))
    assert tracks.predicted(prediction("2026-01-01T00:00:00.000Z", score=9.0))  # read late
    assert not tracks.predicted(b"{")
    assert not tracks.predicted(None)
    assert not tracks.predicted(prediction("yesterday"))
    seen = tracks.of_entity("link", "e", ["m"])
    assert [score for _, score in seen["scores"]["m"]] == [0.5]
    (forecast,) = seen["forecasts"]["m"]
    assert forecast["horizons"] == [[1, 1767225660.0, {"a": [0.5, 2.0, 3.5]}]]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers())))
def test_rings_are_bounded_and_forget_who_was_silent_longest(items):
    rings = Rings(most=4, points=3)
    for key, item in items:
        rings.add(("s", "m", str(key)), item)
    newest = list(dict.fromkeys(key for key, _ in reversed(items)))[:4]
    assert len(rings) == len(newest)
    for key in newest:
        ring = rings["s", "m", str(key)]
        assert 1 <= len(ring) <= 3
        assert ring[-1] == next(item for k, item in reversed(items) if k == key)
    assert POINTS > 3


def test_numbers_of_several_workers_are_added_up():
    texts = []
    for lag in (3, 4):
        metrics = Metrics(CollectorRegistry())
        metrics.samples("node", [10, 0, 1, 2, 0], 5)
        metrics.set("dwcp_consumer_lag", lag, "node", "0")
        metrics.set("dwcp_watermark_timestamp_seconds", 100.0 + lag, "node", "0")
        metrics.set("dwcp_ready", 0 if lag == 4 else 1, "node", "recovered")
        for _ in range(10):
            metrics.detection_latency("node", 0.02)
        texts.append(generate_latest(metrics.registry).decode())
    found = stream_numbers(texts)
    assert found["outcomes"] == {"scored": 20, "warming_up": 0, "duplicate": 2, "late": 4, "invalid": 0}
    assert (found["lag"], found["replayed"], found["watermark"], found["not_ready"]) == (7, 10, 103.0, ["recovered"])
    assert 0 < found["latency"]["p50"] <= found["latency"]["p99"] < 1


def test_quantiles_of_a_histogram():
    assert quantile({}, 0.5) is None
    assert quantile({0.1: 0.0, float("inf"): 0.0}, 0.5) is None
    assert quantile({1.0: 10.0, 2.0: 20.0, float("inf"): 20.0}, 0.75) == pytest.approx(1.5)
    assert quantile({1.0: 0.0, float("inf"): 4.0}, 0.5) == 1.0  # beyond the last bound nothing more is known


def test_rows_take_the_worst_of_the_models():
    listed = {
        "entities": [
            {"entity": "e", "time": 5.0, "scores": [None, 1.5, 0.2], "severities": [None, "critical", "warning"]}
        ]
    }
    assert rows(listed) == {"e": ["e", 5.0, 1.5, "critical"]}


def test_the_workers_of_this_machine_or_those_named_are_asked():
    streams = load_streams(Settings().streams_dir)
    assert addresses(Settings(), streams) == {
        "http://127.0.0.1:9470": "consensus", "http://127.0.0.1:9471": "link", "http://127.0.0.1:9472": "node",
    }  # fmt: skip
    named = Settings(page={"workers": "http://10.0.0.5:9470, http://[::1]:9470"}, http={"port": 0})
    assert list(addresses(named, streams)) == ["http://10.0.0.5:9470", "http://[::1]:9470"]
    with pytest.raises(ConfigError, match=r"http\.port"):
        addresses(Settings(http={"port": 0}), streams)
    with pytest.raises(ValueError, match="an address is not like"):
        Settings(page={"workers": "10.0.0.5/entities"})


async def test_a_browser_that_does_not_keep_up_is_let_go():
    hub = Hub()
    with hub.joined() as slow, hub.joined() as quick:
        for number in range(MOST_WAITING + 5):
            hub.send("n", number)
            if number < MOST_WAITING + 4:
                assert await anext(quick) == f"event: n\ndata: {number}\n\n".encode()
        assert len([event async for event in slow]) == MOST_WAITING
        assert len(hub) == 1
        hub.close()
        assert len([event async for event in quick]) == 1


@pytest.fixture
def page():
    return Page(Settings(), load_streams(Settings().streams_dir))


async def test_only_loopback_names_and_nothing_from_elsewhere(page):
    server = PageServer(page, "127.0.0.1", 0, None)
    await server.start()
    try:
        async with aiohttp.ClientSession() as session:
            async with session.get(server.url) as answer:
                assert answer.status == 200
                text = await answer.text()
                policy = answer.headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert "http" not in text.replace("http-equiv", "")
            async with session.get(server.url, headers={"Host": "evil.example"}) as answer:
                assert answer.status == 403
            async with session.get(server.url + "/static/../server.py") as answer:
                assert answer.status == 404
            async with session.get(server.url + "/events") as answer:
                assert answer.headers["Content-Type"] == "text/event-stream"
                assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
                while not (line := await answer.content.readline()).startswith(b"data: "):
                    pass
                assert msgspec.json.decode(line[6:])["alerts"] == []
                page.hub.send("alert", {"key": "k"})
                async with asyncio.timeout(5):
                    while await answer.content.readline() != b'data: {"key":"k"}\n':
                        pass
    finally:
        await server.stop()


async def test_beyond_loopback_the_token_is_asked_for(page):
    server = PageServer(page, "127.0.0.1", 0, TOKEN)
    await server.start()
    try:
        jar = aiohttp.CookieJar(unsafe=True)
        async with aiohttp.ClientSession(cookie_jar=jar) as session:
            async with session.get(server.url) as answer:
                assert answer.url.path == "/login"
            async with session.get(server.url + "/events") as answer:
                assert answer.status == 401
                assert "Content-Security-Policy" in answer.headers
            async with session.post(server.url + "/login", data={"token": "wrong"}) as answer:
                assert answer.url.path == "/login"
            async with session.post(server.url + "/login", data={"token": TOKEN}) as answer:
                assert (answer.status, answer.url.path) == (200, "/")
                cookie = answer.history[0].headers["Set-Cookie"]
                assert "HttpOnly" in cookie
                assert "SameSite=Strict" in cookie
                assert TOKEN not in cookie
        bearer = {"Authorization": f"Bearer {TOKEN}"}
        async with aiohttp.ClientSession() as session, session.get(server.url, headers=bearer) as answer:
            assert (answer.status, answer.url.path) == (200, "/")
    finally:
        await server.stop()


async def test_a_name_may_stand_for_several_workers():
    async def looked_up(host, port):
        if host == "nowhere":
            raise OSError("not known")
        return {"one": ["10.0.0.1"], "many": ["10.0.0.1", "fd00::1"]}[host]

    assert await spread("http://many:9470", looked_up) == ["http://10.0.0.1:9470", "http://[fd00::1]:9470"]
    for alone in (
        "http://one:9470",
        "http://nowhere:9470",
        "http://10.0.0.7:9470",
        "http://[::1]:1",
        "https://many:9470",
    ):
        assert await spread(alone, looked_up) == [alone]


async def test_silent_addresses_are_said_and_never_asked_elsewhere():
    found: list[str] = []

    async def looked_up(host, port):
        found.append(host)
        return ["127.0.0.2", "127.0.0.3"]

    with socket.socket() as nobody:  # bound, but it does not listen
        nobody.bind(("127.0.0.1", 0))
        address = f"http://workers.example:{nobody.getsockname()[1]}"
        async with Workers({address: "node"}, None, looked_up) as workers:
            answers = await workers.ask()
            await workers.ask()
            assert await workers.entity("node", "e") is None
            assert await workers.entity("link", "e") is None
    assert found == ["workers.example"]  # not looked up at every turn
    assert sorted(answers["node"].silent) == [address.replace("workers.example", f"127.0.0.{n}") for n in (2, 3)]

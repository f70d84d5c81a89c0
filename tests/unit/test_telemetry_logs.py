"""Logs: one handler for all, two formats, no secrets, no floods."""

import io
import itertools
import json
import logging
import warnings

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from dwcp_stream.setting_sections import KafkaSettings, LogSettings
from dwcp_stream.settings import Settings
from dwcp_stream.telemetry.logs import configure_logging
from dwcp_stream.telemetry.redact import HIDDEN, Redactor, secrets_of
from dwcp_stream.telemetry.repeats import MOST_KEYS, RepeatLimiter


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def output() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def configure(output, clock):
    def set_up(secrets=(), stream=None, **settings):
        configure_logging(LogSettings(**settings), secrets=secrets, stream=stream or output, clock=clock)

    return set_up


def lines(output: io.StringIO) -> list[dict]:
    return [json.loads(line) for line in output.getvalue().splitlines()]


def test_json_when_not_a_terminal_and_console_when_one(configure, output):
    configure()
    structlog.get_logger("a").info("chunk", stream="node", samples=3)
    (line,) = lines(output)
    assert {
        "event": "chunk",
        "stream": "node",
        "samples": 3,
        "level": "info",
        "logger": "a",
    }.items() <= line.items()
    assert line["timestamp"].endswith("Z")
    terminal = Terminal()
    configure(stream=terminal)
    structlog.get_logger("a").info("chunk", stream="node")
    assert "chunk" in terminal.getvalue()
    assert not terminal.getvalue().startswith("{")
    forced = Terminal()
    configure(stream=forced, json=True)
    structlog.get_logger("a").info("chunk")
    assert lines(forced)[0]["event"] == "chunk"


def test_libraries_speak_through_the_same_handler_and_only_from_warning_on(configure, output):
    logging.getLogger("aiokafka").addHandler(logging.NullHandler())
    configure()
    for name in ("aiokafka.consumer", "faust.app", "mode.worker"):
        logging.getLogger(name).info("chatter")
        logging.getLogger(name).warning("lost %s", name)
    assert [line["event"] for line in lines(output)] == [
        "lost aiokafka.consumer",
        "lost faust.app",
        "lost mode.worker",
    ]
    assert not logging.getLogger("aiokafka").handlers
    configure(level="debug")
    logging.getLogger("mode.worker").debug("chatter")
    assert lines(output)[-1]["event"] == "chatter"


def test_the_level_holds_for_structlog(configure, output):
    configure(level="warning")
    structlog.get_logger("a").info("no")
    structlog.get_logger("a").warning("yes")
    assert [line["event"] for line in lines(output)] == ["yes"]


def test_python_warnings_are_logged(configure, output):
    configure()
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        logging.captureWarnings(capture=False)
        configure()
        warnings.warn("old thing", DeprecationWarning, stacklevel=1)
    assert "old thing" in lines(output)[0]["event"]


def test_what_is_bound_in_the_context_is_in_every_line(configure, output):
    configure()
    with structlog.contextvars.bound_contextvars(partition=3):
        structlog.get_logger("a").info("one")
        logging.getLogger("b").warning("two")
    assert [line["partition"] for line in lines(output)] == [3, 3]


SECRET = "hunter2-hunter2"


@pytest.mark.parametrize("as_json", [True, False])
def test_no_secret_is_ever_written(configure, output, as_json):
    configure(secrets=[SECRET], json=as_json)
    log = structlog.get_logger("a")
    log.info("by key", password="p4ss", sasl_plain_password="p4ss", token="p4ss", nested=[{"api_key": "p4ss"}])
    log.info("by url", url="https://user:p4ss@host:1/x", text="see kafka://u:p4ss@h, then")
    log.info("by value", text=f"said {SECRET} twice {SECRET}", number=1, thing=object(), s=SecretStr(SECRET))
    log.info("in the event %s", SECRET)
    log.info("repr", options=repr({"sasl_plain_password": "p4ss"}), call="login(user='u', password='p4ss', x=1)")
    logging.getLogger("aiokafka").warning("login %s failed", {"sasl_plain_password": "p4ss", "x": SECRET})
    try:
        int(SECRET)  # its message repeats what it was given
    except ValueError:
        log.exception("failed")
        logging.getLogger("faust").exception("failed too")
    shown = output.getvalue()
    assert "p4ss" not in shown
    assert SECRET not in shown
    assert shown.count("Traceback") == 2
    assert "host:1/x" in shown
    assert "x=1" in shown


def test_what_is_no_secret_stays():
    redactor = Redactor()
    event = {
        "event": "read https://host/path?x=1",
        "n": 1,
        "ok": True,
        "x": 1.5,
        "none": None,
        "l": (1, "a@b"),
    }
    assert redactor.value(event) == {**event, "l": [1, "a@b"]}
    assert redactor.value({"password": None}) == {"password": None}


@given(st.text(min_size=1), st.text(), st.text())
def test_a_known_value_is_taken_out_of_any_text(secret, before, after):
    clean = Redactor([secret]).text(f"{before}{secret}{after}")
    assert secret in HIDDEN or not any(secret in part for part in clean.split(HIDDEN))


def test_the_settings_tell_their_secrets():
    kafka = KafkaSettings(sasl_password=SecretStr("one"), ssl_key_password=SecretStr("two"))
    assert secrets_of(Settings(kafka=kafka)) == {"one", "two"}


def test_repeated_errors_are_written_once_an_interval_with_the_number_left_out(configure, output, clock):
    configure(repeat_seconds=60)
    log = structlog.get_logger("a")
    for offset in range(1000):
        log.error("dead letter", error_type="undecodable", stream="node", offset=offset)
        logging.getLogger("aiokafka").error("no broker %d", offset)
    log.error("dead letter", error_type="wrong_type", stream="node", offset=0)
    for offset in range(50):
        log.info("not limited", offset=offset)
    told = lines(output)
    assert [line["event"] for line in told[:3]] == ["dead letter", "no broker 0", "dead letter"]
    assert "held_back" not in told[0]
    assert len(told) == 53
    clock.now = 60.0
    log.error("dead letter", error_type="undecodable", stream="node", offset=1)
    logging.getLogger("aiokafka").error("no broker %d", 1)
    assert [line["held_back"] for line in lines(output)[53:]] == [999, 999]


def test_zero_seconds_write_everything(configure, output):
    configure(repeat_seconds=0)
    for _ in range(5):
        structlog.get_logger("a").error("again")
    assert len(lines(output)) == 5


@given(st.lists(st.tuples(st.floats(0, 30), st.integers(0, 2)), max_size=60))
def test_nothing_is_let_through_twice_within_an_interval_and_all_are_counted(steps):
    clock = Clock()
    limiter = RepeatLimiter(10.0, clock)
    through: dict[int, list[float]] = {}
    reported = dict.fromkeys(range(3), 0)
    seen = dict.fromkeys(range(3), 0)
    for wait, key in steps:
        clock.now += wait
        seen[key] += 1
        held = limiter.admit(key)
        if held is not None:
            through.setdefault(key, []).append(clock.now)
            reported[key] += 1 + held
            assert reported[key] == seen[key]
    for times in through.values():
        assert all(later - earlier >= 10.0 for earlier, later in itertools.pairwise(times))


def test_the_limiter_remembers_a_bounded_number_of_keys(clock):
    limiter = RepeatLimiter(10.0, clock)
    for key in range(3 * MOST_KEYS):
        assert limiter.admit(key) == 0
    assert len(limiter._seen) == MOST_KEYS


def test_a_secret_is_found_as_bytes_and_as_json_too():
    secret = "pä\"ss\\1'x"
    redactor = Redactor([secret])
    for text in (
        secret,
        repr(secret),
        repr(secret.encode()),
        json.dumps(secret),
        json.dumps(secret, ensure_ascii=False),
    ):
        clean = redactor.text(f"auth_bytes={text}.")
        assert "ss" not in clean.removeprefix("auth_bytes"), text
        assert "***" in clean


@pytest.mark.timeout(20)
@pytest.mark.parametrize("piece", ["x", "token", "://", "password='", 'secret="', "token  ", "://a@", "api_token=a "])
def test_a_long_text_takes_no_time_by_the_square_of_its_length(piece):
    """With log level debug aiokafka shows whole payloads, which anyone may have sent."""
    text = piece * (3_000_000 // len(piece))
    assert len(Redactor(["hunter2"]).text(text)) <= 4 * len(text)

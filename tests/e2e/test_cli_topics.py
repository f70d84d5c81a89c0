"""broker, topics, replay and doctor as a user runs them: output, files of numbers, exit codes."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from dwcp_stream.kafka.catalogue import OWN
from dwcp_stream.kafka.clients import producer_client
from tests.integration import probe
from tests.integration.harness import make_settings

pytestmark = pytest.mark.kafka


@pytest.fixture
def cli(kafka, tmp_path, topic_prefix):
    """Run `dwcp-stream` against the broker, with the probe stream and its model."""
    stream = probe.write_definition(tmp_path / "streams", "telemetry.probe")
    probe.publish_model(tmp_path / "models", stream)
    environment = {
        **os.environ,
        "DWCP_KAFKA__BOOTSTRAP_SERVERS": kafka.bootstrap,
        "DWCP_KAFKA__REQUEST_TIMEOUT": "5",
        "DWCP_TOPICS__PREFIX": topic_prefix,
        "DWCP_TOPICS__PARTITIONS": "2",
        "DWCP_STREAMS_DIR": str(tmp_path / "streams"),
        "DWCP_MODELS_DIR": str(tmp_path / "models"),
        "DWCP_APP_ID": topic_prefix + "app",
        "DWCP_HTTP__PORT": "0",
    }

    def run(*arguments: str | Path, code: int = 0, **more: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "dwcp_stream", *map(str, arguments)],
            env=environment | more,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout if code == 0 or "--json" in arguments else done.stderr

    return run


SAMPLE = b'{"id":"n1","ts":1700000100,"value":0.5}'


async def send(bootstrap: str, topic: str, key: bytes, value: bytes) -> None:
    async with producer_client(make_settings(bootstrap)) as producer:
        await producer.send_and_wait(topic, key=key, value=value)


@pytest.fixture
def data(tmp_path) -> Path:
    path = tmp_path / "data.csv"
    rows = [(1_700_000_000 + s, f"n{n}", 0.5, s) for s in range(50) for n in range(4)]
    pl.DataFrame(rows, schema=["ts", "id", "value", "requests"], orient="row").write_csv(path)
    return path


def test_topics_are_created_once_and_listed(cli, topic_prefix) -> None:
    created = json.loads(cli("topics", "create", "--json"))
    assert f"{topic_prefix}telemetry.probe" in created["created"]
    assert len(created["created"]) == len(OWN) + 1
    again = json.loads(cli("topics", "create", "--json"))
    assert (again["created"], sorted(again["existing"])) == ([], sorted(created["created"]))
    listed = {t["name"]: t for t in json.loads(cli("topics", "list", "--json"))["topics"]}
    assert listed.keys() == set(created["created"])
    assert all(t["exists"] and t["differences"] == [] for t in listed.values())
    assert listed[topic_prefix + "models"]["partitions"] == 1
    assert "missing" not in cli("topics", "list")


def test_topics_that_are_missing_are_said_with_the_remedy(cli) -> None:
    text = cli("topics", "list")
    assert text.count("missing") >= 9
    assert "dwcp-stream topics create" in text


def test_replay_sends_a_file_and_says_what_it_sent(cli, data, topic_prefix) -> None:
    message = cli("replay", "probe", "--data", data, "--speed", "max", code=1)
    assert re.search(r"telemetry\.probe: does not exist\. Run: dwcp-stream topics create", message)
    cli("topics", "create")
    sent = json.loads(cli("replay", "probe", "--data", data, "--speed", "max", "--json"))
    assert (sent["sent"], sent["entities"], sent["topic"]) == (200, 4, f"{topic_prefix}telemetry.probe")
    assert json.loads(cli("replay", "probe", "--data", data, "--speed", "500", "--limit", "9", "--json"))["sent"] == 9
    assert "10 samples of 4 entities" in cli("replay", "probe", "--data", data, "--speed", "max", "--limit", "10")


def test_replay_says_what_is_wrong_with_its_arguments(cli, data, tmp_path) -> None:
    assert "there is no stream 'nosuch'" in cli("replay", "nosuch", "--data", data, code=1)
    assert "none.csv" in cli("replay", "probe", "--data", tmp_path / "none.csv", code=1)
    assert "neither a positive number nor max" in cli("replay", "probe", "--data", data, "--speed", "-3", code=2)
    assert "--data" in cli("replay", "probe", code=2)


def problems(report: str) -> dict[str, str]:
    """The problems of a JSON report of doctor, by check."""
    return {f["check"]: f["what"] for f in json.loads(report)["findings"] if f["level"] == "problem"}


def test_doctor_finds_nothing_or_what_is_wrong(cli, data, kafka, topic_prefix) -> None:
    assert problems(cli("doctor", "--json", code=1)) == {"topics": "does not exist"}
    cli("topics", "create")
    cli("replay", "probe", "--data", data, "--speed", "max")
    report = json.loads(cli("doctor", "--json"))
    assert report["ok"] is True
    assert report["findings"] == []
    assert report["broker"]["version"] == "4.1 or later"
    assert report["records"][0]["entities"] == 4
    assert report["models"] == [{"stream": "probe", "model": probe.MODEL, "version": 1}]
    assert "nothing is wrong" in cli("doctor")
    # a sender whose key is the host, not the entity
    asyncio.run(send(kafka.bootstrap, f"{topic_prefix}telemetry.probe", key=b"host7", value=SAMPLE))
    assert "n1 has key b'host7'" in problems(cli("doctor", "--json", code=1))["record keys"]


def test_doctor_names_a_broken_model_and_a_broken_definition(cli, tmp_path) -> None:
    cli("topics", "create")
    (tmp_path / "models" / probe.MODEL / "1" / "model.onnx").write_bytes(b"not a model")
    report = json.loads(cli("doctor", "--json", code=1))
    (found,) = [f for f in report["findings"] if f["level"] == "problem"]
    assert found["check"] == "models"
    assert found["remedy"]
    (tmp_path / "streams" / "probe.toml").write_text("name = 3")
    report = json.loads(cli("doctor", "--json", code=1))
    assert any(f["check"] == "streams" and "probe.toml" in f["where"] for f in report["findings"])


def test_doctor_says_which_model_only_stands_in(cli, tmp_path) -> None:
    cli("topics", "create")
    (tmp_path / "models").rename(tmp_path / "elsewhere")
    report = json.loads(cli("doctor", "--json"))
    assert report["models"] == [{"stream": "probe", "model": probe.MODEL, "version": 0}]
    (found,) = [f for f in report["findings"] if f["check"] == "models"]
    assert (found["level"], found["where"]) == ("note", f"{tmp_path}/models: {probe.MODEL}")
    assert "no version is published" in found["what"]


def test_no_broker_is_one_line_on_stderr(cli) -> None:
    message = cli("topics", "list", code=1, DWCP_KAFKA__BOOTSTRAP_SERVERS="127.0.0.1:1")
    assert "127.0.0.1:1: no broker answers" in message
    assert "Traceback" not in message
    report = json.loads(cli("doctor", "--json", code=1, DWCP_KAFKA__BOOTSTRAP_SERVERS="127.0.0.1:1"))
    assert [f["check"] for f in report["findings"]] == ["broker"]


def test_the_embedded_broker_runs_until_term(cli) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "dwcp_stream", "broker", "--port", "0", "--json"], stdout=subprocess.PIPE, text=True
    )
    with process:
        try:
            said = json.loads(process.stdout.readline())
            assert "memory" in said["notice"]
            assert said["bootstrap_servers"].startswith("127.0.0.1:")
            address = said["bootstrap_servers"]
            created = json.loads(cli("topics", "create", "--json", DWCP_KAFKA__BOOTSTRAP_SERVERS=address))
            assert len(created["created"]) == len(OWN) + 1
            taken = cli("broker", "--port", address.rpartition(":")[2], code=1)
            assert "something listens there already" in taken
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
        finally:
            process.kill()


def test_control_sends_what_workers_obey_and_lists_what_they_refuse(cli, tmp_path, topic_prefix):
    made = [json.loads(cli("control", "keygen", tmp_path / f"{name}.key", "--json")) for name in ("alice", "mallory")]
    keys = {"DWCP_CONTROL__KEYS": json.dumps({"alice": made[0]["public"]})}
    promote = ("control", "send", "promote", "probe-threshold", "1")
    alice, mallory = (("--key", tmp_path / f"{name}.key") for name in ("alice", "mallory"))
    assert "topics create" in cli(*promote, *alice, code=1)
    cli("topics", "create")
    assert cli("control", "list", **keys) == "no commands\n"
    assert "sent: promote probe-threshold 1, to *, at offset 0" in cli(*promote, *alice, "--reason", "better")
    cli(*promote, *mallory)
    cli(*promote, *mallory, "--as", "alice")
    cli("control", "send", "rollback", "probe-threshold", "2", *alice, "--to", f"{topic_prefix}app-probe")
    sent = json.loads(cli("control", "send", "log-level", "debug", *alice, "--to", "elsewhere", "--json"))
    assert (sent["offset"], sent["command"]["action"]) == (4, {"do": "log_level", "level": "debug"})
    rows = json.loads(cli("control", "list", "--json", **keys))["commands"]
    assert [row["refused"] for row in rows] == [None, "unknown_key", "bad_signature", None, "foreign"]
    assert rows[0]["command"]["reason"] == "better"
    shown = cli("control", "list", **keys, COLUMNS="200")
    for word in ("promote probe-threshold 1", "refused, bad_signature", "rollback probe-threshold 2"):
        assert word in shown
    assert "log-level" not in cli("models", "history"), "nothing has obeyed yet"
    cli("models", "promote", "probe-threshold", "1")
    moves = json.loads(cli("models", "history", "--json"))["moves"]
    assert [(move["model"], move["alias"], move["before"], move["version"]) for move in moves] == [
        ("probe-threshold", "champion", None, 1)
    ]
    assert re.search(r"champion +none +1", cli("models", "history", COLUMNS="200"))

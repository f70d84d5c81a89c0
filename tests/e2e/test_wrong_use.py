"""Every command used wrongly in the ways people do: it says what, where and what to do, and writes nothing."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import numpy as np
import polars as pl
import pytest

from dwcp_stream.cli.main import cli, run
from dwcp_stream.kafka.embedded import free_port

PROJECT = Path(__file__).resolve().parents[2]
PRINT = "0" * 32  # looks like a fingerprint
ALERT = ("feedback", "true", PRINT)
AWAY = "127.0.0.1"


def leaves(group=cli, path=()):
    """Every command that does something, with its words."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from leaves(command, (*path, name))
        else:
            yield (*path, name), command


LEAVES = {path: command for path, command in leaves() if path[0] != "bench"}  # those hand options on to programs


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder with some files, the streams and models that ship, and no broker."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DWCP_STREAMS_DIR", str(PROJECT / "config/streams"))
    monkeypatch.setenv("DWCP_MODELS_DIR", str(PROJECT / "models"))
    monkeypatch.setenv("DWCP_DATA_DIR", str(tmp_path / "var"))
    monkeypatch.setenv("DWCP_KAFKA__BOOTSTRAP_SERVERS", f"{AWAY}:{free_port()}")
    monkeypatch.setenv("DWCP_KAFKA__REQUEST_TIMEOUT", "5")
    rows = "".join(f"{1_700_000_000 + 60 * i},c,n{i % 3},0.1,5.0\n" for i in range(30))
    (tmp_path / "node.csv").write_text(f"ts,cluster_id,node_id,error_rate,latency_p50\n{rows}")
    (tmp_path / "columns.csv").write_text("a,b\n1,2\n")
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "bad.toml").write_text("kafka = [")
    (tmp_path / "typo.toml").write_text("[kafka]\nbootstrap_server = 'x'\n")
    return tmp_path


def failure(capsys, *arguments, code=1):
    """Run, expect an exit code, and return the error's one line."""
    before = sorted(str(p) for p in Path.cwd().rglob("*"))
    assert run([str(word) for word in arguments]) == code
    said = capsys.readouterr()
    assert "Traceback" not in said.err + said.out
    assert "internal" not in said.err
    assert sorted(str(p) for p in Path.cwd().rglob("*")) == before, "something was written"
    lines = [line for line in said.err.splitlines() if line.startswith(("error: ", "Error: "))]
    assert lines, said.err
    return lines[-1]


@pytest.mark.parametrize("path", LEAVES, ids=" ".join)
def test_a_typo_in_an_option_is_named(site, capsys, path):
    line = failure(capsys, *path, "--jsn", code=2)
    assert re.search(r"No such option:? '?--jsn|Missing|unrecognized|unknown", line), line


@pytest.mark.parametrize("words", [("wrker",), ("streams", "lst"), ("models", "promot"), ("control", "send", "promot")])
def test_a_typo_in_a_command_is_named(site, capsys, words):
    assert f"No such command '{words[-1]}'" in failure(capsys, *words, code=2)


CONFIGURED = [path for path, command in LEAVES.items() if any(p.name == "config_file" for p in command.params)]
FILLED = {
    "stream": "node", "stream_name": "node", "name": "node-gbt", "model": "node-gbt", "version": "1", "before": "1",
    "after": "1", "what": "node", "fingerprint": PRINT, "entity": "c/n1", "level": "info", "folder": "node.csv",
}  # fmt: skip
OPTIONS = {
    "data": ("--data", "node.csv"), "files": ("--data", "node.csv"), "urls": ("--prometheus", "http://127.0.0.1:1"),
    "map_name": ("--map", "etcd"), "key_file": ("--key", "bad.toml"), "at": ("--at", "2026-01-01T00:00:00Z"),
    "principal": ("--principal", "User:a"), "partitions": ("--partitions", "8"), "entities": ("--entities", "10"),
}  # fmt: skip


def filled(path):
    """The command with all that it needs."""
    words = list(path)
    for parameter in LEAVES[path].params:
        if parameter.required:
            argument = isinstance(parameter, click.Argument)
            number = "3" if isinstance(parameter.type, click.types.IntParamType | click.types.FloatParamType) else "x"
            option = OPTIONS.get(parameter.name, (parameter.opts[0], number))
            words += (FILLED.get(parameter.name, "node.csv"),) if argument else option
    return words


@pytest.mark.parametrize("path", CONFIGURED, ids=" ".join)
@pytest.mark.parametrize(
    ("file", "message"),
    [("none.toml", "cannot be read"), ("bad.toml", "is not TOML"), ("typo.toml", "there is no setting")],
)
def test_a_wrong_settings_file_is_named(site, capsys, path, file, message):
    line = failure(capsys, *filled(path), "--config", file)
    assert file in line
    assert message in line


REACHING = [
    ("replay", "node", "--data", "node.csv", "--speed", "max"),
    ("collect", "--map", "node_exporter", "--prometheus", "http://127.0.0.1:1", "--once"),
    ("archive", "node", "--once"),
    ("train", "node", "--recent", "1h"),
    ("topics", "create"),
    ("topics", "list"),
    ("topics", "repartition", "node", "--partitions", "8"),
    ("accuracy",),
    ("report",),
    ALERT,
    ("feedback", "missed", "node", "c/n1", "--at", "2026-01-01T00:00:00Z"),
    ("control", "list"),
]


@pytest.mark.parametrize("words", REACHING, ids=lambda words: " ".join(words[:2]))
def test_without_a_broker_it_says_where_and_what_to_do(site, capsys, words):
    line = failure(capsys, *words)
    assert os.environ["DWCP_KAFKA__BOOTSTRAP_SERVERS"] in line
    assert "no broker answers" in line
    assert "DWCP_KAFKA__BOOTSTRAP_SERVERS" in line


def test_doctor_says_it_as_a_finding(site, capsys):
    assert run(["doctor", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)["findings"]
    assert any(f["what"] == "no broker answers" and f["remedy"] for f in found)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("replay", "nod", "--data", "node.csv"), "there is no stream"),
        (("train", "nod", "--data", "node.csv"), "there is no stream"),
        (("streams", "show", "nod"), "there is no stream"),
        (("archive", "nod"), "there is no stream"),
        (("worker", "nod"), "there is no stream"),
        (("replay", "node", "--data", "none.csv"), "none.csv"),
        (("replay", "node", "--data", "columns.csv"), "there is no time column"),
        (("replay", "node", "--data", "empty.csv"), "not a readable csv file"),
        (("replay", "node", "--data", "bad.toml"), "the kind of file is unknown"),
        (("backtest", "node", "--data", "columns.csv"), "there is no time column"),
        (("streams", "infer", "columns.csv"), "no column holds times"),
        (("streams", "infer", "empty.csv"), "not a readable csv file"),
        (("streams", "infer", "node.csv", "--time", "tim"), 'there is no column "tim"'),
        (("streams", "infer", "node.csv", "--entity", "hst"), 'there is no column "hst"'),
        (("streams", "infer", "node.csv", "--name", "No Name", "--out", "x.toml"), "is no stream name"),
        (("streams", "infer", "node.csv", "--out", "/proc/nowhere/x.toml"), "cannot be written"),
        (("config", "check", "bad.toml"), None),
        (("models", "show", "nosuch"), "nosuch"),
        (("models", "promote", "node-gbt", "99"), "99"),
        (("collect", "--map", "nope", "--prometheus", "http://x"), "cannot read the map"),
        (("collect", "--map", "bad.toml", "--prometheus", "http://x"), "not valid TOML"),
        (("collect", "--map", "etcd", "--prometheus", "ftp://x"), "is no address"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_a_wrong_name_or_file_is_named(site, capsys, words, message):
    if message is None:  # its findings are its result
        assert run(list(words)) == 1
        assert "not valid TOML" in capsys.readouterr().out
        return
    line = failure(capsys, *words)
    assert message in line
    assert re.search(r"\. [A-Z`]", line), f"no remedy: {line}"


def test_an_interrupted_training_leaves_no_model_behind(site):
    rng = np.random.default_rng(1)
    rows = 20_000
    frame = pl.DataFrame(
        {"ts": 1_700_000_000 + 60 * np.arange(rows), "node_id": "n", "cluster_id": "c", "error_rate": rng.random(rows)}
    )
    frame.write_csv("long.csv")
    process = subprocess.Popen(
        [sys.executable, "-m", "dwcp_stream", "train", "link", "--data", "long.csv", "--out", "made"],
        env=os.environ | {"DWCP_STREAMS_DIR": str(make_stream(site)), "PYTHONPATH": str(PROJECT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while "polars" not in Path(f"/proc/{process.pid}/maps").read_text():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in out + err
    assert err.strip() == "interrupted"
    assert not list(site.rglob("made/*/*"))


def make_stream(folder):
    """A stream of the file's columns, named link."""
    streams = folder / "mine"
    assert run(["streams", "infer", "long.csv", "--name", "link", "--out", str(streams / "link.toml")]) == 0
    return streams

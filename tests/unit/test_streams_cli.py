"""The commands `streams` and `config` as a user runs them."""

import json
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from dwcp_stream.cli.main import run

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _in_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT)
    monkeypatch.setenv("DWCP_STREAMS_DIR", str(PROJECT / "config" / "streams"))


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["streams", "list"]) == 0
    assert "cluster_id" in capsys.readouterr().out
    assert run(["streams", "list", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["streams"]
    assert [row["name"] for row in rows] == ["consensus", "link", "node"]
    assert rows[0]["entity"] == "cluster_id[/group_id]"


def test_show(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["streams", "show", "link"]) == 0
    shown = capsys.readouterr().out
    assert "jitter_ms" in shown
    assert "proposals_pending" not in shown
    assert run(["streams", "show", "node", "--json"]) == 0
    (stream,) = json.loads(capsys.readouterr().out)["streams"]
    assert stream["fields"][7] == {
        "name": "cpu_usage",
        "kind": "gauge",
        "unit": "%",
        "description": "",
        "min": 0.0,
        "max": 100.0,
        "required": False,
        "vocabulary": [],
        "aliases": {},
    }
    assert run(["streams", "show"]) == 0
    assert "proposals_pending" in capsys.readouterr().out


def test_show_of_no_stream(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["streams", "show", "nope"]) == 1
    assert "Streams are consensus, link, node" in capsys.readouterr().err


def test_check_of_what_ships(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["config", "check", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["ok"]
    assert result["errors"] == []
    assert result["streams"] == ["consensus", "link", "node"]


def test_check_reports_every_bad_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good = (PROJECT / "config" / "streams" / "node.toml").read_text(encoding="utf-8")
    (tmp_path / "a.toml").write_text(good.replace("window = 15", "window = 0"), encoding="utf-8")
    (tmp_path / "b.toml").write_text("x = [", encoding="utf-8")
    (tmp_path / "c.toml").write_text(good, encoding="utf-8")
    monkeypatch.setenv("DWCP_STREAMS_DIR", str(tmp_path))
    monkeypatch.setenv("DWCP_STREAM_DIR", "misspelt")
    assert run(["config", "check", "--json"]) == 1
    result = json.loads(capsys.readouterr().out)
    assert [Path(error["where"].split(":")[0]).name for error in result["errors"]] == ["a.toml", "b.toml"]
    assert result["streams"] == ["node"]
    assert any("DWCP_STREAM_DIR" in warning for warning in result["warnings"])
    assert run(["config", "check"]) == 1
    assert "must be 2 to 10000 rows" in capsys.readouterr().out


def test_check_of_single_files_and_of_clashes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good = (PROJECT / "config" / "streams" / "node.toml").read_text(encoding="utf-8")
    for name in ("a.toml", "b.toml"):
        (tmp_path / name).write_text(good, encoding="utf-8")
    assert run(["config", "check", str(tmp_path / "a.toml")]) == 0
    monkeypatch.setenv("DWCP_STREAMS_DIR", str(tmp_path))
    assert run(["config", "check"]) == 1
    assert "is taken by a.toml" in capsys.readouterr().out


def test_show_settings_masks_secrets(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("DWCP_KAFKA__SASL_PASSWORD", "hunter2")
    assert run(["config", "show", "--json"]) == 0
    out = capsys.readouterr().out
    assert "hunter2" not in out
    rows = {row["key"]: row for row in json.loads(out)["settings"]}
    assert rows["kafka.sasl_password"]["set"]
    assert rows["topics.partitions"]["variable"] == "DWCP_TOPICS__PARTITIONS"
    assert run(["config", "show"]) == 0
    assert "hunter2" not in capsys.readouterr().out


def test_check_says_what_it_cannot_know_of_models_elsewhere(capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    monkeypatch.setenv("DWCP_MODELS_DIR", "nothing://bucket")
    assert run(["config", "check", "--json"]) == 1
    assert "nothing://" in json.loads(capsys.readouterr().out)["errors"][0]["what"]
    monkeypatch.setenv("DWCP_MODELS_DIR", "memory://models")

    def away(*_: object, **__: object) -> None:
        raise TimeoutError("no answer")

    monkeypatch.setattr(MemoryFileSystem, "ls", away)
    assert run(["config", "check", "--json"]) == 0
    assert any("no answer" in text for text in json.loads(capsys.readouterr().out)["warnings"])

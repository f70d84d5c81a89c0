"""`dwcp-stream models`: what it prints and its exit codes."""

import json
from pathlib import Path
from typing import Any

import pytest

from dwcp_stream.cli.main import run
from dwcp_stream.registry import ModelRepository
from tests.model_graphs import make_files, make_manifest, write_version

STREAM = """
name = "tiny"
topic = "dwcp.telemetry.tiny"
entity = ["id"]
step = 60.0
window = 8
min_periods = 1
lateness = 60.0
expire_after = 3600.0
ahead_tolerance = 60.0
max_entities = 10
drift_block = 60.0
[[fields]]
name = "latency"
unit = "ms"
[[fields]]
name = "loss"
unit = "ratio"
[[fields]]
name = "mode"
kind = "categorical"
vocabulary = ["slow", "fast", "off"]
"""


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelRepository:
    (tmp_path / "streams").mkdir()
    (tmp_path / "streams/tiny.toml").write_text(STREAM)
    (tmp_path / "models").mkdir()
    monkeypatch.setenv("DWCP_STREAMS_DIR", str(tmp_path / "streams"))
    monkeypatch.setenv("DWCP_MODELS_DIR", str(tmp_path / "models"))
    return ModelRepository(tmp_path / "models")


def publish(repository: ModelRepository, name: str = "anomaly") -> int:
    return repository.publish(f"tiny-{name}", make_files(name), make_manifest(name))


def call(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> Any:
    assert run(["models", *arguments, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_list(repository: ModelRepository, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(capsys, "list")["models"] == []
    publish(repository)
    publish(repository)
    publish(repository, "forecast")
    repository.set_alias("tiny-anomaly", "champion", 1)
    found = {row["name"]: row for row in call(capsys, "list")["models"]}
    assert found["tiny-anomaly"]["versions"] == [1, 2]
    assert found["tiny-anomaly"]["aliases"] == {"champion": 1}
    assert found["tiny-forecast"]["task"] == "forecast"
    assert run(["models", "list"]) == 0
    assert "champion 1" in capsys.readouterr().out


def test_list_shows_a_broken_model_beside_the_others(
    repository: ModelRepository, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(repository)
    publish(repository, "incident")
    (repository.root / "tiny-anomaly/1/manifest.json").write_text("{")
    rows = call(capsys, "list")["models"]
    assert [row["error"] is None for row in rows] == [False, True]
    assert run(["models", "list"]) == 0
    assert "manifest is wrong" in " ".join(capsys.readouterr().out.split())


def test_show(repository: ModelRepository, capsys: pytest.CaptureFixture[str]) -> None:
    publish(repository)
    repository.set_alias("tiny-anomaly", "champion", 1)
    shown = call(capsys, "show", "tiny-anomaly")
    assert shown["aliases"] == ["champion"]
    assert shown["manifest"]["metrics"] == {"f1": 0.5, "rule": {"f1": 0.25}}
    assert call(capsys, "show", "tiny-anomaly", "1") == shown
    assert run(["models", "show", "tiny-anomaly"]) == 0
    assert "metrics.rule.f1" in capsys.readouterr().out


def test_show_of_what_is_not_there(repository: ModelRepository, capsys: pytest.CaptureFixture[str]) -> None:
    assert "tiny-anomaly" in call(capsys, "show", "tiny-anomaly", code=1)["error"]["what"]
    assert run(["models", "show", "tiny-anomaly"]) == 1
    assert capsys.readouterr().err.startswith("error: ")


def test_verify_passes(repository: ModelRepository, capsys: pytest.CaptureFixture[str]) -> None:
    publish(repository)
    publish(repository, "forecast")
    result = call(capsys, "verify")
    assert [row["ok"] for row in result["models"]] == [True, True]
    assert {row["stream"] for row in result["models"]} == {"tiny"}
    assert result["refused"] == 0
    assert run(["models", "verify", "tiny-forecast", "1"]) == 0
    assert "ok       tiny-forecast version 1" in capsys.readouterr().out


def test_verify_says_why_and_fails(repository: ModelRepository, capsys: pytest.CaptureFixture[str]) -> None:
    publish(repository)
    publish(repository, "incident")
    with (repository.root / "tiny-anomaly/1/model.onnx").open("ab") as file:
        file.write(b"\x00")
    result = call(capsys, "verify", code=1)
    refused, passed = result["models"]
    assert result["refused"] == 1
    assert passed["ok"]
    assert "SHA-256" in refused["error"]["what"]
    assert refused["error"]["where"].endswith("model.onnx")
    assert refused["error"]["remedy"]
    assert run(["models", "verify", "tiny-anomaly"]) == 1
    assert "refused  tiny-anomaly version 1" in capsys.readouterr().out


def test_verify_compares_with_the_stream(
    repository: ModelRepository, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(repository)
    (tmp_path / "streams/tiny.toml").write_text(STREAM.replace("ratio", "percent"))
    error = call(capsys, "verify", code=1)["models"][0]["error"]
    assert "'ratio' in the model and 'percent' in stream" in error["what"]


def test_verify_takes_aliased_versions_or_all(repository: ModelRepository, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(3):
        publish(repository)
    repository.set_alias("tiny-anomaly", "champion", 2)
    assert [row["version"] for row in call(capsys, "verify")["models"]] == [2]
    assert [row["version"] for row in call(capsys, "verify", "--all")["models"]] == [1, 2, 3]
    assert [row["version"] for row in call(capsys, "verify", "tiny-anomaly", "champion")["models"]] == [2]
    assert run(["models", "verify", "tiny-anomaly", "1", "--all"]) == 2
    capsys.readouterr()


def test_verify_of_an_alias_whose_version_is_gone(
    repository: ModelRepository, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(repository)
    write_version(repository.root, make_files("incident"), make_manifest("incident"))
    (repository.root / "aliases.json").write_text('{"tiny-anomaly": {"champion": 7}}')
    result = call(capsys, "verify", code=1)
    assert [(row["name"], row["ok"]) for row in result["models"]] == [("tiny-anomaly", False), ("tiny-incident", True)]


def test_verify_of_a_model_that_is_not_there(repository: ModelRepository, capsys: pytest.CaptureFixture[str]) -> None:
    publish(repository)
    assert "tiny-anomaly" in call(capsys, "verify", "missing", code=1)["error"]["remedy"]


def test_promote_keeps_the_champion_before_as_last_good_and_rollback_goes_back(
    repository: ModelRepository, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(repository)
    publish(repository)
    first = call(capsys, "promote", "tiny-anomaly", "1")
    assert (first["before"], first["aliases"]) == (None, {"champion": 1})
    assert call(capsys, "promote", "tiny-anomaly", "2")["before"] == 1
    assert repository.aliases("tiny-anomaly") == {"champion": 2, "last_good": 1}
    back = call(capsys, "rollback", "tiny-anomaly")
    assert (back["before"], back["champion"]) == (2, 1)
    assert repository.aliases("tiny-anomaly") == {"champion": 1, "last_good": 1}
    assert "nothing to go back to" in call(capsys, "rollback", "tiny-anomaly", code=1)["error"]["what"]
    assert run(["models", "promote", "tiny-anomaly", "2"]) == 0
    assert "champion of tiny-anomaly is version 2 (before: 1)" in " ".join(capsys.readouterr().out.split())


def test_promote_refuses_at_the_door(
    repository: ModelRepository, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(repository)
    publish(repository)
    call(capsys, "promote", "tiny-anomaly", "1")
    held = (repository.root / "aliases.json").read_bytes()
    assert "no version 7" in call(capsys, "promote", "tiny-anomaly", "7", code=1)["error"]["what"]
    with (repository.root / "tiny-anomaly/2/model.onnx").open("ab") as file:
        file.write(b"\x00")
    assert "SHA-256" in call(capsys, "promote", "tiny-anomaly", "2", code=1)["error"]["what"]
    publish(repository)
    (tmp_path / "streams/tiny.toml").write_text(STREAM.replace("ratio", "percent"))
    assert "'percent' in stream" in call(capsys, "promote", "tiny-anomaly", "3", code=1)["error"]["what"]
    assert (repository.root / "aliases.json").read_bytes() == held


def test_a_champion_that_does_not_verify_does_not_become_last_good(
    repository: ModelRepository, capsys: pytest.CaptureFixture[str]
) -> None:
    for version in (1, 2, 3):
        publish(repository)
        if version < 3:
            call(capsys, "promote", "tiny-anomaly", str(version))
    (repository.root / "tiny-anomaly/2/golden.npz").write_bytes(b"")
    call(capsys, "promote", "tiny-anomaly", "3")
    assert repository.aliases("tiny-anomaly") == {"champion": 3, "last_good": 1}


def test_rollback_without_a_last_good_version_says_so(
    repository: ModelRepository, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(repository)
    call(capsys, "promote", "tiny-anomaly", "1")
    assert "last_good" in call(capsys, "rollback", "tiny-anomaly", code=1)["error"]["what"]

"""Versions that may go, and differences between versions."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from dwcp_stream.cli.main import run
from dwcp_stream.registry import ModelRepository
from dwcp_stream.registry.history import Move, append_moves
from dwcp_stream.registry.signatures import sign_version, signature_path
from dwcp_stream.registry.upkeep import differences, removable, remove
from tests.model_graphs import make_files, make_manifest

NAME = "tiny-anomaly"
NOW = datetime(2026, 11, 28, tzinfo=UTC)


def folders(root: Path, number: int) -> ModelRepository:
    for version in range(1, number + 1):
        (root / NAME / str(version)).mkdir(parents=True)
    return ModelRepository(root)


def moved(root: Path, days_ago: float, before: int | None, version: int) -> None:
    at = (NOW - timedelta(days=days_ago)).isoformat()
    append_moves(root, [Move(at=at, by="x", model=NAME, alias="champion", before=before, version=version)])


def test_what_an_alias_points_at_or_has_pointed_at_lately_stays(tmp_path: Path) -> None:
    repository = folders(tmp_path, 9)
    repository.set_alias(NAME, "shadow", 1)
    (tmp_path / "history.jsonl").unlink()
    moved(tmp_path, 60, None, 2)
    moved(tmp_path, 29, 3, 4)
    assert removable(repository, NAME, keep=2, days=30, now=NOW) == [2, 5, 6, 7]
    assert removable(repository, NAME, keep=2, days=1, now=NOW) == [2, 3, 4, 5, 6, 7]
    assert removable(repository, NAME, keep=9, days=0, now=NOW) == []


@given(st.integers(0, 12), st.integers(1, 12), st.lists(st.tuples(st.floats(0, 100), st.integers(1, 12)), max_size=5))
def test_never_what_is_needed(tmp_path_factory, number: int, keep: int, moves: list[tuple[float, int]]) -> None:
    root = tmp_path_factory.mktemp("models")
    repository = folders(root, number)
    for days, version in moves:
        moved(root, days, None, version)
    gone = removable(repository, NAME, keep=keep, days=30, now=NOW)
    left = set(range(1, number + 1)) - set(gone)
    assert set(range(max(number - keep, 0) + 1, number + 1)) <= left
    assert {version for days, version in moves if days < 30 and version <= number} <= left
    assert all(days > 29.99 for days, version in moves if version in gone)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    repository = ModelRepository(tmp_path)
    for number in range(3):
        repository.publish(NAME, make_files("anomaly"), {**make_manifest("anomaly"), "command": f"made {number}"})
    repository.set_alias(NAME, "champion", 3)
    return tmp_path


def test_a_removed_version_is_gone_with_its_signature_and_its_number_is_not_used_again(root: Path) -> None:
    repository = ModelRepository(root)
    sign_version(root, NAME, 1, "alice", Ed25519PrivateKey.generate())
    remove(repository, NAME, 1)
    assert repository.versions(NAME) == [2, 3]
    assert not (root / signature_path(NAME, 1)).exists()
    assert sorted(path.name for path in (root / NAME).iterdir()) == ["2", "3"]
    assert repository.publish(NAME, make_files("anomaly"), make_manifest("anomaly")) == 4


def test_differences_are_by_dotted_key_and_leave_hashes_out(root: Path) -> None:
    found = differences(ModelRepository(root), NAME, 1, "champion")
    assert {row["key"]: (row["before"], row["after"]) for row in found} == {
        "version": (1, 3),
        "command": ("made 0", "made 2"),
    }


def test_the_commands(root: Path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("DWCP_MODELS_DIR", str(root))
    assert run(["models", "diff", NAME, "1", "champion"]) == 0
    assert "made 2" in capsys.readouterr().out
    assert run(["models", "gc", "--keep", "1", "--days", "0", "--dry-run"]) == 0
    assert capsys.readouterr().out == f"{NAME} version 1: would go\n{NAME} version 2: would go\n"
    assert ModelRepository(root).versions(NAME) == [1, 2, 3]
    assert run(["models", "gc", NAME, "--keep", "1", "--days", "0", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["removed"] == [{"name": NAME, "version": n} for n in (1, 2)]
    assert ModelRepository(root).versions(NAME) == [3]
    assert run(["models", "gc", "nothing"]) == 1
    assert "there is no model 'nothing'" in capsys.readouterr().err

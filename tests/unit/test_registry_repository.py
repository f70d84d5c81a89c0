"""Publishing, listing and aliases of the model repository."""

import contextlib
import json
import multiprocessing
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dwcp_stream.errors import ModelError
from dwcp_stream.registry import ALIASES, ModelRepository, atomic
from dwcp_stream.registry.aliases import move_aliases, read_aliases
from dwcp_stream.registry.golden import ABSOLUTE, RELATIVE, compare, make_golden, read_golden
from dwcp_stream.registry.history import local_user, read_history
from dwcp_stream.registry.manifest import parse_manifest
from dwcp_stream.registry.operators import parse_graph
from dwcp_stream.registry.promotion import promote
from tests.model_graphs import make_files, make_manifest, make_windows, write_version

NAME = "tiny-anomaly"


@pytest.fixture
def repository(tmp_path: Path) -> ModelRepository:
    return ModelRepository(tmp_path / "models")


def publish(repository: ModelRepository, **changes: Any) -> int:
    return repository.publish(NAME, make_files("anomaly"), make_manifest("anomaly", **changes))


def test_an_empty_repository(repository: ModelRepository) -> None:
    assert repository.names() == []
    assert repository.versions(NAME) == []
    assert repository.aliases(NAME) == {}
    with pytest.raises(ModelError, match=r"no model 'tiny-anomaly'.*there are: none"):
        repository.load(NAME, "champion")


def test_versions_count_up_and_never_change(repository: ModelRepository) -> None:
    assert publish(repository) == 1
    folder = repository.root / NAME / "1"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert publish(repository, seed=5) == 2
    assert repository.versions(NAME) == [1, 2]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert repository.manifest(NAME, 2).seed == 5
    assert repository.names() == [NAME]


def test_the_version_after_the_last_also_when_one_was_removed(repository: ModelRepository) -> None:
    for _ in range(3):
        publish(repository)
    (repository.root / NAME / "2").rename(repository.root / "aside")
    assert publish(repository) == 4


def test_what_was_published_is_what_the_folder_holds(repository: ModelRepository) -> None:
    files = make_files("anomaly")
    publish(repository)
    folder = repository.root / NAME / "1"
    assert {path.name for path in folder.iterdir()} == {*files, "manifest.json"}
    manifest = parse_manifest((folder / "manifest.json").read_bytes(), where="test")
    assert manifest == repository.load(NAME, 1).manifest
    assert set(manifest.files) == set(files)
    assert manifest.version == 1


def test_publishing_the_same_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    written = []
    for name in ("a", "b"):
        publish(ModelRepository(tmp_path / name))
        folder = tmp_path / name / NAME / "1"
        written.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert written[0] == written[1]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"window": 7}, "dwcp.window|input 'window'"),
        ({"metrics": {"f1": float("nan")}}, "cannot be written as JSON"),
        ({"metrics": {"f1": np.float32(1)}}, "cannot be written as JSON"),
        ({"name": "another"}, "is of 'another'"),
        ({"severity": [1, 1, 2]}, "severity"),
        ({"licence": None}, "licence"),
    ],
)
def test_what_would_be_refused_is_not_published(
    repository: ModelRepository, changes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ModelError, match=reason):
        publish(repository, **changes)
    assert repository.versions(NAME) == []
    assert not list(repository.root.rglob("*.onnx"))


@pytest.mark.parametrize("name", ["", "..", "a/b", "Upper", "-x", ".hidden", "x" * 65])
def test_names_that_are_no_folders_of_the_repository(repository: ModelRepository, name: str) -> None:
    with pytest.raises(ModelError, match="no model name"):
        repository.publish(name, make_files("anomaly"), make_manifest("anomaly", name=name))
    with pytest.raises(ModelError, match="no model name"):
        repository.resolve(name)


def test_a_file_name_that_leads_out_of_the_folder(repository: ModelRepository) -> None:
    files = {**make_files("anomaly"), "../escaped.png": b"x"}
    with pytest.raises(ModelError, match="does not belong"):
        repository.publish(NAME, files, make_manifest("anomaly"))
    assert not (repository.root / NAME).exists()


def test_a_publish_that_stops_half_way_leaves_nothing(
    repository: ModelRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(repository)

    def full(path: Path, data: bytes) -> None:
        if path.name == "manifest.json":
            raise OSError(28, "No space left on device")
        path.write_bytes(data)

    with monkeypatch.context() as patch:
        patch.setattr(atomic, "write_file", full)
        with pytest.raises(OSError, match="No space"):
            publish(repository)
    assert [path.name for path in (repository.root / NAME).iterdir()] == ["1"]
    assert publish(repository) == 2


def test_folders_that_are_no_versions_are_passed_over(repository: ModelRepository) -> None:
    publish(repository)
    for name in ("01", "latest", ".tmp-2-abc", "0", "-3", "٣"):
        (repository.root / NAME / name).mkdir()
    (repository.root / NAME / "9").write_text("a file")
    (repository.root / "docs").mkdir()
    assert repository.versions(NAME) == [1]
    assert repository.names() == [NAME]


def test_a_version_published_by_somebody_else_in_between_is_not_overwritten(
    repository: ModelRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(repository)
    answers = iter([[], [1]])  # the first look is out of date
    with monkeypatch.context() as patch:
        patch.setattr(repository, "_numbers", lambda name: next(answers))
        assert publish(repository, seed=9) == 2
    assert repository.versions(NAME) == [1, 2]
    assert repository.manifest(NAME, 1).seed == 0
    assert repository.load(NAME, 2).manifest.seed == 9


# --- aliases --------------------------------------------------------------------------------------------


def test_aliases_move(repository: ModelRepository) -> None:
    publish(repository)
    publish(repository)
    repository.set_alias(NAME, "champion", 1)
    repository.set_alias(NAME, "shadow", 2)
    assert repository.aliases(NAME) == {"champion": 1, "shadow": 2}
    repository.set_alias(NAME, "champion", 2)
    assert repository.load(NAME, "champion").version == 2
    assert repository.resolve(NAME, "2") == repository.resolve(NAME, 2) == 2
    repository.set_alias(NAME, "shadow", None)
    assert json.loads((repository.root / "aliases.json").read_text()) == {NAME: {"champion": 2}}


def test_aliases_that_cannot_be(repository: ModelRepository) -> None:
    publish(repository)
    with pytest.raises(ModelError, match="no alias 'winner'"):
        repository.set_alias(NAME, "winner", 1)
    with pytest.raises(ModelError, match="no version 2"):
        repository.set_alias(NAME, "champion", 2)
    with pytest.raises(ModelError, match=r"no version of 'tiny-anomaly' is champion.*versions 1"):
        repository.load(NAME, "champion")
    with pytest.raises(ModelError, match="'winner' is no alias and no version"):
        repository.resolve(NAME, "winner")
    assert not (repository.root / "aliases.json").exists()


def test_an_alias_whose_version_is_gone(repository: ModelRepository) -> None:
    publish(repository)
    publish(repository)
    repository.set_alias(NAME, "champion", 2)
    (repository.root / NAME / "2").rename(repository.root / "aside")
    with pytest.raises(ModelError, match=r"no version 2.*There are: 1"):
        repository.load(NAME)


@pytest.mark.parametrize("text", ["{", "[]", '{"m": 1}', '{"m": {"winner": 1}}', '{"m": {"champion": "1"}}'])
def test_a_broken_table_of_aliases_is_not_overwritten(repository: ModelRepository, text: str) -> None:
    publish(repository)
    path = repository.root / "aliases.json"
    path.write_text(text)
    with pytest.raises(ModelError, match="table of aliases"):
        repository.load(NAME)
    with pytest.raises(ModelError, match="table of aliases"):
        repository.set_alias(NAME, "champion", 1)
    assert path.read_text() == text


def move_often(root: str, name: str) -> None:
    repository = ModelRepository(root)
    for i in range(16):
        repository.set_alias(name, ALIASES[i % 4], 1)


def test_processes_that_move_aliases_at_once_lose_none(tmp_path: Path) -> None:
    names = [f"model-{i}" for i in range(2)]
    for name in names:
        (tmp_path / name / "1").mkdir(parents=True)
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=move_often, args=(str(tmp_path), name)) for name in names]
    for process in processes:
        process.start()
    while any(process.is_alive() for process in processes):
        path = tmp_path / "aliases.json"
        if path.exists():
            json.loads(path.read_text())  # never half written
        processes[0].join(0.01)
    assert [process.exitcode for process in processes] == [0, 0]
    repository = ModelRepository(tmp_path)
    assert all(set(repository.aliases(name)) == set(ALIASES) for name in names)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["aliases.json", "history.jsonl", *names]
    moves = list(read_history(tmp_path))
    assert len(moves) == 2 * len(ALIASES), "16 moves of each model, 4 of which change something"
    assert {(move.model, move.alias) for move in moves} == {(name, alias) for name in names for alias in ALIASES}


def test_the_history_says_who_moved_what_and_survives_a_torn_line(tmp_path: Path) -> None:
    move_aliases(tmp_path, "m", {"champion": 1})
    with (tmp_path / "history.jsonl").open("ab") as file:
        file.write(b'{"at":"2026')  # a crash in the middle
    move_aliases(tmp_path, "m", {"champion": 2, "last_good": 1}, by="alice (dwcp.control 7)", reason="better")
    move_aliases(tmp_path, "other", {"champion": 3}, by="bob")
    move_aliases(tmp_path, "other", {"champion": None})
    moves = [(m.by, m.model, m.alias, m.before, m.version, m.reason) for m in read_history(tmp_path)]
    assert moves == [
        (local_user(), "m", "champion", None, 1, ""),
        ("alice (dwcp.control 7)", "m", "champion", 1, 2, "better"),
        ("alice (dwcp.control 7)", "m", "last_good", None, 1, "better"),
        ("bob", "other", "champion", None, 3, ""),
        (local_user(), "other", "champion", 3, None, ""),
    ]
    assert [m.version for m in read_history(tmp_path, "m")] == [1, 2, 1]
    assert not list(read_history(tmp_path / "nothing"))


def test_an_alias_does_not_move_without_its_history(tmp_path: Path) -> None:
    move_aliases(tmp_path, "m", {"champion": 1})
    (tmp_path / "history.jsonl").unlink()
    (tmp_path / "history.jsonl").mkdir()
    with pytest.raises(IsADirectoryError):
        move_aliases(tmp_path, "m", {"champion": 2})
    assert read_aliases(tmp_path) == {"m": {"champion": 1}}


# --- goldens --------------------------------------------------------------------------------------------


def test_a_golden_holds_inputs_and_outputs() -> None:
    files = make_files("stateful")
    windows, times = make_windows(5)
    data = make_golden(files["model.onnx"], windows, times, np.full((5, 4), np.nan, np.float32))
    held = read_golden(data, where="test")
    assert set(held) == {"window", "time", "state_in", "score", "expected", "state_out"}
    assert held["window"].tobytes() == windows.tobytes()


@given(
    expected=st.lists(st.one_of(st.floats(width=32), st.just(np.nan)), min_size=1, max_size=8),
    factor=st.floats(-3, 3),
)
def test_comparison_with_a_golden(expected: list[float], factor: float) -> None:
    golden = np.array(expected, np.float64)
    assert compare(golden, golden)[0]
    finite = np.isfinite(golden)
    allowed = ABSOLUTE + RELATIVE * np.abs(golden)
    with np.errstate(over="ignore", invalid="ignore"):
        moved = np.where(finite, golden + factor * allowed, golden)
    same, difference = compare(golden, moved)
    if not finite.any():
        assert same
        assert difference == 0
    elif abs(factor) < 0.99:
        assert same
    elif abs(factor) > 1.01:
        assert not same
        assert difference > 0


@settings(max_examples=30)
@given(data=st.binary(max_size=200))
def test_bytes_from_anywhere_are_read_or_refused(data: bytes) -> None:
    with pytest.raises(ModelError):
        read_golden(data, where="test")
    with pytest.raises(ModelError):
        parse_manifest(data, where="test")


FILES = make_files("anomaly")


@settings(max_examples=150)
@given(data=st.data())
def test_damaged_files_are_read_or_refused_but_never_fail_otherwise(data: st.DataObject) -> None:
    file = data.draw(st.sampled_from(["golden.npz", "model.onnx"]))
    damaged = bytearray(FILES[file])
    for at in data.draw(st.lists(st.integers(0, len(damaged) - 1), min_size=1, max_size=4)):
        damaged[at] = data.draw(st.integers(0, 255))
    cut = bytes(damaged[: data.draw(st.sampled_from([len(damaged), len(damaged) // 2, 40]))])
    with contextlib.suppress(ModelError):
        if file == "golden.npz":
            assert isinstance(read_golden(cut, where="test"), dict)
        else:
            assert parse_graph(cut, where="test").graph.node


def test_a_manifest_survives_being_written(repository: ModelRepository) -> None:
    publish(repository)
    manifest = repository.manifest(NAME, 1)
    assert parse_manifest(msgspec.json.encode(manifest), where="test") == manifest


def test_verify_of_what_is_not_there_raises(repository: ModelRepository) -> None:
    with pytest.raises(ModelError, match="no model"):
        repository.verify(NAME, 1)
    write_version(repository.root, make_files("anomaly"), make_manifest("anomaly"))
    with pytest.raises(ModelError, match="no version 3"):
        repository.verify(NAME, 3)


def test_a_share_belongs_to_its_challenger(repository: ModelRepository) -> None:
    publish(repository)
    publish(repository)
    move_aliases(repository.root, NAME, {"champion": 1, "challenger": 2, "share": 10}, by="alice")
    assert repository.aliases(NAME) == {"champion": 1, "challenger": 2}
    assert repository.share(NAME) == 10
    promote(repository, NAME, 2, by="bob")
    assert repository.aliases(NAME) == {"champion": 2, "last_good": 1}
    assert repository.share(NAME) == 0
    moves = [(m.alias, m.before, m.version) for m in read_history(repository.root) if m.by == "bob"]
    assert moves == [("champion", 1, 2), ("challenger", 2, None), ("last_good", None, 1), ("share", 10, None)]


def test_promoting_another_version_leaves_the_challenger(repository: ModelRepository) -> None:
    for _ in range(3):
        publish(repository)
    move_aliases(repository.root, NAME, {"champion": 1, "challenger": 2, "share": 10})
    promote(repository, NAME, 3)
    assert repository.aliases(NAME) == {"champion": 3, "challenger": 2, "last_good": 1}
    assert repository.share(NAME) == 10

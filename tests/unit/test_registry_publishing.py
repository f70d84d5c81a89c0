"""`models publish`: a folder that was made elsewhere becomes the next version, or is refused and leaves nothing."""

import json
import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dwcp_stream.cli.main import run
from dwcp_stream.errors import ModelError
from dwcp_stream.registry import ModelRepository
from dwcp_stream.registry.files import LIMITS
from dwcp_stream.registry.history import read_history
from dwcp_stream.registry.publishing import publish_folder
from tests.model_graphs import make_files, make_manifest, make_stream

NAME = "tiny-anomaly"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A version out of another repository, under another name."""
    elsewhere = ModelRepository(tmp_path / "elsewhere")
    for _ in range(3):
        elsewhere.publish("made-there", make_files("anomaly"), {**make_manifest("anomaly"), "name": "made-there"})
    return tmp_path / "elsewhere/made-there/3"


@pytest.fixture
def repository(tmp_path: Path) -> ModelRepository:
    return ModelRepository(tmp_path / "models")


def test_the_first_becomes_champion_and_the_next_does_not(repository: ModelRepository, folder: Path) -> None:
    assert publish_folder(repository, NAME, folder, by="ci", reason="weekly") == 1
    assert publish_folder(repository, NAME, folder) == 2
    assert repository.aliases(NAME) == {"champion": 1}
    manifest = repository.manifest(NAME, 2)
    assert (manifest.name, manifest.version) == (NAME, 2)
    assert repository.verify(NAME, 2).ok
    (move,) = read_history(repository.root)
    assert (move.by, move.reason) == ("ci", "weekly")


def test_without_a_signature_that_is_demanded_nothing_becomes_champion(tmp_path: Path, folder: Path) -> None:
    repository = ModelRepository(tmp_path / "models", keys={"alice": Ed25519PrivateKey.generate().public_key()})
    assert publish_folder(repository, NAME, folder) == 1
    assert repository.aliases(NAME) == {}


def spoil(folder: Path, what: str) -> None:
    if what == "stray":
        (folder / "weights.bin").write_bytes(b"x")
    elif what == "nested":
        (folder / "plots.png").mkdir()
    elif what == "link":
        (folder / "curve.png").symlink_to("/etc/hostname")
    elif what == "pipe":
        os.mkfifo(folder / "curve.png")
    elif what == "large":
        with (folder / "model.onnx").open("r+b") as file:
            file.truncate(LIMITS[".onnx"] + 1)
    elif what == "damaged":
        (folder / "model.onnx").write_bytes(b"no graph")
    elif what == "list":
        (folder / "manifest.json").write_text("[]")
    else:
        (folder / what).unlink()


@pytest.mark.parametrize(
    ("what", "why"),
    [
        ("stray", "does not belong"),
        ("nested", "plain file"),
        ("link", "plain file"),
        ("pipe", "plain file"),
        ("large", "larger than"),
        ("damaged", "not an ONNX file"),
        ("list", "manifest is wrong"),
        ("manifest.json", "'manifest.json' is missing"),
        ("model.onnx", "'model.onnx' is missing"),
        ("golden.npz", "'golden.npz' is missing"),
    ],
)
def test_what_is_refused_leaves_nothing_behind(repository: ModelRepository, folder: Path, what: str, why: str) -> None:
    spoil(folder, what)
    with pytest.raises(ModelError, match=why):
        publish_folder(repository, NAME, folder)
    assert repository.versions(NAME) == []
    assert not (repository.root / NAME).exists()


def test_a_folder_that_is_none(repository: ModelRepository, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is not a folder"):
        publish_folder(repository, NAME, tmp_path / "nowhere")


def test_it_has_to_fit_the_stream_that_its_manifest_names(repository: ModelRepository, folder: Path) -> None:
    other = make_stream(step=7.0, window=2)
    with pytest.raises(ModelError):
        publish_folder(repository, NAME, folder, {other.name: other})
    assert repository.versions(NAME) == []
    fitting = make_stream()
    assert publish_folder(repository, NAME, folder, {fitting.name: fitting}) == 1


def test_the_commands(repository: ModelRepository, folder: Path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("DWCP_MODELS_DIR", str(repository.root))

    def call(*arguments: str, code: int = 0):
        assert run(["models", *arguments, "--json"]) == code
        return json.loads(capsys.readouterr().out)

    assert call("publish", NAME, str(folder)) == {"name": NAME, "version": 1, "champion": 1, "stream": None}
    assert run(["models", "publish", NAME, str(folder)]) == 0
    assert "version 2: its stream is not defined here; champion is version 1" in capsys.readouterr().out
    assert call("shadow", NAME, "2", "--reason", "try it")["aliases"] == {"champion": 1, "shadow": 2}
    moved = call("split", NAME, "2", "--share", "10")
    assert (moved["before"], moved["challenger"], moved["share"]) == (None, 2, 10)
    (row,) = call("list")["models"]
    assert (row["aliases"], row["share"]) == ({"champion": 1, "challenger": 2}, 10)
    assert run(["models", "list"]) == 0
    assert "challenger 2 (10 %)" in " ".join(capsys.readouterr().out.split())
    assert "is champion" in call("shadow", NAME, "1", code=1)["error"]["what"]
    assert call("split", NAME, "none")["before"] == 2
    assert call("shadow", NAME, "none")["before"] is None
    for wrong in (["split", NAME, "2"], ["split", NAME, "none", "--share", "3"], ["shadow", NAME, "two"]):
        assert run(["models", *wrong]) == 2
    history = call("history")["moves"]
    assert [(move["alias"], move["version"]) for move in history[:2]] == [("champion", 1), ("shadow", 2)]
    assert history[1]["reason"] == "try it"

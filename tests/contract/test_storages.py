"""What a repository may expect of the place where its files are, whatever place that is."""

import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dwcp_stream.cli.main import run
from dwcp_stream.errors import ConfigError, ModelError, UnreachableError
from dwcp_stream.registry import ModelRepository
from dwcp_stream.registry.history import read_history
from dwcp_stream.registry.object_storage import ObjectStorage
from dwcp_stream.registry.promotion import promote, rollback, shadow, split
from dwcp_stream.registry.signatures import check_signature, sign_version
from dwcp_stream.registry.storage import FolderStorage, Storage, open_storage
from dwcp_stream.registry.upkeep import removable, remove
from dwcp_stream.registry.watch import AliasWatch
from tests.model_graphs import binding, make_files, make_manifest

NAME = "tiny-anomaly"
PLACES: dict[str, Callable[[Path], Storage]] = {
    "folder": lambda path: FolderStorage(path / "models"),
    "fsspec-local": lambda path: ObjectStorage(fsspec.filesystem("file"), str(path / "models")),
    "fsspec-memory": lambda path: open_storage(f"memory://{path.name}/models"),
}


@pytest.fixture
def clean() -> Iterator[None]:
    """Leave nothing in the memory that all of fsspec's file systems of that kind share."""
    yield
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    memory.pseudo_dirs[:] = [""]


@pytest.fixture(params=PLACES)
def storage(request: pytest.FixtureRequest, tmp_path: Path, clean: None) -> Storage:
    return PLACES[request.param](tmp_path)


@pytest.fixture(params=["fsspec-local", "fsspec-memory"])
def objects(request: pytest.FixtureRequest, tmp_path: Path, clean: None) -> Storage:
    return PLACES[request.param](tmp_path)


def publish(repository: ModelRepository, times: int = 1) -> None:
    for _ in range(times):
        repository.publish(NAME, make_files("anomaly"), make_manifest("anomaly"))


# --- the port -------------------------------------------------------------------------------------------


def test_an_empty_place_has_nothing(storage: Storage) -> None:
    assert storage.names() == storage.names("m/1") == []
    assert not storage.complete("m/1")
    with pytest.raises(FileNotFoundError):
        storage.read("aliases.json", 10)
    storage.remove("aliases.json")


def test_a_folder_is_made_once_and_is_complete_then(storage: Storage) -> None:
    files = {"manifest.json": b"{}", "a.png": b"picture"}
    assert storage.create("m/1", files)
    assert storage.complete("m/1")
    assert storage.names() == ["m"]
    assert storage.names("m") == ["1"]
    assert storage.names("m/1") == ["a.png", "manifest.json"]
    assert not storage.create("m/1", {"manifest.json": b"other"})
    assert storage.read("m/1/manifest.json", 10) == b"{}"
    storage.remove("m/1")
    assert not storage.complete("m/1")
    assert storage.names("m/1") == []


def test_a_read_is_of_so_many_bytes_at_most(storage: Storage) -> None:
    storage.create("m/1", {"manifest.json": bytes(100)})
    assert len(storage.read("m/1/manifest.json", 100)) == 100
    assert len(storage.read("m/1/manifest.json", 99)) == 100, "one more shows that it is too large"
    assert len(storage.read("m/1/manifest.json", 10)) == 11


def test_what_is_replaced_is_replaced_as_a_whole_and_a_reader_never_sees_half(storage: Storage) -> None:
    storage.create("m/1", {"manifest.json": b"{}"})
    contents = [bytes([number]) * 200_000 for number in range(4)]
    storage.replace("aliases.json", contents[0])
    seen: set[bytes] = set()
    torn: list[int] = []
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            found = storage.read("aliases.json", 1 << 20)
            seen.add(found[:1])
            if found not in contents:
                torn.append(len(found))

    reader = threading.Thread(target=look)
    reader.start()
    deadline = time.monotonic() + 30
    for number, content in enumerate(itertools.cycle(contents)):
        storage.replace("aliases.json", content)
        if (number > 50 and len(seen) == len(contents)) or time.monotonic() > deadline:
            break
    stop.set()
    reader.join()
    assert not torn
    assert len(seen) == len(contents)


def test_lines_are_added_at_the_end(storage: Storage) -> None:
    storage.create("m/1", {"manifest.json": b"{}"})
    storage.append("history.jsonl", b"one\n")
    storage.append("history.jsonl", b"two\nthree\n")
    assert storage.read("history.jsonl", 100) == b"one\ntwo\nthree\n"
    storage.remove("history.jsonl")
    assert storage.names() == ["m"]


def test_a_place_says_where_it_is(storage: Storage, tmp_path: Path) -> None:
    assert storage.where("m/1").endswith("/models/m/1")
    assert tmp_path.name in storage.where()


# --- the repository on it -------------------------------------------------------------------------------


def test_a_model_lives_its_life(storage: Storage) -> None:
    repository = ModelRepository(storage)
    assert repository.names() == []
    publish(repository, 3)
    (bound,) = [binding("anomaly", model=NAME)]
    watch = AliasWatch(repository, [bound])
    assert repository.names() == [NAME]
    assert repository.versions(NAME) == [1, 2, 3]
    promote(repository, NAME, 1, by="alice", reason="first")
    assert watch.moved() == [(bound, 1)]
    assert repository.load(NAME).version == 1
    shadow(repository, NAME, 2)
    split(repository, NAME, 2, 20)
    assert (repository.aliases(NAME), repository.share(NAME)) == ({"champion": 1, "challenger": 2}, 20)
    promote(repository, NAME, 2)
    assert watch.moved() == [(bound, 2)]
    rollback(repository, NAME)
    assert repository.aliases(NAME) == {"champion": 1, "last_good": 1}
    assert "# tiny-anomaly" in repository.card(NAME)
    moves = [(move.alias, move.version) for move in read_history(storage)]
    assert moves[:3] == [("champion", 1), ("shadow", 2), ("challenger", 2)]
    assert removable(repository, NAME, keep=1, days=0) == [2]
    remove(repository, NAME, 2)
    assert repository.versions(NAME) == [1, 3]
    publish(repository)
    assert repository.versions(NAME) == [1, 3, 4]


def test_signatures_lie_beside_their_versions(storage: Storage) -> None:
    key = Ed25519PrivateKey.generate()
    repository = ModelRepository(storage, keys={"alice": key.public_key()})
    publish(repository, 2)
    sign_version(storage, NAME, 2, "alice", key)
    assert repository.verify(NAME, 2).ok
    assert "is not signed" in str(repository.verify(NAME, 1).error)
    manifest = storage.read(f"{NAME}/2/manifest.json", 1 << 20)
    assert check_signature(storage, NAME, 2, manifest, repository.keys) == "alice"
    remove(repository, NAME, 2)
    assert storage.names(NAME) == ["1"]


def test_a_damaged_version_is_refused(storage: Storage) -> None:
    repository = ModelRepository(storage)
    publish(repository)
    storage.replace(f"{NAME}/1/model.onnx", b"other")
    assert "SHA-256" in str(repository.verify(NAME, 1).error)
    storage.replace(f"{NAME}/1/weights.bin", b"more")
    assert "does not belong" in str(repository.verify(NAME, 1).error)


def test_a_file_that_is_too_large_is_refused(storage: Storage) -> None:
    repository = ModelRepository(storage)
    publish(repository)
    storage.replace(f"{NAME}/1/report.md", bytes((1 << 20) + 1))
    assert "larger than" in str(repository.verify(NAME, 1).error)


@pytest.mark.parametrize("text", [b"{", b'{"m": {"champion": "1"}}'])
def test_a_broken_table_of_aliases_is_said_and_kept(storage: Storage, text: bytes) -> None:
    repository = ModelRepository(storage)
    publish(repository)
    storage.replace("aliases.json", text)
    with pytest.raises(ModelError, match="table of aliases"):
        repository.set_alias(NAME, "champion", 1)
    assert storage.read("aliases.json", 100) == text


# --- what an object store cannot do at once -------------------------------------------------------------


def test_a_version_whose_publisher_died_is_passed_over_and_its_number_too(
    objects: ObjectStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = ModelRepository(objects)
    publish(repository)
    put = objects._put

    def die(path: str, data: bytes, mode: str = "overwrite") -> None:
        if path.endswith("manifest.json"):
            raise ConnectionError("gone")
        put(path, data, mode)

    with monkeypatch.context() as patch:
        patch.setattr(objects, "_put", die)
        with pytest.raises(ModelError, match=r"cannot be reached: gone"):
            publish(repository)
    assert set(objects.names(f"{NAME}/2")) == set(make_files("anomaly"))
    assert repository.versions(NAME) == [1]
    with pytest.raises(ModelError, match="no version 2"):
        repository.load(NAME, 2)
    publish(repository)
    assert repository.versions(NAME) == [1, 3]


def test_of_two_publishers_of_a_number_one_gets_it(objects: ObjectStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    objects.create("m/1", {"model.onnx": b"first", "manifest.json": b"{}"})
    with monkeypatch.context() as patch:
        patch.setattr(ObjectStorage, "names", lambda *_: [])  # the look was out of date
        assert not objects.create("m/1", {"model.onnx": b"second", "manifest.json": b"{}"})
    assert objects.read("m/1/model.onnx", 10) == b"first"


def test_a_removal_that_is_interrupted_leaves_no_version(
    objects: ObjectStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = ModelRepository(objects)
    publish(repository)
    real = objects.system.rm

    def once(path: str, **more: bool) -> None:
        if not path.endswith("manifest.json"):
            raise ConnectionError("gone")
        real(path, **more)

    with monkeypatch.context() as patch:
        patch.setattr(objects.system, "rm", once)
        with pytest.raises(ModelError, match="cannot be reached"):
            remove(repository, NAME, 1)
    assert repository.versions(NAME) == []
    assert objects.names(f"{NAME}/1"), "something is left"


def test_the_top_of_a_store_is_not_made(tmp_path: Path) -> None:
    nowhere = ObjectStorage(fsspec.filesystem("file", auto_mkdir=False), "bucket-that-is-not-there/models")
    with pytest.raises(UnreachableError, match="does not exist"):
        nowhere.replace("aliases.json", b"{}")
    assert not Path("bucket-that-is-not-there").exists()


# --- names of places ------------------------------------------------------------------------------------


def test_a_place_is_a_folder_or_a_url(tmp_path: Path) -> None:
    assert ModelRepository(tmp_path).root == ModelRepository(str(tmp_path)).root == tmp_path
    assert ModelRepository(f"file://{tmp_path}").root == tmp_path, "with all that a folder guarantees"
    elsewhere = ModelRepository("memory://models")
    assert elsewhere.where("m", 1) == "memory:///models/m/1"
    with pytest.raises(ModelError, match="not a folder of this machine"):
        _ = elsewhere.root


@pytest.mark.parametrize("url", ["nothing://bucket/models", "gdrive://models"])
def test_a_kind_of_place_that_nothing_here_reaches(url: str) -> None:
    with pytest.raises(ConfigError, match="Install the package"):
        ModelRepository(url)


def test_the_setting_takes_a_url(tmp_path: Path, clean: None, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    file = tmp_path / "dwcp.toml"
    file.write_text('models_dir = "memory://of-the-setting"\n')
    publish(ModelRepository("memory://of-the-setting"))
    assert run(["models", "list", "--config", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["models"][0]["versions"] == [1]
    monkeypatch.setenv("DWCP_MODELS_DIR", "memory://another")
    assert run(["models", "promote", NAME, "1", "--config", str(file), "--json"]) == 1
    assert "memory:///another" in json.loads(capsys.readouterr().out)["error"]["where"]
    monkeypatch.setenv("DWCP_MODELS_DIR", "nothing://bucket")
    assert run(["models", "list", "--config", str(file)]) == 1
    assert "Install the package" in capsys.readouterr().err

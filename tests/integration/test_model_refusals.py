"""A running worker and versions that must not serve: it says why on `dwcp.models`, and the last good one goes on."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import onnx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from onnx import helper

from dwcp_stream.events import ModelEvent
from dwcp_stream.keys import public_text
from dwcp_stream.registry import ModelRepository
from dwcp_stream.registry.files import LIMITS
from dwcp_stream.registry.object_storage import ObjectStorage
from dwcp_stream.registry.signatures import sign_version
from tests.integration import probe
from tests.integration.harness import read_topic, wait_until
from tests.integration.probe import Telemetry
from tests.integration.workers import Run, WorkerProcess

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

ALICE, MALLORY = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()


def rewrite(folder: Path, **changes: object) -> None:
    """Bring a manifest's hashes up to date, and change it."""
    path = folder / "manifest.json"
    plain = json.loads(path.read_text())
    files = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in plain["files"]}
    path.write_text(json.dumps({**plain, "version": int(folder.name), "files": files, **changes}))


def regraph(folder: Path, change: Callable[[onnx.ModelProto], object]) -> None:
    """Change the graph."""
    proto = onnx.load_from_string((folder / "model.onnx").read_bytes())
    change(proto)
    (folder / "model.onnx").write_bytes(proto.SerializeToString())
    rewrite(folder)


def constant(proto: onnx.ModelProto, name: str) -> onnx.TensorProto:
    return next(tensor for tensor in proto.graph.initializer if tensor.name == name)


def half_written(folder: Path) -> None:
    (folder / "golden.npz").unlink()


def torn(folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_bytes(path.read_bytes()[:100])


def damaged(folder: Path) -> None:
    with (folder / "model.onnx").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\0")


def oversized(folder: Path) -> None:
    with (folder / "model.onnx").open("r+b") as file:
        file.truncate(LIMITS[".onnx"] + 1)


def stray(folder: Path) -> None:
    (folder / "model.onnx.data").write_bytes(b"weights")


def other_schema(folder: Path) -> None:
    def change(proto: onnx.ModelProto) -> None:
        helper.set_model_props(
            proto, {p.key: "0" * 64 if p.key == "dwcp.schema_hash" else p.value for p in proto.metadata_props}
        )

    regraph(folder, change)
    rewrite(folder, schema_hash="0" * 64)


def other_shape(folder: Path) -> None:
    def change(proto: onnx.ModelProto) -> None:
        proto.graph.input[0].type.tensor_type.shape.dim[1].dim_value = probe.WINDOW + 1

    regraph(folder, change)


def forbidden(folder: Path) -> None:
    regraph(folder, lambda proto: proto.graph.node.append(helper.make_node("NonZero", ["score"], ["where"])))


def external(folder: Path) -> None:
    def change(proto: onnx.ModelProto) -> None:
        tensor = constant(proto, "factor")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        entry = tensor.external_data.add()
        entry.key, entry.value = "location", "../../../etc/hostname"
        tensor.ClearField("float_data")

    regraph(folder, change)


def infinite(folder: Path) -> None:
    regraph(folder, lambda proto: constant(proto, "factor").float_data.__setitem__(0, float("inf")))


def another_answer(folder: Path) -> None:
    regraph(folder, lambda proto: constant(proto, "factor").float_data.__setitem__(0, 1.01))


def unchanged(folder: Path) -> None:
    rewrite(folder)


CASES: list[tuple[Callable[[Path], object], Ed25519PrivateKey | None, str]] = [
    (half_written, ALICE, "'golden.npz' is missing"),
    (torn, ALICE, "the manifest is wrong"),
    (damaged, ALICE, "SHA-256"),
    (oversized, ALICE, "larger than"),
    (stray, ALICE, "does not belong"),
    (other_schema, ALICE, "schema hash"),
    (other_shape, ALICE, "'window'"),
    (forbidden, ALICE, "NonZero"),
    (external, ALICE, "in another file"),
    (infinite, ALICE, "not finite"),
    (another_answer, ALICE, "does not reproduce"),
    (unchanged, None, "is not signed"),
    (unchanged, MALLORY, "not that of 'alice'"),
]


async def events(run: Run) -> list[ModelEvent]:
    return [
        msgspec.json.decode(record.value, type=ModelEvent)
        for record in await read_topic(run.settings, run.topic("models"))
    ]


async def said(run: Run, worker: WorkerProcess, version: int) -> ModelEvent:
    """Wait for what the worker says of a version."""
    found: list[ModelEvent] = []

    async def check() -> bool:
        assert worker.running, worker.tail()
        found[:] = [event for event in await events(run) if event.version == version]
        return bool(found)

    await wait_until(check, lambda: f"a word on version {version}\n{worker.tail()}", every=0.0)
    return found[-1]


async def test_a_repository_in_another_file_system_is_followed_also_after_it_did_not_answer(site) -> None:
    """`local:` is the file system of this machine as fsspec has it, not as a folder."""
    models = site.directory / "models"
    repository = ModelRepository(f"local://{models}")
    assert isinstance(repository.storage, ObjectStorage)
    probe.publish_model(models, site.stream, factor=1.5, alias=None)
    await site.create()
    run = await site.run(DWCP_MODELS_DIR=f"local://{models}", DWCP_MODELS_INTERVAL="0.05")
    worker = run.start()
    await run.ready(worker)
    graph = models / probe.MODEL / "2" / "model.onnx"
    aside = graph.rename(site.directory / "aside.onnx")
    graph.mkdir()  # what cannot be read, though it is there
    promoted = {"champion": 2, "last_good": 1}
    for alias, version in promoted.items():
        repository.set_alias(probe.MODEL, alias, version)
    event = await said(run, worker, 2)
    assert (event.action, event.serving) == ("refused", 1)
    assert "cannot be reached" in event.reason
    graph.rmdir()
    aside.rename(graph)

    async def loaded() -> bool:
        assert worker.running, worker.tail()
        return [event.action for event in await events(run) if event.version == 2][-1] == "loaded"

    await wait_until(loaded, lambda: f"version 2 loaded\n{worker.tail()}")
    assert [event.action for event in await events(run) if event.version == 2] == ["refused", "loaded"], "each once"
    assert repository.aliases(probe.MODEL) == promoted


async def test_each_is_refused_with_its_reason_and_the_last_good_one_serves(site) -> None:
    models, telemetry = site.directory / "models", Telemetry(40, 300)
    repository = ModelRepository(models)
    sign_version(models, probe.MODEL, 1, "alice", ALICE)
    await site.create()
    keys = msgspec.json.encode({"alice": public_text(ALICE)}).decode()
    run = await site.run(DWCP_MODEL_KEYS=keys, DWCP_MODELS_INTERVAL="0.05")
    worker = run.start()
    await run.ready(worker)
    await site.write(telemetry, 0, 100)
    for version, (spoil, key, reason) in enumerate(CASES, start=2):
        folder = models / probe.MODEL / str(version)
        shutil.copytree(models / probe.MODEL / "1", folder)
        rewrite(folder)
        spoil(folder)
        if key is not None:
            sign_version(models, probe.MODEL, version, "alice", key)
        repository.set_alias(probe.MODEL, "champion", version)
        event = await said(run, worker, version)
        assert (event.action, event.serving) == ("refused", 1), spoil.__name__
        assert reason in event.reason, f"{spoil.__name__}: {event.reason}"
    await site.write(telemetry, 100)
    await run.caught_up()
    assert f"{probe.MODEL} v1" in (await worker.get("/health/ready"))[1]
    assert await worker.metric("dwcp_model_refusals_total") == len(CASES)
    worker.kill()
    final = await run.final()
    assert {alert["model_version"] for alert in final.alerts.values()} == {1}
    assert final.transitions == telemetry.transitions()

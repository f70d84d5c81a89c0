"""One graph everywhere: Go reads the same JSON records, makes the same windows and gets the same verdicts.

Nothing of the daemon runs there, only ONNX Runtime; so what a graph needs is in the graph.
"""

import json
import math
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from dwcp_stream.backtest import backtest
from dwcp_stream.pipeline import Pipeline
from dwcp_stream.registry import ModelRepository
from dwcp_stream.scoring import Model, Verdicts, signature
from dwcp_stream.streams import ModelBinding, StreamDefinition, load_streams
from tests.model_graphs import make_files, make_manifest, make_stream

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
COMMITTED = ModelRepository(ROOT / "models")
GOLDENS = 12
BEGIN = 1_790_000_000.0


@pytest.fixture(scope="module")
def library() -> Path:
    """The runtime's library: the one that is named, else the one that the Python package brings."""
    named = os.environ.get("ONNXRUNTIME_LIB")
    if named:
        return Path(named)
    return next((Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*"))


def records(stream: StreamDefinition, model: Model, windows: Any) -> list[dict[str, Any]]:
    """Rows of made-up windows as JSON samples, an entity for each window; a row without a value is a silent step."""
    samples = []
    for row in range(windows.shape[1]):
        for number, window in enumerate(windows):
            values = {}
            for column, name in enumerate(model.fields):
                field, value = stream.fields[stream.field_index(name)], float(window[row, column])
                if not math.isnan(value):
                    values[name] = field.vocabulary[int(value)].upper() if field.coded else value
            if values:
                entity = {part: f"{part} {number}/x" for part in stream.entity}
                samples.append({**entity, "ts": BEGIN + row * float(stream.step), **values})
    return samples


def plain(verdicts: Verdicts, i: int) -> dict[str, list[float | None]]:
    names = ("score", "probability", "expected", "kind", "quantiles")
    arrays = {name: getattr(verdicts, name) for name in names}
    return {
        name: [None if math.isnan(x) else x for x in np.atleast_1d(array[i]).ravel().tolist()]
        for name, array in arrays.items()
        if array is not None
    }


def write_case(folder: Path, stream: StreamDefinition, model: Model, graph: Path, golden: Any) -> int:
    """Write a case for Go: records, and what the pipeline makes of them; returns how many verdicts."""
    folder.mkdir()
    found: list[dict[str, Any]] = []

    def keep(_model: Model, entities: Any, ts: Any, verdicts: Verdicts, _firing: Any) -> None:
        found.extend(
            {"entity": entity, "ts": float(ts[i]), "arrays": plain(verdicts, i)} for i, entity in enumerate(entities)
        )

    samples = [json.dumps(sample) for sample in records(stream, model, golden["window"][:GOLDENS])]
    pipeline = Pipeline(stream, [model], check_ahead=False, recorder=keep)
    for result in backtest(pipeline, ((b"", sample.encode(), 0) for sample in samples)):
        assert not result.rejected
    given = {output.name for output in onnx.load(graph).graph.output}
    definition = {
        "model": str(graph),
        "entity": stream.entity,
        "time": stream.time,
        "step": stream.step,
        "min_periods": stream.min_periods,
        "fields": [{"name": f.name, "vocabulary": f.vocabulary, "aliases": f.aliases} for f in stream.fields],
        "columns": model.fields,
        "rows": model.window,
        "window": stream.window,
        "state_size": model.state_size,
        "outputs": [
            {"name": name, "size": math.prod(tensor.shape)}
            for name, tensor in signature.outputs(model.manifest).items()
            if name in given
        ],
    }
    (folder / "case.json").write_text(json.dumps(definition))
    (folder / "records.jsonl").write_text("\n".join(samples))
    (folder / "verdicts.jsonl").write_text("\n".join(map(json.dumps, found)))
    return len(found)


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every committed model, and a small one that remembers."""
    root = tmp_path_factory.mktemp("cases")
    streams = load_streams(ROOT / "config" / "streams")
    for name in COMMITTED.names():
        model = COMMITTED.load(name)
        stream = streams[model.stream]
        folder = COMMITTED.root / name / str(model.version)
        with np.load(folder / "golden.npz", allow_pickle=False) as golden:
            assert write_case(root / name, stream, model.bind(stream), folder / "model.onnx", golden) >= GOLDENS
    name = "tiny-stateful"
    repository = ModelRepository(root.parent / f"{root.name}-models")
    repository.publish(name, make_files("stateful"), make_manifest("stateful"))
    repository.set_alias(name, "champion", 1)
    stream = make_stream(models=(ModelBinding(name=name, task="anomaly"),))
    model, folder = repository.load(name).bind(stream), repository.root / name / "1"
    assert model.state_size
    with np.load(folder / "golden.npz", allow_pickle=False) as golden:
        assert write_case(root / name, stream, model, folder / "model.onnx", golden)
    return root


def run_go(cases: Path, library: Path | str) -> subprocess.CompletedProcess[str]:
    go = shutil.which("go")
    assert go, "Go is missing. Type: scripts/system-packages go"
    environment = {**os.environ, "DWCP_GO_CASES": str(cases), "ONNXRUNTIME_LIB": str(library), "CGO_ENABLED": "1"}
    return subprocess.run(
        [go, "test", "-count=1", "-v", "./..."],
        cwd=HERE, env=environment, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip


def test_every_record_gets_the_verdict_that_the_daemon_gave(cases: Path, library: Path) -> None:
    done = run_go(cases, library)
    assert done.returncode == 0, done.stdout + done.stderr
    passed = set(re.findall(r"--- PASS: TestRecords\w+/(\S+)", done.stdout))
    assert passed == {folder.name for folder in cases.iterdir()}


def test_a_verdict_that_differs_fails(cases: Path, library: Path, tmp_path: Path) -> None:
    shutil.copytree(cases / "node-gbt", tmp_path / "cases" / "node-gbt")
    file = tmp_path / "cases" / "node-gbt" / "verdicts.jsonl"
    first, *rest = file.read_text().splitlines()
    verdict = json.loads(first)
    verdict["arrays"]["score"][0] += 1e-3
    file.write_text("\n".join([json.dumps(verdict), *rest]))
    done = run_go(tmp_path / "cases", library)
    assert done.returncode == 1
    assert "score[0] of" in done.stdout


def test_a_library_that_is_not_there_is_said(cases: Path, tmp_path: Path) -> None:
    done = run_go(cases, tmp_path / "nothing.so")
    assert done.returncode == 1
    assert "cannot be loaded from" in done.stdout + done.stderr

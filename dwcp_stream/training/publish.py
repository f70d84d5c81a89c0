"""From a trained candidate to a version in the model repository: metadata, goldens, reference, manifest, card."""

import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from dwcp_stream.registry import ModelRepository, make_golden
from dwcp_stream.registry.card import TrainingData, measure, write_card
from dwcp_stream.registry.files import CARD
from dwcp_stream.registry.manifest import Manifest, build_manifest
from dwcp_stream.streams import schema_hash
from dwcp_stream.streams.definition import Field, StreamDefinition
from dwcp_stream.training.data_facts import file_hash, training_data
from dwcp_stream.training.graph import set_metadata, to_bytes
from dwcp_stream.training.job import Candidate, Job
from dwcp_stream.training.report import table

GOLDEN_ROWS = 8
BINS = 10
EPOCH = "SOURCE_DATE_EPOCH"


def histogram(values: NDArray[Any], field: Field) -> dict[str, list[float]]:
    """Histogram of one field's training rows, for PSI.

    Parameters
    ----------
    values
        [N], NaN = missing; codes for a field with a vocabulary.
    field
        Decides the cuts: between codes, or at the deciles.

    Returns
    -------
    dict
        `edges`: k strictly increasing inner cuts; `share`: k + 1 shares of the bins that they cut the line
        into (both ends open, a value equal to a cut falls in the bin above it). No edges if nothing is known.
    """
    known = np.asarray(values, np.float64)
    known = known[np.isfinite(known)]
    if not len(known):
        return {"edges": [], "share": [1.0]}
    if field.coded:
        edges = np.arange(len(field.vocabulary) - 1) + 0.5
    else:
        edges = np.unique(np.quantile(known, np.linspace(0, 1, BINS + 1)[1:-1]).astype(np.float32))
        edges = edges[edges > known.min()].astype(np.float64)  # a cut at the minimum would leave a bin empty
    counts = np.bincount(np.searchsorted(edges, known, side="right"), minlength=len(edges) + 1)
    return {"edges": [float(e) for e in edges], "share": [float(s) for s in counts / len(known)]}


def reference(rows: NDArray[Any], stream: StreamDefinition, fields: Sequence[str]) -> dict[str, Any]:
    """Histograms of training rows [N, F] whose columns are `fields`."""
    return {name: histogram(rows[:, i], stream.fields[stream.field_index(name)]) for i, name in enumerate(fields)}


def made_up_inputs(candidate: Candidate, stream: StreamDefinition, seed: int) -> dict[str, NDArray[Any]]:
    """Windows that look like telemetry and come from no data set: random walks, gaps and extremes.

    Values are drawn log-normally around the middle cut of the field's reference histogram; window 0 misses
    its first rows, window 1 some values, window 2 has a ramp of all fields, and window 3 a constant row.
    """
    rng = np.random.default_rng(seed)
    shape = (GOLDEN_ROWS, candidate.window)
    window = np.empty((*shape, len(candidate.fields)), np.float32)
    for i, name in enumerate(candidate.fields):
        field = stream.fields[stream.field_index(name)]
        edges = candidate.reference.get(name, {}).get("edges", [])
        if field.coded:
            window[..., i] = rng.integers(0, len(field.vocabulary), GOLDEN_ROWS)[:, None]
            continue
        middle = float(edges[len(edges) // 2]) if edges else 1.0
        walk = rng.normal(0, 0.3, (GOLDEN_ROWS, 1)) + rng.normal(0, 0.1, shape).cumsum(axis=1) / 2
        values = max(abs(middle), 0.05) * np.exp(walk)
        values[2] *= np.linspace(1.0, 6.0, candidate.window)
        values[3] = values[3, :1]
        window[..., i] = np.clip(values, field.min, field.max) if field.max is not None else values
    if candidate.window > 1:
        window[0, : candidate.window // 3] = np.nan
    window[1][rng.random(window[1].shape) < 0.1] = np.nan
    step = 60.0 if isinstance(stream.step, str) else float(stream.step)
    start = 1.7e9 + rng.integers(0, 7 * 86400, (GOLDEN_ROWS, 1))
    made: dict[str, NDArray[Any]] = {
        "window": window,
        "time": (start + step * np.arange(candidate.window)).astype(np.float64),
    }
    if candidate.state_size:
        made["state_in"] = rng.normal(0, 1, (GOLDEN_ROWS, candidate.state_size)).astype(np.float32)
        made["state_in"][0] = np.nan
    return made


def data_hash(files: Sequence[Path]) -> str:
    """SHA-256 over the SHA-256 of each file, in order."""
    whole = hashlib.sha256()
    for path in files:
        whole.update(bytes.fromhex(file_hash(path)))
    return whole.hexdigest()


def trained_on(manifest: Manifest, files: Sequence[Path]) -> list[str]:
    """Names of the files that a version was trained on: all if the hash is that of its data, else by their names."""
    if files and manifest.data_sha256 == data_hash(files):
        return [path.name for path in files]
    words = {Path(word).name for word in manifest.command.split()}
    return [path.name for path in files if path.name in words]


def publish(candidate: Candidate, job: Job, repository: ModelRepository) -> int:
    """Publish a candidate as the next version of its model.

    Returns
    -------
    int
        The version. It becomes champion only if the model has none yet.

    Raises
    ------
    ModelError
        If the repository refuses it (operators, size, goldens that do not reproduce).
    """
    stream, name = job.stream, job.binding.name
    described = [stream.fields[stream.field_index(f)] for f in candidate.fields]
    facts = {
        "task": job.binding.task,
        "stream": stream.name,
        "schema_hash": schema_hash(stream, candidate.fields, candidate.window),
        "window": candidate.window,
        "horizons": list(candidate.horizons),
        "trained_at": _now(),
        "data_sha256": data_hash(job.files),
        "metrics": dict(candidate.metrics),
    }
    fields = [{"name": f.name, "kind": f.kind, "unit": f.unit, "vocabulary": list(f.vocabulary)} for f in described]
    metadata = {
        key: value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
        for key, value in {**facts, "fields": fields}.items()
    }
    model = _with_metadata(candidate.model, metadata)
    explain = None if candidate.explain is None else _with_metadata(candidate.explain, metadata)
    made_up = made_up_inputs(candidate, stream, job.seed)
    golden = make_golden(model, made_up["window"], made_up["time"], made_up.get("state_in"), explain_bytes=explain)
    data = training_data(job)
    files = {
        "model.onnx": model,
        "golden.npz": golden,
        "report.md": _with_hashes(candidate.report, data).encode(),
        **candidate.plots,
    }
    if explain is not None:
        files["explain.onnx"] = explain
    manifest = {
        "name": name,
        **facts,
        "fields": fields,
        "targets": list(candidate.targets),
        "severity": list(candidate.severity),
        "kinds": list(candidate.kinds),
        "state_size": candidate.state_size,
        "seed": job.seed,
        "command": job.command,
        "reference": {k: dict(v) for k, v in candidate.reference.items()},
        "licence": candidate.licence,
    }
    described_as, _ = build_manifest(manifest, name=name, version=1, files=files, where=name)
    # a build that is to be repeated to the byte cannot hold what a clock said
    p99 = None if EPOCH in os.environ else measure(files)
    files[CARD] = write_card(described_as, files, data, p99).encode()
    version = repository.publish(name, files, manifest)
    aliases = repository.aliases(name)
    if "champion" not in aliases:
        repository.set_alias(name, "champion", version)
    return version


def _with_hashes(report: str, data: TrainingData | None) -> str:
    """Say at a report's end which files it is about."""
    if data is None:
        return report
    return f"{report.rstrip()}\n\n## Files\n\n{table(('file', 'SHA-256'), list(data.hashes.items()))}\n"


def _with_metadata(model: bytes, metadata: Mapping[str, str]) -> bytes:
    proto = onnx.load_from_string(model)
    set_metadata(proto, metadata)
    return to_bytes(proto)


def _now() -> str:
    """Return the time of training; SOURCE_DATE_EPOCH fixes it, to repeat a build to the byte."""
    epoch = float(os.environ.get(EPOCH, time.time()))
    return datetime.fromtimestamp(epoch, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")

"""What every model must do, whoever made it: each committed version, and a tiny graph of every task."""

import io
import itertools
import json
import time
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from dwcp_stream.registry import ModelRepository
from dwcp_stream.registry.card import MOST_BYTES, MOST_MS, count_parameters, measure
from dwcp_stream.registry.golden import ABSOLUTE, RELATIVE
from dwcp_stream.scoring import MAX_BATCH, Model, Verdicts, signature
from dwcp_stream.streams import load_streams
from tests.model_graphs import FIELDS, NAMES, ROWS, make_files, make_manifest, make_stream

PROJECT = Path(__file__).resolve().parents[2]
COMMITTED = ModelRepository(PROJECT / "models")
CASES = [("committed", name, version) for name in COMMITTED.names() for version in COMMITTED.versions(name)]
CASES += [("tiny", f"tiny-{name}", 1) for name in NAMES]
WINDOWS = 64


class Subject(NamedTuple):
    """A loaded model, windows for it (its own fields), and where its files are."""

    model: Model
    folder: Path
    golden: dict[str, NDArray[Any]]
    window: NDArray[np.float32]
    time: NDArray[np.float64]
    state: NDArray[np.float32] | None

    def score(self, which: slice | NDArray[np.int64]) -> Verdicts:
        state = None if self.state is None else self.state[which]
        return self.model.score(self.window[which], self.time[which], state)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> ModelRepository:
    repository = ModelRepository(tmp_path_factory.mktemp("models"))
    for name in NAMES:
        repository.publish(f"tiny-{name}", make_files(name), make_manifest(name))
    return repository


@pytest.fixture(scope="module", params=CASES, ids=lambda case: f"{case[1]}-{case[2]}")
def subject(request: pytest.FixtureRequest, tiny: ModelRepository) -> Subject:
    source, name, version = request.param
    repository = tiny if source == "tiny" else COMMITTED
    model = repository.load(name, version)
    folder = repository.root / name / str(version)
    with np.load(io.BytesIO((folder / "golden.npz").read_bytes()), allow_pickle=False) as found:
        golden = {key: found[key] for key in found.files}
    return Subject(model, folder, golden, *varied(model, golden))


def varied(model: Model, golden: dict[str, NDArray[Any]]) -> tuple[Any, Any, Any]:
    """Windows near the golden ones: other levels and noise, values and whole rows missing, codes kept."""
    rng = np.random.default_rng(7)
    take = np.arange(WINDOWS) % len(golden["window"])
    window = golden["window"][take].astype(np.float32)
    gauges = [i for i, field in enumerate(model.manifest.fields) if not field.vocabulary]
    factor = rng.uniform(0.7, 1.3, (WINDOWS, 1, 1)) * rng.uniform(0.95, 1.05, window.shape)
    window[:, :, gauges] = (window * factor)[:, :, gauges]
    window[rng.random(window.shape) < 0.1] = np.nan
    if model.window > 3:
        window[::3, 1] = np.nan
    state = golden["state_in"][take] if model.state_size else None
    return (
        np.ascontiguousarray(window),
        golden["time"][take] + 60.0 * rng.integers(0, 5000, (WINDOWS, 1)),
        state,
    )


def arrays(verdicts: Verdicts) -> dict[str, NDArray[np.float32]]:
    found = {field.name: getattr(verdicts, field.name) for field in fields(verdicts)}
    return {name: array for name, array in found.items() if array is not None}


def assert_same_bits(part: Verdicts, whole: Verdicts, which: slice | NDArray[np.int64]) -> None:
    for name, array in arrays(whole).items():
        expected = array[which]
        assert getattr(part, name).tobytes() == expected.tobytes(), name


def test_outputs_have_the_names_shapes_and_types_of_the_task(subject: Subject) -> None:
    model = subject.model
    found = arrays(subject.score(slice(None)))
    wanted = signature.outputs(model.manifest)
    assert {name for name, tensor in wanted.items() if tensor.required} <= set(found) <= set(wanted)
    for name, array in found.items():
        assert array.dtype == np.float32, name
        assert array.shape == (WINDOWS, *wanted[name].shape), name
    if model.task == "forecast":
        assert found["quantiles"].shape == (WINDOWS, len(model.horizons), len(model.targets), 3)
    else:
        assert found["expected"].shape == (WINDOWS, len(model.fields))


def test_no_windows_give_no_verdicts_of_the_same_shapes(subject: Subject) -> None:
    none, some = arrays(subject.score(slice(0, 0))), arrays(subject.score(slice(0, 4)))
    assert {name: (a.shape[1:], a.dtype) for name, a in none.items()} == {
        name: (a.shape[1:], a.dtype) for name, a in some.items()
    }
    assert len(none["score"]) == 0


def test_scores_of_windows_with_holes_are_finite(subject: Subject) -> None:
    assert np.isnan(subject.window).any()
    for name, array in arrays(subject.score(slice(None))).items():
        assert (not np.isinf(array).any()) if name == "expected" else np.isfinite(array).all(), name


def test_a_window_without_values_neither_fails_nor_disturbs_the_others(subject: Subject) -> None:
    model, at = subject.model, 5
    window = subject.window.copy()
    window[at] = np.nan
    state = None if subject.state is None else subject.state.copy()
    if state is not None:
        state[at] = np.nan
    found = model.score(window, subject.time, state)
    others = np.delete(np.arange(WINDOWS), at)
    for name, array in arrays(subject.score(slice(None))).items():
        assert getattr(found, name)[others].tobytes() == array[others].tobytes(), name
        assert not np.isinf(getattr(found, name)[at]).any(), name


@pytest.mark.parametrize("size", [1, 2, 3, 7, 63])
def test_verdicts_do_not_depend_on_batch_or_position_bit_for_bit(subject: Subject, size: int) -> None:
    whole = subject.score(slice(None))
    for begin in {*range(0, WINDOWS - size + 1, max(1, size // 2)), WINDOWS - size}:
        which = slice(begin, begin + size)
        assert_same_bits(subject.score(which), whole, which)
    order = np.random.default_rng(3).permutation(WINDOWS)
    assert_same_bits(subject.score(order), whole, order)


def test_batches_larger_than_a_run_are_cut_without_a_trace(subject: Subject) -> None:
    whole = subject.score(slice(None))
    many = np.arange(MAX_BATCH + 45) % WINDOWS
    assert_same_bits(subject.score(many), whole, many)


def test_goldens_reproduce(subject: Subject) -> None:
    golden, model = subject.golden, subject.model
    found = arrays(model.score(golden["window"], golden["time"], golden.get("state_in")))
    assert set(found) == set(golden) - set(signature.inputs(model.manifest)) - {"contribution"}
    for name, array in found.items():
        np.testing.assert_allclose(array, golden[name], rtol=RELATIVE, atol=ABSOLUTE, err_msg=name)


def test_the_graphs_metadata_repeats_the_manifest(subject: Subject) -> None:
    manifest = json.loads((subject.folder / "manifest.json").read_text())
    for path in subject.folder.glob("*.onnx"):
        held = {p.key: p.value for p in onnx.load(path, load_external_data=False).metadata_props}
        for key in ("task", "stream", "schema_hash", "trained_at", "data_sha256"):
            assert held[f"dwcp.{key}"] == manifest[key]
        for key in ("fields", "window", "horizons", "metrics"):
            assert json.loads(held[f"dwcp.{key}"]) == manifest[key]


def test_a_committed_model_fits_its_stream(subject: Subject) -> None:
    streams = {**load_streams(PROJECT / "config/streams"), "tiny": make_stream()}
    model = subject.model
    stream = streams[model.stream]
    width = len(stream.fields)
    window = np.full((WINDOWS, stream.window, width), 1.0, np.float32)
    for i, name in enumerate(model.fields):
        window[:, -model.window :, stream.field_index(name)] = subject.window[:, :, i]
    times = np.concatenate([np.zeros((WINDOWS, stream.window - model.window)), subject.time], axis=1)
    own = subject.score(slice(None))
    loaded = ModelRepository(subject.folder.parents[1]).load(model.name, model.version)
    assert_same_bits(loaded.bind(stream).score(window, times, subject.state), own, slice(None))


def test_explanations_have_a_number_per_field_in_any_batch(subject: Subject) -> None:
    model = subject.model
    whole = model.explain(subject.window, subject.time, subject.state)
    assert (whole is not None) == (subject.folder / "explain.onnx").exists() == model.explains
    if whole is None:
        return
    assert whole.shape == (WINDOWS, len(model.fields))
    assert whole.dtype == np.float32
    assert np.isfinite(whole).all()
    for begin, size in itertools.product((0, 9, 40), (1, 2, 7)):
        which = slice(begin, begin + size)
        state = None if subject.state is None else subject.state[which]
        part = model.explain(subject.window[which], subject.time[which], state)
        assert part is not None
        assert part.tobytes() == whole[which].tobytes()


def test_a_score_of_one_is_one_threshold_of_the_probability(subject: Subject) -> None:
    """Where both are given, the windows over score 1 are those over some probability."""
    verdicts = subject.score(slice(None))
    if verdicts.probability is None:
        assert subject.model.task != "incident"
        return
    assert ((verdicts.probability >= 0) & (verdicts.probability <= 1)).all()
    over = verdicts.score > 1
    if over.any() and not over.all():
        assert verdicts.probability[over].min() > verdicts.probability[~over].max()


def test_quantiles_ascend(subject: Subject) -> None:
    quantiles = subject.score(slice(None)).quantiles
    assert (quantiles is not None) == (subject.model.task == "forecast")
    if quantiles is not None:
        assert (np.diff(quantiles, axis=-1) >= 0).all()


def test_state_comes_back_and_goes_in_again(subject: Subject) -> None:
    model = subject.model
    if not model.state_size:
        assert subject.score(slice(None)).state_out is None
        return
    unseen = np.full((WINDOWS, model.state_size), np.nan, np.float32)
    first = model.score(subject.window, subject.time)
    assert_same_bits(model.score(subject.window, subject.time, unseen), first, slice(None))
    assert first.state_out is not None
    assert np.isfinite(first.state_out).all()
    second = model.score(subject.window, subject.time, first.state_out)
    assert second.state_out is not None
    assert not np.array_equal(second.state_out, first.state_out)


def test_the_tiny_anomaly_scores_one_at_its_threshold(tiny: ModelRepository) -> None:
    model = tiny.load("tiny-anomaly", 1)
    window = np.zeros((1, ROWS, len(FIELDS)), np.float32)
    # the mean of (0, ..., 0, x) is x / ROWS, so the last row is x (1 - 1 / ROWS) away from it
    window[:, -1] = (np.e - 1) / (1 - 1 / ROWS)
    np.testing.assert_allclose(model.score(window, np.zeros((1, ROWS))).score, 1.0, rtol=1e-6)


def test_latency_is_measured(subject: Subject, request: pytest.FixtureRequest) -> None:
    """Measured and shown (`pytest --junitxml`), not asserted: machines differ."""
    seconds = []
    for i in range(200):
        begun = time.perf_counter()
        subject.score(slice(i % WINDOWS, i % WINDOWS + 1))
        seconds.append(time.perf_counter() - begun)
    p50, p99 = np.percentile(seconds, [50, 99]) * 1e3
    request.node.user_properties.append(("p50_ms", f"{p50:.3f}"))
    request.node.user_properties.append(("p99_ms", f"{p99:.3f}"))
    assert len(seconds) == 200


@pytest.mark.parametrize(("name", "version"), [case[1:] for case in CASES if case[0] == "committed"])
def test_a_committed_model_is_small_fast_and_float32(name: str, version: int) -> None:
    """On the thread's own time, which other work on the machine moves little."""
    folder = COMMITTED.root / name / str(version)
    contents = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert count_parameters(contents["model.onnx"])[1]
    assert len(contents["model.onnx"]) < MOST_BYTES
    assert measure(contents) < MOST_MS

"""Scoring: how windows are cut for a model, what fits a stream, sessions and threads."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from dwcp_stream.errors import ModelError
from dwcp_stream.registry import Manifest, ModelRepository
from dwcp_stream.scoring import Model, SessionOptions, make_session
from dwcp_stream.scoring.selection import Selection, select
from dwcp_stream.streams import Field, StreamDefinition
from tests.model_graphs import (
    FIELDS,
    ROWS,
    binding,
    make_files,
    make_manifest,
    make_proto,
    make_stream,
    make_windows,
)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> ModelRepository:
    repository = ModelRepository(tmp_path_factory.mktemp("models"))
    for name in ("anomaly", "forecast"):
        repository.publish(f"tiny-{name}", make_files(name, explained=name == "anomaly"), make_manifest(name))
    return repository


@pytest.fixture
def model(repository: ModelRepository) -> Model:
    return repository.load("tiny-anomaly", 1)


def in_stream(windows: np.ndarray[Any, Any], stream: StreamDefinition) -> np.ndarray[Any, Any]:
    """Put the models' fields into windows of a stream, other values around them."""
    whole = np.full((len(windows), stream.window, len(stream.fields)), 1e6, np.float32)
    for i, name in enumerate(FIELDS):
        whole[:, -ROWS:, stream.field_index(name)] = windows[:, :, i]
    return whole


def changed(stream: StreamDefinition, name: str, **changes: Any) -> StreamDefinition:
    """The stream with one field changed."""
    fields = tuple(msgspec.structs.replace(f, **changes) if f.name == name else f for f in stream.fields)
    return make_stream(fields=fields)


def test_what_a_model_says_of_itself(model: Model) -> None:
    assert (model.name, model.version, model.task, model.stream) == ("tiny-anomaly", 1, "anomaly", "tiny")
    assert (model.fields, model.window) == (FIELDS, ROWS)
    assert model.severity == (1, 2, 3.5)
    assert model.kinds == ("latency", "loss")
    assert model.horizons == model.targets == ()
    assert model.state_size == 0
    assert model.schema_hash == model.manifest.schema_hash
    assert isinstance(model.manifest, Manifest)
    assert model.manifest.reference == {"latency": {"edges": [1.0, 2.0], "share": [0.25, 0.5, 0.25]}}
    assert "tiny-anomaly version 1" in repr(model)


def test_a_model_sees_its_columns_and_last_rows_of_a_streams_windows(model: Model) -> None:
    windows, times = make_windows(9)
    own = model.score(windows, times)
    stream = make_stream()
    whole = in_stream(windows, stream)
    around = np.concatenate([np.zeros((9, 2)), times], axis=1)
    found = model.bind(stream).score(whole, around)
    assert found.score.tobytes() == own.score.tobytes()
    assert found.expected is not None
    assert own.expected is not None
    assert found.expected.tobytes() == own.expected.tobytes()


def test_windows_that_are_the_models_own_are_not_copied() -> None:
    windows, _ = make_windows(8)
    assert np.shares_memory(Selection(ROWS, len(FIELDS))(windows), windows)


def test_the_order_of_the_streams_fields_does_not_matter(model: Model) -> None:
    windows, times = make_windows(5)
    own = model.score(windows, times).score
    fields = tuple(reversed(make_stream().fields))
    stream = make_stream(fields=fields, window=ROWS)
    assert model.bind(stream).score(in_stream(windows, stream), times).score.tobytes() == own.tobytes()


def test_words_that_a_stream_learnt_later_are_missing_values(model: Model) -> None:
    stream = changed(make_stream(), "mode", vocabulary=("slow", "fast", "off", "new"))
    windows, times = make_windows(6)
    around = np.concatenate([np.zeros((6, 2)), times], axis=1)
    unknown, missing = windows.copy(), windows.copy()
    unknown[2, :, 2], missing[2, :, 2] = 3, np.nan
    given = in_stream(unknown, stream)
    before = given.copy()
    found = model.bind(stream).score(given, around).score
    assert found.tobytes() == model.score(in_stream(missing, stream), around).score.tobytes()
    np.testing.assert_array_equal(given, before)  # the caller's windows are left alone


def test_new_words_are_masked_in_a_copy_when_the_windows_are_used_as_they_are() -> None:
    fields = tuple(f for f in make_stream().fields if f.name in FIELDS)
    words = ("slow", "fast", "off", "new")
    fields = tuple(msgspec.structs.replace(f, vocabulary=words) if f.name == "mode" else f for f in fields)
    manifest = build("anomaly")
    cut = select(manifest, make_stream(fields=fields, window=ROWS), where="test")
    windows, _ = make_windows(4, holes=0)
    windows[1, 2, 2] = 3
    before = windows.copy()
    found = cut(windows)
    assert np.isnan(found[1, 2, 2])
    assert np.isnan(found).sum() == 1
    np.testing.assert_array_equal(windows, before)


def build(name: str) -> Manifest:
    plain = {**make_manifest(name), "version": 1, "files": {}}
    return msgspec.convert(plain, Manifest)


@pytest.mark.parametrize(
    ("stream", "both"),
    [
        (make_stream(fields=make_stream().fields[:2]), ["'loss'", "'tiny'"]),
        (changed(make_stream(), "latency", unit="s"), ["'ms'", "'s'", "unit"]),
        (changed(make_stream(), "latency", kind="counter"), ["'gauge'", "'counter'"]),
        (changed(make_stream(), "latency", vocabulary=("a",)), ["coding", "False", "True"]),
        (changed(make_stream(), "mode", vocabulary=("fast", "slow", "off")), ["['slow', 'fast', 'off']", "['fast'"]),
        (changed(make_stream(), "mode", vocabulary=("slow", "fast")), ["['slow', 'fast', 'off']", "['slow', 'fast']"]),
        (make_stream(window=5), ["6 rows", "have 5"]),
        (make_stream(step=1.0), ["schema hash", "step is 1.0"]),
        (make_stream(step="irregular"), ["schema hash", "irregular"]),
        (make_stream(models=(binding("anomaly", task="incident"),)), ["'anomaly'", "'incident'"]),
        (make_stream(models=(binding("forecast", model="tiny-anomaly"),)), ["'anomaly'", "'forecast'"]),
    ],
)  # fmt: skip
def test_a_stream_that_does_not_fit_names_both_sides(model: Model, stream: StreamDefinition, both: list[str]) -> None:
    with pytest.raises(ModelError) as caught:
        model.bind(stream)
    for word in both:
        assert word in caught.value.what
    assert caught.value.where == "model tiny-anomaly version 1"
    assert caught.value.remedy


def test_another_stream_of_the_same_schema_fits(model: Model) -> None:
    """The hash covers what the model reads, not what the stream is called or how else it is measured."""
    fields = (*make_stream().fields, Field(name="later", unit="ms"))
    assert model.bind(make_stream(name="other", fields=fields, lateness=5.0)) is model


@pytest.mark.parametrize("name", ["window", "time", "columns"])
def test_arrays_that_do_not_fit_are_a_mistake_of_the_caller(model: Model, name: str) -> None:
    windows, times = make_windows(3)
    if name == "window":
        windows = windows[:, 1:]
        times = times[:, 1:]
    elif name == "time":
        times = times[:2]
    else:
        windows = windows[:, :, :2]
    with pytest.raises(ValueError, match="shape"):
        model.score(windows, times)


def test_a_model_without_an_explanation(repository: ModelRepository) -> None:
    model = repository.load("tiny-forecast", 1)
    windows, times = make_windows(2)
    assert not model.explains
    assert model.explain(windows, times) is None


def test_explanations_of_no_windows(model: Model) -> None:
    windows, times = make_windows(2)
    found = model.explain(windows[:0], times[:0])
    assert found is not None
    assert found.shape == (0, len(FIELDS))


def test_arrays_of_other_layouts_and_types_are_taken(model: Model) -> None:
    windows, times = make_windows(8)
    own = model.score(windows, times).score
    assert model.score(np.asfortranarray(windows), times).score.tobytes() == own.tobytes()
    assert model.score(windows.astype(np.float64), np.asfortranarray(times)).score.tobytes() == own.tobytes()


def test_a_graph_that_fails_while_scoring_is_a_model_error(model: Model) -> None:
    class Broken:
        def get_outputs(self) -> list[Any]:
            return []

        def run(self, names: list[str], arrays: object) -> list[Any]:
            raise RuntimeError("index 9 out of range\nmore")

    windows, times = make_windows(2)
    with pytest.raises(ModelError, match="failed on 4 windows: index 9 out of range"):
        Model(model.manifest, Broken()).score(windows, times)


def test_more_threads_compute_the_same(repository: ModelRepository, model: Model) -> None:
    threaded = ModelRepository(repository.root, SessionOptions(intra_threads=2)).load("tiny-anomaly", 1)
    windows, times = make_windows(64)
    assert threaded.score(windows, times).score.tobytes() == model.score(windows, times).score.tobytes()


def test_a_session_has_one_thread_unless_told() -> None:
    data = make_proto("anomaly").SerializeToString()
    assert make_session(data).get_session_options().intra_op_num_threads == 1
    two = make_session(data, SessionOptions(intra_threads=2)).get_session_options()
    assert two.intra_op_num_threads == 2
    assert make_session(data).get_providers() == ["CPUExecutionProvider"]
    with pytest.raises(ValueError, match="at least 1"):
        SessionOptions(intra_threads=0)


def test_a_session_of_no_graph_is_a_model_error() -> None:
    with pytest.raises(ModelError, match=r"here: ONNX Runtime .* cannot load"):
        make_session(b"nothing", where="here")


def test_scoring_imports_neither_kafka_nor_training() -> None:
    for path in Path(Model.score.__code__.co_filename).parent.glob("*.py"):
        text = path.read_text()
        assert "faust" not in text
        assert "dwcp_stream.training import" not in text

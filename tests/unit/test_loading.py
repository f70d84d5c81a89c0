import gc
import resource
import weakref
from pathlib import Path

import numpy as np
import pytest

from dwcp_stream.activations import Activation, needed, schedule_of
from dwcp_stream.chunk import Chunk
from dwcp_stream.errors import ConfigError, ModelError
from dwcp_stream.loading import BoundModels, bound_models, find_stream
from dwcp_stream.pipeline import Pipeline
from dwcp_stream.registry import ModelRepository
from dwcp_stream.registry.watch import AliasWatch
from dwcp_stream.settings import Settings
from tests.integration import probe


@pytest.fixture
def site(tmp_path):
    stream = probe.write_definition(tmp_path / "streams", "t")
    probe.publish_model(tmp_path / "models", stream)
    return stream, Settings(streams_dir=tmp_path / "streams", models_dir=tmp_path / "models"), tmp_path / "models"


def test_the_champion_is_loaded_and_bound(site):
    stream, settings, _ = site
    (model,) = bound_models(settings, stream)
    assert (model.name, model.version) == (probe.MODEL, 1)


def test_a_refused_champion_gives_way_to_the_last_good_version(site):
    stream, settings, root = site
    repository = ModelRepository(root)
    probe.publish_model(root, stream)  # version 2, champion
    repository.set_alias(probe.MODEL, "last_good", 1)
    (root / probe.MODEL / "2" / "model.onnx").write_bytes(b"not a model")
    (model,) = bound_models(settings, stream)
    assert model.version == 1


def test_without_a_last_good_version_the_reason_is_raised(site):
    stream, settings, root = site
    (root / probe.MODEL / "1" / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(ModelError, match=r"model\.onnx"):
        bound_models(settings, stream)


def test_an_unknown_stream_names_those_there_are(site):
    _, settings, _ = site
    with pytest.raises(ConfigError, match="probe"):
        find_stream(settings, "nope")


def test_the_watch_tells_each_move_once(site):
    stream, _, root = site
    repository = ModelRepository(root)
    watch = AliasWatch(repository, stream.models)
    assert watch.moved() == []
    probe.publish_model(root, stream)
    assert [(b.name, version) for b, version in watch.moved()] == [(probe.MODEL, 2)]
    assert watch.moved() == []
    repository.set_alias(probe.MODEL, "champion", None)
    assert watch.moved() == [], "nothing to move to"
    repository.set_alias(probe.MODEL, "champion", 1)
    assert [version for _, version in watch.moved()] == [1]
    (root / "aliases.json").write_text("[")
    with pytest.raises(ModelError, match="table of aliases"):
        watch.moved()


def test_a_version_in_use_is_loaded_once_and_one_that_is_not_is_let_go(site):
    stream, settings, _ = site
    models = BoundModels(settings, stream)
    model = models.load(probe.MODEL, 1)
    assert models.load(probe.MODEL, "champion") is model
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


SWAPS = 200


def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def test_memory_stays_flat_over_many_swaps(site):
    """Two versions by turns, each loaded anew because nothing held it meanwhile; two partitions with samples."""
    stream, settings, root = site
    probe.publish_model(root, stream, remembers=True)
    models = BoundModels(settings, stream)
    pipeline = Pipeline(stream, models.first())
    rows = [(key, value) for key, value, _, _ in probe.Telemetry(20, 2 * SWAPS).rows(1)[0]]
    stamps = np.full(len(rows), int((probe.EPOCH + 1e6) * 1000), np.int64)
    step, born, sizes = len(rows) // (SWAPS + 1), [], []
    for number in range(SWAPS + 1):
        begin, end = number * step, (number + 1) * step
        for partition in (0, 1):
            if number:
                state = pipeline.partitions[partition]
                model = models.load(probe.MODEL, 2 - number % 2)
                coming = Activation(begin, model.name, model.version)
                state.plan(schedule_of([*needed(state.schedule, begin), coming]), {coming: model})
                born.append(weakref.ref(model))
                del model, state
            part = slice(begin, end)
            keys, values = zip(*rows[part], strict=True)
            result = pipeline.process(Chunk("t", partition, np.arange(begin, end), stamps[part], keys, values))
            assert len(result.swaps) == bool(number)
        if number in (SWAPS // 4, SWAPS):
            gc.collect()
            sizes.append(resident_bytes())
    assert len({id(ref()) for ref in born if ref() is not None}) == 1, "only the version that serves is left"
    assert len(pipeline.partitions[0].schedule) <= 3
    assert sizes[1] / sizes[0] < 1.05

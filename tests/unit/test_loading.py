import pytest

from dwcp_stream.errors import ConfigError, ModelError
from dwcp_stream.loading import bound_models, find_stream
from dwcp_stream.registry import ModelRepository
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

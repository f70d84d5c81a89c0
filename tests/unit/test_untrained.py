"""A stream nobody has trained a model for: what stands in, and that it remembers exactly."""

import json
import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dwcp_stream.backtest import backtest, published
from dwcp_stream.cli.main import run
from dwcp_stream.errors import ConfigError, ModelError
from dwcp_stream.loading import BoundModels, bound_models
from dwcp_stream.pipeline import Pipeline
from dwcp_stream.registry.watch import AliasWatch
from dwcp_stream.settings import Settings
from dwcp_stream.streams import StreamDefinition, load_stream
from dwcp_stream.untrained import AdaptiveDeviation, untrained_model
from dwcp_stream.verdict_table import VerdictTable
from tests.integration import probe

DEFINITION = """
{models}
name = "servers"
topic = "servers"
entity = ["server"]
step = 60.0
window = 10
min_periods = 5

[[fields]]
name = "cpu"

[[fields]]
name = "memory"
unit = "MB"

[[fields]]
name = "role"
kind = "categorical"
vocabulary = ["web", "db"]
{more}
"""


@pytest.fixture
def define(tmp_path):
    def write(models="", more=""):
        file = tmp_path / "servers.toml"
        file.write_text(DEFINITION.format(models=models, more=more))
        return load_stream(file)

    return write


def records(stream, rows=300, fault=range(200, 230), entities=("a", "b")):
    rng = np.random.default_rng(3)
    for t in range(rows):
        for entity in entities:
            cpu = 0.4 + 0.05 * rng.standard_normal() + (0.5 if t in fault and entity == "a" else 0.0)
            memory = 900 + rng.standard_normal()
            row = {"server": entity, "ts": 1e9 + 60 * t, "cpu": cpu, "memory": memory, "role": "db"}
            yield entity.encode(), msgspec.json.encode(row), int(1000 * row["ts"])


def test_a_definition_without_models_gets_one_and_an_empty_list_none(define):
    (binding,) = define().models
    assert (binding.name, binding.task, binding.alias) == ("servers-anomaly", "anomaly", "champion")
    assert define("models = []").models == ()


def test_what_a_binding_leaves_out_is_filled_in(define):
    (forecast,) = define(more='[[models]]\ntask = "forecast"').models
    assert (forecast.name, forecast.targets, forecast.horizons) == ("servers-forecast", ("cpu", "memory"), (1,))
    (named,) = define(more='[[models]]\nname = "mine"\ntask = "incident"\nlabel = "down"').models
    assert (named.name, named.label) == ("mine", "down")
    with pytest.raises(ConfigError, match="bound twice"):
        define(more='[[models]]\ntask = "anomaly"\n[[models]]\ntask = "anomaly"')


def test_an_anomaly_model_without_a_version_is_stood_in_for(define, tmp_path):
    stream = define()
    (model,) = bound_models(Settings(models_dir=tmp_path / "models"), stream)
    assert (model.name, model.version, model.degraded) == ("servers-anomaly", 0, True)
    assert model.fields == ("cpu", "memory"), "words are not measured"


@pytest.mark.parametrize("task", ["incident", "forecast"])
def test_other_tasks_wait_for_a_trained_version(define, tmp_path, task):
    stream = define(more=f'[[models]]\ntask = "{task}"')
    with pytest.raises(ModelError, match="no model"):
        bound_models(Settings(models_dir=tmp_path / "models"), stream)


def test_a_published_version_takes_its_place_and_version_0_can_still_be_had(tmp_path):
    stream = probe.write_definition(tmp_path / "streams", "t")
    models = BoundModels(Settings(models_dir=tmp_path / "models"), stream)
    watch = AliasWatch(models.repository, stream.models)
    (first,) = models.first()
    assert first.degraded
    probe.publish_model(tmp_path / "models", stream)
    assert [version for _, version in watch.moved()] == [1]
    assert models.load(probe.MODEL, "champion").version == 1
    assert models.load(probe.MODEL, 0) is first, "a partition that it scored may have to be read again"


def test_a_stream_of_words_alone_says_what_to_do(define):
    stream = define()
    words = msgspec.structs.replace(stream, fields=stream.fields[2:])
    with pytest.raises(ConfigError, match="no field is a number"):
        untrained_model(words, stream.models[0])


values = st.one_of(st.none(), st.floats(-1e6, 1e6), st.sampled_from([0.0, 1e-30, 3e38]))


@given(st.lists(st.tuples(values, values), min_size=1, max_size=60))
@settings(deadline=None)
def test_it_remembers_exactly_what_a_detector_that_never_stopped_knows(rows):
    detector, state = AdaptiveDeviation(), None
    model = untrained_model(STREAM, STREAM.models[0])
    for values_ in rows:
        row = np.array([np.nan if v is None else v for v in values_], np.float32)
        window = np.full((1, STREAM.window, 2), np.nan, np.float32)
        window[0, -1] = row
        found = model.score(window, np.zeros((1, STREAM.window)), state)
        state = found.state_out
        plain = {name: float(v) for name, v in zip(model.fields, row, strict=True) if not math.isnan(v)}
        np.testing.assert_array_equal(found.score, np.float32([detector.score_one(plain)]))
        if plain:
            detector.learn_one(plain)


STREAM = msgspec.convert(
    {
        "name": "s", "topic": "s", "entity": ["e"], "step": 1.0, "window": 4,
        "fields": [{"name": "x"}, {"name": "y"}], "models": [{"name": "m", "task": "anomaly"}],
    },
    type=StreamDefinition,
)  # fmt: skip


def test_a_window_gets_the_same_bits_in_any_batch():
    model, rng = untrained_model(STREAM, STREAM.models[0]), np.random.default_rng(0)
    windows = rng.standard_normal((9, 4, 2)).astype(np.float32)
    times = np.zeros((9, 4))
    whole = model.score(windows, times)
    for i in range(9):
        alone = model.score(windows[i : i + 1], times[i : i + 1])
        assert alone.state_out.tobytes() == whole.state_out[i : i + 1].tobytes()
        assert alone.score.tobytes() == whole.score[i : i + 1].tobytes()


@pytest.mark.parametrize("chunk_records", [1, 7, 4000])
def test_a_fault_is_seen_before_anything_was_trained_and_said_to_be_seen_so(define, tmp_path, chunk_records):
    stream = define()
    table = VerdictTable()
    pipeline = Pipeline(stream, bound_models(Settings(models_dir=tmp_path), stream), check_ahead=False, recorder=table)
    results = list(backtest(pipeline, records(stream), chunk_records=chunk_records))
    alerts = [published(o) for r in results for o in r.outputs if o.topic == "anomalies"]
    firing = [a for a in alerts if a["action"] == "firing" and a["entity"] == "a"]
    times = [(a["starts_at"] if "starts_at" in a else a["startsAt"]) for a in firing]
    assert any("2001-09-09T05:0" in t for t in times), (times, "the fault begins at 05:06:40")
    during = firing[-1]
    assert (during["model_version"], during["state"]) == (0, "degraded")
    assert during["fields"][0]["name"] == "cpu"
    assert len([a for a in alerts if a["action"] == "firing"]) <= 4, "noise alone hardly alerts"


def test_that_nothing_is_trained_is_said_beside_the_result(define, tmp_path, capsys, monkeypatch):
    define()
    monkeypatch.setenv("DWCP_STREAMS_DIR", str(tmp_path))
    monkeypatch.setenv("DWCP_MODELS_DIR", str(tmp_path / "models"))
    file = tmp_path / "web.csv"
    file.write_text("ts,cpu,memory\n" + "\n".join(f"{60 * t},{0.4 + t % 3 / 10},900" for t in range(40)))
    assert run(["backtest", "servers", "--data", str(file), "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["models"] == {"servers-anomaly": 0}
    assert "no version is published" in said.err

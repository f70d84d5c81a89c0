"""Networks: the exported graph computes what jax computed, whatever is missing from the window."""

from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import onnxruntime as ort
import pytest

from dwcp_stream.streams import StreamDefinition, load_stream
from dwcp_stream.training import forecaster as net
from dwcp_stream.training import link_features as features
from dwcp_stream.training import recurrent as rnn
from dwcp_stream.training.consensus import classifier
from dwcp_stream.training.consensus import features as cf
from dwcp_stream.training.consensus.model import BLAMED, build
from dwcp_stream.training.consensus.recipe import Recipe
from dwcp_stream.training.graph import Graph, to_bytes

STREAMS = Path(__file__).parents[2] / "config" / "streams"
PARITY = 1e-5


@pytest.fixture(scope="module")
def consensus() -> StreamDefinition:
    return load_stream(STREAMS / "consensus.toml")


@pytest.fixture(scope="module")
def link() -> StreamDefinition:
    return load_stream(STREAMS / "link.toml")


def run(model: bytes, **inputs: np.ndarray) -> dict[str, np.ndarray]:
    session = ort.InferenceSession(model)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def test_lstm_parity() -> None:
    rng = np.random.default_rng(1)
    params = rnn.init_lstm(jax.random.key(1), 5, 7)
    params["b"] = rng.normal(size=28).astype(np.float32)  # unequal, so that a wrong gate order shows
    x = rng.normal(size=(11, 3, 5)).astype(np.float32)
    g = Graph("lstm")
    states = rnn.export_lstm(g, "lstm", params, g.input("x", np.float32, [11, "batch", 5]))
    g.output(states, "y", np.float32, [11, "batch", 7])
    np.testing.assert_allclose(run(to_bytes(g.model()), x=x)["y"], rnn.lstm(params, x), atol=PARITY)


def windows(stream: StreamDefinition, fields: tuple[str, ...], count: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Made-up windows: positive noise, words, gaps."""
    rng = np.random.default_rng(3)
    window = rng.gamma(2.0, 3.0, (count, stream.window, len(fields))).astype(np.float32)
    for i, name in enumerate(fields):
        field = stream.fields[stream.field_index(name)]
        if field.coded:
            window[..., i] = rng.integers(0, len(field.vocabulary), (count, 1))
        elif field.max is not None:
            window[..., i] = rng.uniform(0, 0.05, window.shape[:2])
    window[rng.random(window.shape) < 0.05] = np.nan
    window[0, :6] = np.nan
    time = 1.7e9 + np.arange(stream.window) * float(stream.step) + rng.integers(0, 10**6, (count, 1))
    return window, time


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    rng = np.random.default_rng(5)
    members = [jax.tree.map(np.asarray, classifier.init(jax.random.key(i), len(cf.FEATURES), 8)) for i in range(2)]
    params = classifier.side_by_side(members)
    params["logits"]["b"] = rng.normal(size=classifier.OUTPUTS).astype(np.float32)
    return Recipe(params, rng.uniform(0.3, 1.0, len(cf.CHANNELS)).astype(np.float32), 1.5, 4.0)


def test_members_side_by_side_are_their_mean() -> None:
    members = [jax.tree.map(np.asarray, classifier.init(jax.random.key(i), 5, 3)) for i in range(3)]
    x = np.random.default_rng(1).normal(size=(7, 5)).astype(np.float32)
    mean = np.mean([classifier.logits(member, x) for member in members], axis=0)
    np.testing.assert_allclose(classifier.logits(classifier.side_by_side(members), x), mean, atol=PARITY)


def memory(count: int) -> np.ndarray:
    state = np.random.default_rng(6).uniform(0.0, 2.0, (count, cf.STATE_SIZE)).astype(np.float32)
    state[: count // 2] = np.nan
    return state


def test_consensus_parity(consensus: StreamDefinition, recipe: Recipe) -> None:
    fields = consensus.field_names
    window, time = windows(consensus, fields, 8)
    state = memory(8)
    seen = run(cf.features_model(fields, 30), window=window, state_in=state)
    found = run(build(recipe, fields, 30), window=window, time=time, state_in=state)
    np.testing.assert_allclose(found["score"], recipe.score(seen["features"]), atol=PARITY, rtol=PARITY)
    np.testing.assert_allclose(found["kind"], recipe.kinds(seen["features"]), atol=PARITY)
    np.testing.assert_array_equal(found["state_out"], seen["state_out"])
    for name in ("quorum_size", "network_tier", "dwcp_mode", "consensus_type"):
        assert np.isnan(found["expected"][:, fields.index(name)]).all()


def test_consensus_expects_the_level_in_natural_units(consensus: StreamDefinition, recipe: Recipe) -> None:
    fields = consensus.field_names
    window = np.full((4, 30, len(fields)), 3.0, np.float32)
    window[:, :, fields.index("active_nodes")] = 5.0
    state = np.full((4, cf.STATE_SIZE), np.nan, np.float32)
    found = run(build(recipe, fields, 30), window=window, time=np.zeros((4, 30)), state_in=state)
    row = dict(zip(fields, found["expected"][0], strict=True))
    assert row["queue_depth"] == pytest.approx(3.0, rel=1e-5)
    assert row["latency_p99"] == pytest.approx(3.0, rel=1e-5)
    assert (row["active_nodes"], row["leader_changes"]) == (5.0, 0.0)


def test_consensus_is_finite_whatever_is_missing(consensus: StreamDefinition, recipe: Recipe) -> None:
    window, time = windows(consensus, consensus.field_names, 8)
    window[1] = np.nan
    window[2, :, :9] = np.nan
    window[3, :, 3] = 1e30
    state = memory(8)
    found = run(build(recipe, consensus.field_names, 30), window=window, time=time, state_in=state)
    for name in ("score", "kind", "state_out"):
        assert np.isfinite(found[name]).all(), name
    assert not np.isinf(found["expected"]).any()


def test_consensus_contribution_names_the_field_that_moved(consensus: StreamDefinition, recipe: Recipe) -> None:
    fields = consensus.field_names
    window = np.full((4, 30, len(fields)), 5.0, np.float32)
    window[:, :, fields.index("active_nodes")] = 9.0
    window[:, :, fields.index("leader_changes")] = 0.0
    window[1, -4:, fields.index("latency_p99")] = 1e5
    window[2, -4:, fields.index("active_nodes")] = 6.0
    model = build(replace(recipe, suspicion=1e6), fields, 30, explain=True)  # so that the surprise tells
    state = np.full((4, cf.STATE_SIZE), np.nan, np.float32)
    share = run(model, window=window, time=np.zeros((4, 30)), state_in=state)["contribution"]
    np.testing.assert_allclose(share[1:3].sum(axis=1), 1.0, atol=1e-5)
    assert fields[int(share[1].argmax())] == "latency_p99"
    assert fields[int(share[2].argmax())] == "active_nodes"
    np.testing.assert_allclose(share[0], 0.0, atol=1e-6)


def test_consensus_contribution_of_the_network_is_what_the_suspicion_would_lose(
    consensus: StreamDefinition, recipe: Recipe
) -> None:
    fields = consensus.field_names
    window, time = windows(consensus, fields, 8)
    state = memory(8)
    features = run(cf.features_model(fields, 30), window=window, state_in=state)["features"]
    model = build(replace(recipe, surprise=1e6), fields, 30, explain=True)
    share = run(model, window=window, time=time, state_in=state)["contribution"]
    whole = classifier.suspicion(classifier.probabilities(recipe.params, features))
    lost = np.zeros_like(share)
    for i, field in enumerate(fields):
        names = [name.split(" ")[0] for name in cf.FEATURES]
        without = features * np.array([BLAMED.get(name, name) != field for name in names], np.float32)
        lost[:, i] = np.maximum(whole - classifier.suspicion(classifier.probabilities(recipe.params, without)), 0.0)
    np.testing.assert_allclose(share, lost / np.maximum(lost.sum(axis=1, keepdims=True), 1e-12), atol=1e-4)


@pytest.fixture(scope="module")
def forecaster(link: StreamDefinition) -> tuple[rnn.Params, net.Sizes, features.Layout]:
    shape = features.layout(link, link.models[0].targets, (1, 6, 12))
    sizes = net.Sizes(8, 12, (1, 6, 12), 4)
    params = net.init(jax.random.key(4), sizes, shape)
    rng = np.random.default_rng(4)
    params["skip"]["W"] = rng.normal(0, 0.1, params["skip"]["W"].shape).astype(np.float32)
    return params, sizes, shape


def test_forecaster_parity(link: StreamDefinition, forecaster: tuple[rnn.Params, net.Sizes, features.Layout]) -> None:
    params, sizes, shape = forecaster
    window, time = windows(link, shape.fields)
    made = run(features.features_model(shape), window=window, time=time)
    offsets = np.array([features.OFFSETS[n] for n in shape.targets])
    found = run(net.build(params, sizes, shape, 3.0), window=window, time=time)
    logs = np.log(found["quantiles"].astype(np.float64) + offsets[:, None])
    by_jax = np.asarray(net.forecast(params, made))
    np.testing.assert_allclose(logs, np.maximum(by_jax, np.log(offsets)[:, None]), atol=2e-5)

    worst = []
    for i, lag in enumerate(sizes.horizons):
        judged = np.asarray(net.forecast(params, made, lag=lag, base=i + 1))[:, i]
        sigma = (judged[..., 2] - judged[..., 0]) / net.SIGMA + net.RESIDUAL_FLOOR
        harm = np.array([-1, 1, 1, 1])
        z = np.clip((made["actual"] - judged[..., 1]) * harm / sigma, 0, net.RESIDUAL_LIMIT) * made["present"]
        worst.append(np.sqrt((z**2).sum(1) / np.maximum(made["present"].sum(1), 1)))
    np.testing.assert_allclose(found["score"], np.max(worst, axis=0) / 3.0, rtol=1e-4, atol=PARITY)
    before = np.exp(np.asarray(net.forecast(params, made, lag=1, base=1))[:, 0, :, 1]) - offsets
    np.testing.assert_allclose(found["expected"][:, :4], np.maximum(before, 0), rtol=1e-4, atol=PARITY)
    assert np.isnan(found["expected"][:, 4:]).all()


def test_forecaster_quantiles_do_not_cross(
    link: StreamDefinition, forecaster: tuple[rnn.Params, net.Sizes, features.Layout]
) -> None:
    params, sizes, shape = forecaster
    window, time = windows(link, shape.fields, count=32)
    quantiles = run(net.build(params, sizes, shape, 1.0), window=window, time=time)["quantiles"]
    assert quantiles.shape == (32, 3, 4, 3)
    assert (np.diff(quantiles, axis=-1) >= 0).all()
    assert (quantiles >= 0).all()


def test_forecaster_the_last_row_cannot_change_what_judges_it(
    link: StreamDefinition, forecaster: tuple[rnn.Params, net.Sizes, features.Layout]
) -> None:
    params, sizes, shape = forecaster
    window, time = windows(link, shape.fields)
    other = window.copy()
    other[:, -1, : len(shape.numeric)] = 7.0
    model = net.build(params, sizes, shape, 1.0)
    one, two = (run(model, window=w, time=time) for w in (window, other))
    np.testing.assert_array_equal(one["expected"], two["expected"])
    assert not np.array_equal(one["quantiles"], two["quantiles"])


def test_link_features_of_known_values(link: StreamDefinition) -> None:
    shape = features.layout(link, link.models[0].targets, (1, 6, 12))
    window = np.full((1, 30, len(shape.fields)), np.nan, np.float32)
    window[0, :18, 0] = np.tile([9.0, 19.0], 9)
    window[0, 20, 0] = 99.0
    window[0, 29, len(shape.numeric)] = 2.0
    monday_six = 4 * 86_400 + 6 * 3600.0  # the first Monday after the epoch, 06:00 UTC
    time = monday_six + 60.0 * np.arange(-29, 1)[None]
    made = run(features.features_model(shape), window=window, time=time)
    logs = np.log([10.0, 20.0])
    np.testing.assert_allclose(made["level"][0, 0], logs.mean(), rtol=1e-5)
    np.testing.assert_allclose(made["spread"][0, 0], logs.std(), rtol=1e-4)
    # the newest value at the last row, and 1, 6 and 12 rows before it (row 29 - 12 = 17, the last of the old)
    np.testing.assert_allclose(made["bases"][0, :, 0], np.log([100.0, 100.0, 100.0, 20.0]), rtol=1e-5)
    assert (made["present"] == 0).all()
    assert made["spread"][0, 1] == np.float32(features.SPREAD_FLOOR)
    context = made["context"][0]
    clock = context[2 * len(shape.numeric) :][: 2 * features.HARMONICS + 1]
    np.testing.assert_allclose(clock, [1, 0, -1, 0, -1, 0, 0], atol=1e-5)
    words = context[-sum(shape.sizes) :]
    assert words.sum() == 1.0
    assert words[2] == 1.0
    saturday = time + 5 * 86_400
    weekend = run(features.features_model(shape), window=window, time=saturday)["context"][0]
    assert weekend[2 * len(shape.numeric) + 2 * features.HARMONICS] == 1.0


def test_forecaster_score_without_a_last_value_is_no_verdict(
    link: StreamDefinition, forecaster: tuple[rnn.Params, net.Sizes, features.Layout]
) -> None:
    params, sizes, shape = forecaster
    window, time = windows(link, shape.fields)
    window[0, -1, :4] = np.nan
    window[1, -1, 1:4] = np.nan
    found = run(net.build(params, sizes, shape, 1.0), window=window, time=time)
    assert np.isnan(found["score"][0])
    assert np.isfinite(found["score"][1:]).all()
    explained = run(net.build(params, sizes, shape, 1.0, explain=True), window=window, time=time)["contribution"]
    assert explained[0].sum() == 0
    assert (explained[1, 1:] == 0).all()

"""Networks: the exported graph computes what jax computed, whatever is missing from the window."""

from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import onnxruntime as ort
import pytest

from dwcp_stream.streams import StreamDefinition, load_stream
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

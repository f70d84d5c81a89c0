"""Networks: the exported graph computes what jax computed, whatever is missing from the window."""

from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import onnxruntime as ort
import pytest

from dwcp_stream.streams import StreamDefinition, load_stream
from dwcp_stream.training import autoencoder as ae
from dwcp_stream.training import recurrent as rnn
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
def autoencoder(consensus: StreamDefinition) -> tuple[rnn.Params, ae.Constants]:
    rng = np.random.default_rng(5)
    size = len(ae.CHANNELS)
    constants = ae.Constants(
        rng.normal(1, 0.3, size).astype(np.float32),
        rng.uniform(0.2, 1, size).astype(np.float32),
        rng.uniform(0.5, 1, size).astype(np.float32),
        threshold=2.0,
    )
    return ae.init(jax.random.key(2), 16, 4), constants


def test_autoencoder_parity(consensus: StreamDefinition, autoencoder: tuple[rnn.Params, ae.Constants]) -> None:
    params, constants = autoencoder
    fields = consensus.field_names
    window, time = windows(consensus, fields)
    channels = run(ae.channels_model(fields, 30), window=window)
    values, known = channels["values"], channels["known"]
    x = np.clip((values - constants.center) / constants.scale * known, -20, 20).astype(np.float32)
    rebuilt = np.asarray(ae.reconstruct(params, x))

    tail, present = (x - rebuilt)[:, -ae.TAIL :], known[:, -ae.TAIL :]
    mean = (tail * present).sum(1) / np.maximum(present.sum(1), 1)
    parts = (np.clip(mean * ae.HARM / constants.spread, 0, ae.LIMIT) * ae.WEIGHT) ** 2
    found = run(ae.build(params, constants, fields, 30), window=window, time=time)
    np.testing.assert_allclose(found["score"], np.sqrt(parts.mean(1)) / 2.0, atol=PARITY)
    expected = np.expm1(rebuilt[:, -1, 3] * constants.scale[3] + constants.center[3])
    np.testing.assert_allclose(
        found["expected"][:, fields.index("latency_p50")], np.maximum(expected, 0), rtol=1e-4, atol=PARITY
    )
    for name in ("quorum_size", "network_tier", "dwcp_mode", "consensus_type"):
        assert np.isnan(found["expected"][:, fields.index(name)]).all()


def test_autoencoder_channels_of_a_known_row(consensus: StreamDefinition) -> None:
    fields = consensus.field_names
    window = np.full((1, 30, len(fields)), np.nan, np.float32)
    row = {"queue_depth": 3, "proposals_pending": 0, "proposals_committed": 99, "latency_p95": 4, "latency_p99": 9}
    row |= {"leader_changes": 1, "quorum_size": 3, "active_nodes": 4}
    for name, value in row.items():
        window[0, -1, fields.index(name)] = value
    found = run(ae.channels_model(fields, 30), window=window)
    values = dict(zip(ae.CHANNELS, found["values"][0, -1], strict=True))
    known = dict(zip(ae.CHANNELS, found["known"][0, -1], strict=True))
    assert values["queue_depth"] == pytest.approx(np.log(4.0))
    assert values["proposals_committed"] == pytest.approx(np.log(100.0))
    assert values["active_nodes"] == pytest.approx(4 / 5)
    assert (values["latency_p50"], known["latency_p50"]) == (0.0, 0.0)
    assert (values["no_completions"], known["no_completions"]) == (1.0, 1.0)
    assert found["known"][0, :-1].sum() == 0  # a step without a sample says nothing, not even "no completions"
    assert found["values"][0, :-1].sum() == 0


def test_autoencoder_score_is_finite_whatever_is_missing(
    consensus: StreamDefinition, autoencoder: tuple[rnn.Params, ae.Constants]
) -> None:
    window, time = windows(consensus, consensus.field_names)
    window[1] = np.nan
    window[2, :, :9] = np.nan
    window[3, :, 3] = 1e30
    found = run(ae.build(*autoencoder, consensus.field_names, 30), window=window, time=time)
    assert np.isfinite(found["score"]).all()
    assert found["score"][1] == 0.0


def test_autoencoder_contribution_names_the_field_that_moved(
    consensus: StreamDefinition, autoencoder: tuple[rnn.Params, ae.Constants]
) -> None:
    fields = consensus.field_names
    window = np.full((2, 30, len(fields)), 5.0, np.float32)
    window[:, :, fields.index("active_nodes")] = 9.0
    window[0, -4:, fields.index("latency_p99")] = 1e5
    window[1, -4:, fields.index("latency_p50")] = np.nan
    params, constants = autoencoder
    constants = replace(constants, center=np.zeros_like(constants.center))
    model = ae.build(params, constants, fields, 30, explain=True)
    found = run(model, window=window, time=np.zeros((2, 30)))
    share = found["contribution"]
    np.testing.assert_allclose(share.sum(axis=1), 1.0, atol=1e-5)
    assert fields[int(share[0].argmax())] == "latency_p99"
    assert share[1, fields.index("latency_p50")] > 0

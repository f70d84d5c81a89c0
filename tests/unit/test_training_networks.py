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
from dwcp_stream.training.consensus import autoencoder as ae
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

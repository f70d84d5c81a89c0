"""The 123 node features of the graph against their definition, written here in plain Python."""

import math
import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dwcp_stream.streams import StreamDefinition, load_stream
from dwcp_stream.training.features import FIELDS, FeatureGraph, feature_names

BASE = [
    "error_rate",
    "timeout_rate",
    "latency_p50",
    "latency_p99",
    "sla_violations",
    "connection_failures",
    "packet_loss_rate",
    "cpu_usage",
    "memory_usage",
    "disk_io",
]


def names_from_the_rules() -> list[str]:
    names = list(BASE)
    for width in (5, 15):
        for field in BASE:
            names += [f"{field}_rolling_{what}_{width}" for what in ("mean", "std", "min", "max")]
    for field in BASE:
        names += [f"{field}_rate_of_change", f"{field}_acceleration"]
    names += ["error_timeout_product", "latency_spread", "latency_ratio", "resource_pressure"]
    names += ["high_error_rate", "high_latency", "high_packet_loss"]
    names += ["mode_fallback", "mode_optimized", "mode_standard"]
    return [*names, "tier_tier1", "tier_tier2", "tier_tier3"]


def definition(rows: list[dict[str, float]], mode: str | None, tier: str | None) -> dict[str, float]:
    """The features of the last of some rows, value by value (oldest first, NaN = missing)."""
    nan, out, last = math.nan, {}, rows[-1]
    out.update({field: last[field] for field in BASE})
    for width in (5, 15):
        for field in BASE:
            known = [row[field] for row in rows[-width:] if not math.isnan(row[field])]
            mean = math.fsum(known) / len(known) if known else nan
            spread = math.fsum((x - mean) ** 2 for x in known) / (len(known) - 1) if len(known) > 1 else 0.0
            out[f"{field}_rolling_mean_{width}"] = mean
            out[f"{field}_rolling_std_{width}"] = math.sqrt(spread)
            out[f"{field}_rolling_min_{width}"] = min(known, default=nan)
            out[f"{field}_rolling_max_{width}"] = max(known, default=nan)
    for field in BASE:
        x = [nan, nan, *(row[field] for row in rows)]
        change, before = x[-1] - x[-2], x[-2] - x[-3]
        out[f"{field}_rate_of_change"] = 0.0 if math.isnan(change) else change
        out[f"{field}_acceleration"] = 0.0 if math.isnan(change - before) else change - before
    out["error_timeout_product"] = last["error_rate"] * last["timeout_rate"]
    out["latency_spread"] = last["latency_p99"] - last["latency_p50"]
    out["latency_ratio"] = last["latency_p99"] / (last["latency_p50"] + 1e-6)
    out["resource_pressure"] = (last["cpu_usage"] + last["memory_usage"]) / 2
    out["high_error_rate"] = float(last["error_rate"] > 0.01)
    out["high_latency"] = float(last["latency_p99"] > 100.0)
    out["high_packet_loss"] = float(last["packet_loss_rate"] > 0.05)
    out.update({f"mode_{word}": float(mode == word) for word in ("fallback", "optimized", "standard")})
    out.update({f"tier_{word}": float(tier == word) for word in ("tier1", "tier2", "tier3")})
    return out


SCALE = dict(zip(BASE, (0.01, 0.01, 20.0, 60.0, 2.0, 2.0, 0.05, 50.0, 50.0, 40.0), strict=True))


def window_of(rows: list[dict[str, float]], stream: StreamDefinition, mode: str | None, tier: str | None) -> np.ndarray:
    window = np.full((15, 12), np.nan, np.float32)
    kept = rows[-15:]
    window[15 - len(kept) :, :10] = [[row[field] for field in BASE] for row in kept]
    for column, (field, word) in enumerate((("dwcp_mode", mode), ("network_tier", tier)), start=10):
        if word is not None:
            window[:, column] = stream.fields[stream.field_index(field)].vocabulary.index(word)
    return window


def compare(got: np.ndarray, expected: dict[str, float]) -> None:
    for name, value in zip(feature_names(), got, strict=True):
        # float32 statistics: relative to the value, and to the field's size for differences
        size = next((SCALE[field] for field in BASE if name.startswith(field)), 1.0)
        np.testing.assert_allclose(value, expected[name], rtol=2e-5, atol=2e-6 * size, err_msg=name)


@pytest.fixture(scope="module")
def stream() -> StreamDefinition:
    return load_stream(Path(__file__).parents[2] / "config" / "streams" / "node.toml")


@pytest.fixture(scope="module")
def graph(stream: StreamDefinition) -> FeatureGraph:
    return FeatureGraph(stream)


def test_names_and_order_follow_the_rules() -> None:
    assert list(feature_names()) == names_from_the_rules()
    assert len(feature_names()) == len(set(feature_names())) == 123
    assert (*BASE, "dwcp_mode", "network_tier") == FIELDS


@given(
    seed=st.integers(0, 2**31),
    length=st.integers(1, 20),
    missing=st.sampled_from([0.0, 0.1, 0.5, 0.95]),
    mode=st.sampled_from(["fallback", "optimized", "standard", "turbo", None]),
    tier=st.sampled_from(["tier1", "tier2", "tier3", "tier4", None]),
)
@settings(max_examples=60, deadline=None)
def test_features_equal_their_definition(
    graph: FeatureGraph,
    stream: StreamDefinition,
    *,
    seed: int,
    length: int,
    missing: float,
    mode: str | None,
    tier: str | None,
) -> None:
    rng = np.random.default_rng(seed)
    table = np.float32(rng.gamma(1.5, 0.7, (length, 10)) * list(SCALE.values()))
    table[rng.random(table.shape) < missing] = np.nan
    rows = [dict(zip(BASE, map(float, row), strict=True)) for row in table]
    window = window_of(rows, stream, mode, tier)
    compare(graph(window[None])[0], definition(rows, mode, tier))


@pytest.mark.parametrize("field", BASE)
def test_a_constant_field_has_no_spread_and_no_change(
    graph: FeatureGraph, stream: StreamDefinition, field: str
) -> None:
    rows = [dict.fromkeys(BASE, 0.25)] * 15
    got = dict(zip(feature_names(), graph(window_of(rows, stream, "standard", "tier1")[None])[0], strict=True))
    assert got[f"{field}_rolling_std_15"] == got[f"{field}_rolling_std_5"] == 0.0
    assert got[f"{field}_rate_of_change"] == got[f"{field}_acceleration"] == 0.0
    assert got[f"{field}_rolling_min_15"] == got[f"{field}_rolling_max_5"] == got[field] == 0.25


def test_indicators_are_strict(graph: FeatureGraph, stream: StreamDefinition) -> None:
    for factor, expected in ((1.0, 0.0), (1.001, 1.0)):
        row = dict.fromkeys(BASE, 1.0)
        row |= {"error_rate": 0.01 * factor, "latency_p99": 100.0 * factor, "packet_loss_rate": 0.05 * factor}
        got = dict(zip(feature_names(), graph(window_of([row], stream, None, None)[None])[0], strict=True))
        for name in ("high_error_rate", "high_latency", "high_packet_loss"):
            assert got[name] == expected, name


def test_an_empty_window_is_missing_not_zero(graph: FeatureGraph) -> None:
    got = dict(zip(feature_names(), graph(np.full((1, 15, 12), np.nan, np.float32))[0], strict=True))
    assert np.isnan(
        [
            got["error_rate"],
            got["error_rate_rolling_mean_5"],
            got["latency_ratio"],
            got["disk_io_rolling_max_15"],
        ]
    ).all()
    assert not any(got[name] for name in feature_names() if name.endswith(("_std_5", "_std_15", "acceleration")))
    assert not any(got[name] for name in feature_names() if name.startswith(("high_", "mode_", "tier_")))


def test_result_does_not_depend_on_the_batch(graph: FeatureGraph) -> None:
    rng = np.random.default_rng(1)
    windows = rng.gamma(2.0, 1.0, (64, 15, 12)).astype(np.float32)
    windows[rng.random(windows.shape) < 0.1] = np.nan
    whole = graph(windows)
    for batch in (2, 7):
        np.testing.assert_array_equal(graph(windows[:63], batch=batch)[: 63 - 63 % batch], whole[: 63 - 63 % batch])


def reference_folder() -> Path | None:
    folder = os.environ.get("DWCP_SHARED_DATA")
    return Path(folder) / "reference" if folder else None


def test_reference_file_agrees_where_there_is_one(graph: FeatureGraph, stream: StreamDefinition) -> None:
    """Names always; the engineered rows of the reference too where DWCP_SHARED_DATA says where they are."""
    expected_names = names_from_the_rules()
    folder = reference_folder()
    if folder is not None:
        with np.load(folder / "reliability_fast_n5000_r02_engineered123.npz", allow_pickle=False) as file:
            expected_names = [str(name) for name in file["feature_names"]]
            engineered, order = file["X"], file["row_id"]
        # the reference rolled over the file's rows, nodes mixed, and sorted by time afterwards
        rows = pl.read_csv(folder / "reliability_fast_n5000_r02.csv.gz").sort("row_id")
        windows = np.full((len(rows) + 14, 12), np.nan, np.float32)
        windows[14:, :10] = rows.select(BASE).to_numpy()
        for column, field in ((10, "dwcp_mode"), (11, "network_tier")):
            words = stream.fields[stream.field_index(field)].vocabulary
            windows[14:, column] = [words.index(word) for word in rows[field]]
        cut = np.lib.stride_tricks.sliding_window_view(windows, 15, axis=0).transpose(0, 2, 1)
        got = graph(np.ascontiguousarray(cut))[np.searchsorted(rows["row_id"].to_numpy(), order)]
        np.testing.assert_allclose(got, engineered, rtol=1e-4, atol=2e-3)
    assert list(feature_names()) == expected_names

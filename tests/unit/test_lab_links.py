"""The link simulator: reproducible, with a history, inside the stream's ranges."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

from dwcp_stream.streams import load_stream
from lab import links
from lab.links import KINDS, simulate_links

STREAM = Path(__file__).parents[2] / "config" / "streams" / "link.toml"
TARGETS = ["bandwidth_mbps", "latency_ms", "packet_loss", "jitter_ms"]


@pytest.fixture(scope="module")
def table() -> pl.DataFrame:
    return simulate_links(20, 8, 7)


def test_same_seed_same_rows(table: pl.DataFrame) -> None:
    assert simulate_links(20, 8, 7).equals(table)
    assert not simulate_links(20, 8, 8).equals(table)
    few = simulate_links(3, 8, 7)
    assert few.filter(pl.col("node_id") == "node-002").equals(table.filter(pl.col("node_id") == "node-002"))


def test_targets_have_a_history(table: pl.DataFrame) -> None:
    for name in TARGETS:
        lags = []
        for (_,), one in table.group_by("node_id", maintain_order=True):
            x = np.log(one[name].fill_nan(None).drop_nulls().to_numpy())
            lags.append(np.corrcoef(x[:-1], x[1:])[0, 1])
        assert np.median(lags) > 0.5, (name, lags)
    bandwidth = table.filter((pl.col("node_id") == "node-004") & (pl.col("kind") == ""))
    by_hour = bandwidth.group_by((pl.col("ts") // 3600 % 24).alias("hour")).agg(pl.col("bandwidth_mbps").mean())
    assert by_hour["bandwidth_mbps"].max() > 1.3 * by_hour["bandwidth_mbps"].min()


def test_links_differ_and_keep_their_identity(table: pl.DataFrame) -> None:
    constants = table.group_by("cluster_id", "node_id", "peer_id").agg(
        pl.col("link_type", "transport_type", "region", "az").n_unique(),
        pl.col("latency_ms").fill_nan(None).mean(),
    )
    assert len(constants) == 20
    assert (constants.select("link_type", "transport_type", "region", "az") == 1).to_numpy().all()
    assert constants["latency_ms"].max() > 5 * constants["latency_ms"].min()


def test_incidents_hurt_and_hard_negatives_are_not_labelled(table: pl.DataFrame) -> None:
    assert 0.015 < table["label"].mean() < 0.08
    incidents = {k.name for k in KINDS if k.incident}
    assert set(table.filter(pl.col("label") == 1)["kind"]) == incidents
    plateau = table.filter((pl.col("label") == 1) & (pl.col("phase") == "plateau"))
    normal = table.filter(pl.col("kind") == "")
    assert plateau["packet_loss"].fill_nan(None).median() > 2 * normal["packet_loss"].fill_nan(None).median()
    assert {k.name for k in KINDS if not k.incident} <= set(table["kind"])


def test_values_fit_the_stream(table: pl.DataFrame) -> None:
    stream = load_stream(STREAM)
    for field in stream.fields:
        column = table[field.name]
        if field.vocabulary:
            assert set(column) <= set(field.vocabulary), field.name
            continue
        known = column.fill_nan(None).drop_nulls()
        assert not field.required or len(known) == len(column), field.name
        assert field.min is None or known.min() >= field.min, field.name
        assert field.max is None or known.max() <= field.max, field.name
    assert set(table["dwcp_mode"]) == {"standard", "turbo", "reliable"}


def test_command_writes_a_file(tmp_path: Path) -> None:
    out = tmp_path / "links.csv.gz"
    result = CliRunner().invoke(
        links.main,
        ["--links", "2", "--days", "0.5", "--seed", "3", "--out", str(out)],
        catch_exceptions=False,
    )
    assert result.exit_code == 0
    assert "2 entities" in result.output
    assert len(pl.read_csv(out)) == len(simulate_links(2, 0.5, 3))

"""The node simulator: reproducible, with a history, overlapping, inside the stream's ranges."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

from dwcp_stream.streams import load_stream
from lab import nodes
from lab.nodes import KINDS, simulate_nodes

GAUGES = [
    "error_rate", "timeout_rate", "latency_p50", "latency_p99", "sla_violations", "connection_failures",
    "packet_loss_rate", "cpu_usage", "memory_usage", "disk_io",
]  # fmt: skip
STREAM = Path(__file__).parents[2] / "config" / "streams" / "node.toml"


@pytest.fixture(scope="module")
def table() -> pl.DataFrame:
    return simulate_nodes(20, 8, 7)


def test_same_seed_same_rows(table: pl.DataFrame) -> None:
    assert simulate_nodes(20, 8, 7).equals(table)
    assert not simulate_nodes(20, 8, 8).equals(table)


def test_a_node_does_not_depend_on_the_others(table: pl.DataFrame) -> None:
    few = simulate_nodes(3, 8, 7)
    assert few.filter(pl.col("node_id") == "node-002").equals(table.filter(pl.col("node_id") == "node-002"))


def test_noise_lasts(table: pl.DataFrame) -> None:
    one = table.filter((pl.col("node_id") == "node-001") & (pl.col("kind") == ""))
    for name, least in (("latency_p50", 0.6), ("cpu_usage", 0.7), ("memory_usage", 0.9), ("error_rate", 0.3)):
        x = np.log(one[name].fill_nan(None).drop_nulls().to_numpy())
        assert np.corrcoef(x[:-1], x[1:])[0, 1] > least, name


def test_share_of_incidents_and_hard_negatives(table: pl.DataFrame) -> None:
    assert 0.01 < table["label"].mean() < 0.06
    incidents = {k.name for k in KINDS if k.incident}
    labelled = table.filter(pl.col("label") == 1)
    assert set(labelled["kind"]) <= incidents
    negatives = table.filter(~pl.col("kind").is_in(list(incidents)) & (pl.col("kind") != ""))
    assert set(negatives["kind"]) == {k.name for k in KINDS if not k.incident}
    assert set(labelled["phase"]) == {"lead", "plateau", "recovery"}
    assert 0.2 < (labelled["phase"] == "lead").mean() < 0.8


def test_lead_up_rises_towards_the_plateau(table: pl.DataFrame) -> None:
    labelled = table.filter(pl.col("label") == 1)
    p99 = {phase: labelled.filter(pl.col("phase") == phase)["latency_p99"].fill_nan(None).median()
           for phase in ("lead", "plateau")}  # fmt: skip
    normal = table.filter(pl.col("kind") == "")["latency_p99"].fill_nan(None).median()
    assert normal < p99["lead"] < p99["plateau"]


@pytest.mark.parametrize("name", GAUGES)
def test_no_field_alone_separates(table: pl.DataFrame, name: str) -> None:
    known = table.filter(pl.col(name).is_not_nan())
    x, y = known[name].to_numpy(), known["label"].to_numpy()
    rank = np.empty(len(x))
    rank[np.argsort(x, kind="stable")] = np.arange(len(x))
    positives = int(y.sum())
    auc = (rank[y == 1].sum() - positives * (positives - 1) / 2) / (positives * (len(y) - positives))
    assert max(auc, 1 - auc) < 0.9


def test_values_fit_the_stream(table: pl.DataFrame) -> None:
    stream = load_stream(STREAM)
    for field in stream.fields:
        column = table[field.name]
        if field.vocabulary:
            assert set(column) <= set(field.vocabulary)
            continue
        known = column.fill_nan(None).drop_nulls()
        if field.required:
            assert len(known) == len(column), field.name
        else:
            assert 0.98 < len(known) / len(column) < 1.0, "a few values are missing"
        assert field.min is None or known.min() >= field.min, field.name
        assert field.max is None or known.max() <= field.max, field.name
    assert (table["latency_p99"] / table["latency_p50"]).fill_nan(None).min() > 1.0
    assert set(table["dwcp_mode"]) == {"standard", "optimized", "fallback"}
    assert set(table["network_tier"]) == {"tier1", "tier2", "tier3"}


def test_some_rows_never_arrive(table: pl.DataFrame) -> None:
    share = len(table) / (20 * 8 * 1440)
    assert 0.97 < share < 0.999
    assert table["ts"].is_sorted()
    assert table.select("cluster_id").n_unique() == 2


@pytest.mark.parametrize("ending", ["parquet", "csv", "csv.gz"])
def test_command_writes_a_file(tmp_path: Path, ending: str) -> None:
    out = tmp_path / f"nodes.{ending}"
    arguments = ["--nodes", "2", "--days", "0.5", "--seed", "3", "--out", str(out)]
    result = CliRunner().invoke(nodes.main, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    assert "2 entities" in result.output
    back = pl.read_parquet(out) if ending == "parquet" else pl.read_csv(out)
    expected = simulate_nodes(2, 0.5, 3)
    assert back["error_rate"].fill_null(-1.0).to_list() == expected["error_rate"].fill_nan(-1.0).to_list()
    first = out.read_bytes()
    CliRunner().invoke(nodes.main, arguments, catch_exceptions=False)
    assert out.read_bytes() == first


def test_command_refuses_an_unknown_format(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\.parquet, \.csv or \.csv\.gz"):
        CliRunner().invoke(
            nodes.main,
            ["--nodes", "1", "--days", "0.1", "--out", str(tmp_path / "x.xls")],
            catch_exceptions=False,
        )

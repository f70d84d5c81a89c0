"""Alerts of the shipped consensus model say which kind of fault it looks like, from recording to alert."""

from pathlib import Path

import msgspec
import polars as pl
import pytest

from dwcp_stream.backtest import backtest
from dwcp_stream.loading import bound_models
from dwcp_stream.pipeline import Pipeline
from dwcp_stream.registry import ModelRepository
from dwcp_stream.settings import Settings
from dwcp_stream.streams import load_streams
from dwcp_stream.streams.files import read_table, rows_to_records
from dwcp_stream.training.consensus.data import KINDS, LETTERS

ROOT = Path(__file__).parents[2]
RUN = ROOT / "tests/data/etcd/dev_r3.csv.gz"


@pytest.fixture(scope="module")
def alerts() -> list[dict[str, object]]:
    stream = load_streams(ROOT / "config/streams")["consensus"]
    pipeline = Pipeline(stream, bound_models(Settings(models_dir=ROOT / "models"), stream), check_ahead=False)
    records = rows_to_records(read_table(RUN, stream, "etcd-lab"), stream)
    outputs = [output for result in backtest(pipeline, records) for output in result.outputs]
    return [msgspec.json.decode(output.value) for output in outputs if output.topic == "anomalies"]


def test_the_manifest_names_the_kinds() -> None:
    manifest = ModelRepository(ROOT / "models").manifest("consensus-kinds")
    assert manifest.kinds == KINDS
    assert set(LETTERS.values()) < set(KINDS)


def test_each_fault_of_a_run_is_one_alert_of_its_kind(alerts: list[dict[str, object]]) -> None:
    # the model was trained on this run, too: this is about the way from graph to alert, not about quality
    run = pl.read_csv(RUN, infer_schema_length=None)
    told = run.filter(pl.col("label") == 1).select("ts", "fault_type").iter_rows()
    faults: list[tuple[float, str]] = []
    for ts, letter in told:
        if not faults or ts - faults[-1][0] > 10 or letter != faults[-1][1]:
            faults.append((ts, letter))
        else:
            faults[-1] = (ts, letter)
    firing = [alert for alert in alerts if alert["action"] == "firing"]
    assert [alert["kind"] for alert in firing] == [LETTERS[letter] for _, letter in faults]
    assert all((alert["kind"] in KINDS) == (alert["action"] != "resolved") for alert in alerts)
    assert all(alert["fields"] for alert in firing)

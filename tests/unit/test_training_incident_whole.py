"""The default incident model the whole way: errors, figures, the graph, the commands."""

import json
from pathlib import Path

import msgspec
import numpy as np
import onnxruntime as ort
import polars as pl
import pytest

from dwcp_stream.cli.main import run
from dwcp_stream.errors import PayloadError
from dwcp_stream.registry import ModelRepository
from dwcp_stream.streams import StreamDefinition
from dwcp_stream.training.dataset import load_grid
from dwcp_stream.training.in_turn import verdicts_in_turn
from dwcp_stream.training.incident.data import IncidentData, load_incident_data
from dwcp_stream.training.incident.design import Design, fit_design
from dwcp_stream.training.incident.sessions import StateSession
from dwcp_stream.training.incident.trainer import train_incident
from dwcp_stream.training.job import Candidate, Job
from dwcp_stream.training.trainers import find_trainer
from tests.unit.incident_cases import DEFINITION, STREAM, history, job_for


@pytest.fixture(scope="module")
def stream() -> StreamDefinition:
    return STREAM


@pytest.fixture(scope="module")
def job(stream: StreamDefinition, tmp_path_factory: pytest.TempPathFactory) -> Job:
    return job_for(stream, history(6, 200, 0), tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def data(job: Job) -> IncidentData:
    return load_incident_data(job)


@pytest.fixture(scope="module")
def design(data: IncidentData) -> Design:
    return fit_design(data.grid.stream, data.newest, data.group, data.normal)


@pytest.fixture(scope="module")
def candidate(job: Job) -> Candidate:
    return train_incident(job)


# --- errors


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (pl.col("label").alias("other"), "no column 'label'"),
        (pl.when(pl.col("label") == 1).then(pl.lit("leak")).otherwise(pl.lit("none")).alias("label"), "holds words"),
        (pl.lit(0).alias("label"), "0 rows in an incident"),
        (pl.lit(1).alias("label"), "and 0 normal ones"),
    ],
)
def test_labels_that_cannot_be_used_are_refused(
    stream: StreamDefinition, tmp_path: Path, change: pl.Expr, message: str
) -> None:
    table = history(3, 100, 4).with_columns(change)
    table = table.drop("label") if "other" in table.columns else table
    with pytest.raises(PayloadError, match=message):
        train_incident(job_for(stream, table, tmp_path))


def test_fields_that_never_change_are_refused(stream: StreamDefinition, tmp_path: Path) -> None:
    table = history(3, 100, 4).with_columns(f0=1.0, f1=2.0, f2=None)
    with pytest.raises(PayloadError, match="no numeric field changes"):
        train_incident(job_for(stream, table, tmp_path))


# --- the whole way


def test_figures_beat_the_baselines_and_probabilities_mean_something(candidate: Candidate) -> None:
    metrics = candidate.metrics
    assert metrics["recall_at_5_percent_fpr"] > 0.95
    assert metrics["false_positive_rate"] < 0.05
    assert all(each["recall_at_5_percent_fpr"] < 0.9 for each in metrics["baselines"].values())
    assert metrics["brier"] < 0.5 * metrics["brier_of_the_base_rate"]
    assert set(candidate.plots) == {"roc.png", "precision.png", "reliability.png"}
    assert "still" in candidate.report


def outputs(model: bytes, feed: dict[str, np.ndarray], *names: str) -> list[np.ndarray]:
    return list(ort.InferenceSession(model, providers=["CPUExecutionProvider"]).run(list(names), feed))


def feed_of(candidate: Candidate, data: IncidentData, rows: np.ndarray, design: Design) -> dict[str, np.ndarray]:
    windows, times = data.grid.windows(data.ends[rows], design.columns(data.grid.stream))
    states = StateSession(design).states(data.grid, data.ends, data.begins, rows)
    return {"window": windows, "time": times, "state_in": states}


def test_the_graph_gives_the_same_bits_in_any_batch(candidate: Candidate, data: IncidentData, design: Design) -> None:
    feed = feed_of(candidate, data, np.arange(0, 256, 4), design)
    names = ("score", "probability", "expected", "state_out")
    whole = outputs(candidate.model, feed, *names)
    for size in (4, 8, 20):
        for begin in (0, 12, 36):
            part = outputs(candidate.model, {k: v[begin : begin + size] for k, v in feed.items()}, *names)
            for a, b in zip(whole, part, strict=True):
                np.testing.assert_array_equal(a[begin : begin + size], b)


@pytest.mark.parametrize("fields", [("f0",), ("f0", "f1"), ("f0", "f1", "f2", "mode")])
def test_few_fields_are_enough_and_no_batch_shows(fields: tuple[str, ...], tmp_path: Path) -> None:
    """A graph of one or two fields reduces other shapes than one of many."""
    stream = msgspec.structs.replace(STREAM, fields=tuple(f for f in STREAM.fields if f.name in fields))
    job = job_for(stream, history(5, 120, 1), tmp_path, epochs=5)
    candidate, data = train_incident(job), load_incident_data(job)
    design = fit_design(stream, data.newest, data.group, data.normal)
    feed = feed_of(candidate, data, np.arange(0, 512, 2), design)
    whole = outputs(candidate.model, feed, "score", "probability", "state_out")
    for size, begin in ((4, 8), (8, 128), (64, 64)):
        part = {name: value[begin : begin + size] for name, value in feed.items()}
        for a, b in zip(whole, outputs(candidate.model, part, "score", "probability", "state_out"), strict=True):
            np.testing.assert_array_equal(a[begin : begin + size], b)


def test_contributions_name_the_field(candidate: Candidate, data: IncidentData, design: Design) -> None:
    assert candidate.explain is not None
    in_incident = np.flatnonzero(data.incident)[6::12]
    feed = feed_of(candidate, data, in_incident, design)
    contribution = outputs(candidate.explain, feed, "contribution")[0]
    assert contribution.shape == (len(in_incident), 4)
    assert (contribution.argmax(axis=1) == 0).mean() > 0.8


def test_expected_is_the_hosts_own_level(candidate: Candidate, data: IncidentData, design: Design) -> None:
    rows = np.flatnonzero(data.group == data.group[0])[[150]]
    expected = outputs(candidate.model, feed_of(candidate, data, rows, design), "expected")[0]
    own = np.nanmedian(data.newest[data.group == data.group[0]][:, design.columns(data.grid.stream)[:3]], axis=0)
    np.testing.assert_allclose(expected[0, :3], own, atol=1.0)
    assert np.isnan(expected[0, 3])


@pytest.mark.parametrize("scale", [1e-7, 1e9])
def test_the_unit_of_a_field_does_not_matter(stream: StreamDefinition, tmp_path: Path, scale: float) -> None:
    metrics = train_incident(job_for(stream, history(6, 200, 0, scale=scale), tmp_path)).metrics
    assert metrics["recall_at_5_percent_fpr"] > 0.95


def test_the_same_seed_gives_the_same_model(job: Job, candidate: Candidate) -> None:
    again = train_incident(job)
    assert again.model == candidate.model
    assert again.explain == candidate.explain
    assert again.report == candidate.report


def test_a_single_incident_of_a_single_entity_is_enough(stream: StreamDefinition, tmp_path: Path) -> None:
    table = history(1, 150, 5, gaps=0.0)
    table = table.filter((pl.col("label") == 0) | (pl.int_range(pl.len()) < 75))
    candidate = train_incident(job_for(stream, table, tmp_path))
    assert candidate.metrics["roc_auc"] > 0.8
    assert "the figures flatter" in candidate.report


def test_the_default_is_for_streams_without_a_model_of_their_own(stream: StreamDefinition) -> None:
    assert find_trainer(stream.models[0], "demo") is train_incident
    binding = msgspec.structs.replace(stream.models[0], name="node-gbt")
    assert find_trainer(binding, "node").__module__ == "dwcp_stream.training.trees"
    assert find_trainer(binding, "demo") is train_incident


def test_commands_go_from_files_to_scores(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "streams").mkdir()
    (tmp_path / "streams" / "demo.toml").write_text(DEFINITION)
    monkeypatch.setenv("DWCP_STREAMS_DIR", str(tmp_path / "streams"))
    train, test, models, scores = (tmp_path / name for name in ("train.csv", "test.csv", "models", "scores.csv"))
    history(6, 200, 0).write_csv(train)
    truth = history(3, 200, 8)
    truth.drop("label").write_csv(test)
    assert run(["train", "demo", "--data", str(train), "--epochs", "20", "--out", str(models), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["trained"][0]["champion"]
    assert ModelRepository(models).verify("anything", 1).ok
    assert (
        run(["backtest", str(test), "--stream", "demo", "--models", str(models), "--scores", str(scores), "--json"])
        == 0
    )
    alerts = json.loads(capsys.readouterr().out)["alerts"]
    found = pl.read_csv(scores)
    assert {"entity", "ts", "score", "probability", "state", "version"} <= set(found.columns)
    assert len(found) == len(truth)
    joined = truth.join(found, left_on=["host", "ts"], right_on=["entity", "ts"])
    label, score = joined["label"].to_numpy() == 1, joined["score"].to_numpy()
    assert (score[label] > 1).mean() > 0.8
    assert (score[~label] > 1).mean() < 0.1
    firing = [alert for alert in alerts if alert["action"] == "firing"]
    assert firing
    top = [alert["annotations"]["summary"].split("; ")[1].split(" ")[0] for alert in firing]
    assert top.count("f0") > 0.7 * len(top)

    stream = msgspec.toml.decode(DEFINITION, type=StreamDefinition)
    grid = load_grid(stream, [test])
    model = ModelRepository(models).load("anything", 1).bind(stream)
    again = np.empty(len(grid.ends()), np.float32)
    for rows, verdicts in verdicts_in_turn(model, grid, grid.ends(), lambda _share: None):
        again[rows] = verdicts.score
    expected = joined.sort("host", "ts")["score"].to_numpy().astype(np.float32)
    names = np.array(grid.entities)[grid.entity[grid.ends()]]
    np.testing.assert_array_equal(again[np.lexsort((grid.ts[grid.ends()], names))], expected)


def test_evaluate_judges_a_model_that_remembers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "streams").mkdir()
    (tmp_path / "streams" / "demo.toml").write_text(DEFINITION.replace("step = 10.0", 'step = "irregular"'))
    monkeypatch.setenv("DWCP_STREAMS_DIR", str(tmp_path / "streams"))
    monkeypatch.setenv("DWCP_MODELS_DIR", str(tmp_path / "models"))
    history(6, 200, 0).write_csv(tmp_path / "train.csv")
    history(3, 200, 8).write_csv(tmp_path / "test.csv")
    assert run(["train", "demo", "--data", str(tmp_path / "train.csv"), "--epochs", "20", "--json"]) == 0
    capsys.readouterr()
    assert run(["evaluate", "demo", "--data", str(tmp_path / "test.csv"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert '"found":6' in json.dumps(found, separators=(",", ":"))

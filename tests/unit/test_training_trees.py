"""Training the node models end to end on a small simulated file: graphs, threshold, explanation, report."""

from pathlib import Path

import numpy as np
import onnxruntime as ort
import polars as pl
import pytest
import xgboost

from dwcp_stream.errors import PayloadError
from dwcp_stream.registry import ModelRepository
from dwcp_stream.streams import StreamDefinition, load_stream
from dwcp_stream.training.calibration import Calibration
from dwcp_stream.training.ensemble import exact
from dwcp_stream.training.features import FIELDS, FeatureGraph
from dwcp_stream.training.forest import train_forest
from dwcp_stream.training.graph import Graph, to_bytes
from dwcp_stream.training.job import Candidate, Job
from dwcp_stream.training.node_data import load_node_data, thinned, typical_values
from dwcp_stream.training.publish import publish
from dwcp_stream.training.trees import fit, from_xgboost, margin_model, train_incident
from lab.files import write_table
from lab.nodes import simulate_nodes


@pytest.fixture(scope="module")
def stream() -> StreamDefinition:
    return load_stream(Path(__file__).parents[2] / "config" / "streams" / "node.toml")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lab") / "nodes.parquet"
    write_table(simulate_nodes(14, 3, 5, incidents=4.0), path)
    return path


def job_for(stream: StreamDefinition, name: str, *files: Path, epochs: int | None = None) -> Job:
    binding = next(model for model in stream.models if model.name == name)
    return Job(stream=stream, binding=binding, files=files, seed=3, epochs=epochs, command=f"train {name}")


@pytest.fixture(scope="module")
def incident_job(stream: StreamDefinition, file: Path) -> Job:
    return job_for(stream, "node-gbt", file, epochs=30)


@pytest.fixture(scope="module")
def incident(incident_job: Job) -> Candidate:
    return train_incident(incident_job)


@pytest.fixture(scope="module")
def forest(stream: StreamDefinition, file: Path) -> Candidate:
    return train_forest(job_for(stream, "node-iforest", file, epochs=20))


@pytest.fixture(scope="module")
def windows(incident_job: Job) -> np.ndarray:
    part = load_node_data(incident_job).test
    return part.windows(np.arange(0, len(part.ends), 7))


def run(model: bytes, windows: np.ndarray, *outputs: str) -> list[np.ndarray]:
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    time = np.zeros(windows.shape[:2], np.float64)
    return session.run(list(outputs), {"window": windows, "time": time})


def test_parts_share_no_entity_and_test_is_later(incident_job: Job) -> None:
    data = load_node_data(incident_job)
    entities = [set(part.rows.entity.tolist()) for part in (data.train, data.valid, data.test)]
    assert not entities[0] & entities[1]
    assert not entities[2] & (entities[0] | entities[1])
    assert max(data.train.rows.ts.max(), data.valid.rows.ts.max()) < data.cut <= data.test.rows.ts.min()
    assert data.train.last.shape == (len(data.train.ends), 12)
    np.testing.assert_array_equal(data.train.windows(slice(50))[:, -1], data.train.last[:50])


def test_thinning_keeps_labelled_rows_and_restores_shares(incident_job: Job) -> None:
    part = load_node_data(incident_job).train
    rows, weight = thinned(part, 500, 1)
    assert part.label[rows].sum() == part.label.sum()
    assert weight[~part.label[rows]].sum() == pytest.approx((~part.label).sum(), rel=1e-3)
    assert (np.diff(rows) > 0).all()


def test_margin_equals_the_library(incident_job: Job, windows: np.ndarray) -> None:
    booster, loss = fit(load_node_data(incident_job), incident_job)
    assert 0 < loss < np.log(2), "worse than a coin"
    features = FeatureGraph(incident_job.stream)(windows)
    expected = booster.predict(xgboost.DMatrix(features), output_margin=True)
    trees = exact(from_xgboost(booster))
    got = run(margin_model(incident_job.stream, trees), windows, "margin")[0]
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_incident_model_learns(incident: Candidate) -> None:
    assert incident.metrics["roc_auc"] > 0.7
    assert len(incident.metrics["baselines"]) == 3
    assert 1.0 < incident.severity[1] < incident.severity[2]


def test_score_is_monotone_in_probability(incident: Candidate, windows: np.ndarray) -> None:
    score, probability = run(incident.model, windows, "score", "probability")
    order = np.argsort(probability, kind="stable")
    assert (np.diff(score[order]) >= 0).all()
    assert (score > 1).any()
    assert (score < 1).mean() > 0.8
    assert ((probability >= 0) & (probability <= 1)).all()


def test_expected_is_the_median_of_mode_and_tier(incident: Candidate, incident_job: Job) -> None:
    part = load_node_data(incident_job).train
    table = typical_values(part)
    normal = part.last[~part.label]
    mode, tier = normal[np.isfinite(normal).all(axis=1)][0, 10:]
    same = normal[(normal[:, 10] == mode) & (normal[:, 11] == tier)]
    window = np.ones((5, 15, 12), np.float32)
    window[:2, :, 10], window[:2, :, 11] = mode, tier
    window[1, :5] = np.nan
    window[2, :, 10] = np.nan
    window[3, :, 10:] = [9, 3]  # words that a later vocabulary may have
    window[4, :, 10:] = [2, 4]
    expected = run(incident.model, window, "expected")[0]
    np.testing.assert_allclose(expected[0, :10], np.nanmedian(same[:, :10], axis=0), rtol=1e-5)
    np.testing.assert_array_equal(expected[0], expected[1])
    for row in expected[2:]:
        np.testing.assert_allclose(row[:10], table[-1])
    assert np.isnan(expected[:, 10:]).all()


@pytest.mark.parametrize("which", ["incident", "forest"])
def test_contribution_is_what_replacing_a_field_changes(
    request: pytest.FixtureRequest, which: str, windows: np.ndarray
) -> None:
    candidate: Candidate = request.getfixturevalue(which)
    score = run(candidate.model, windows, "score")[0]
    some = windows[np.argsort(-score)[:5]].copy()
    some[4, :6] = np.nan
    contribution = run(candidate.explain, some, "contribution")[0]
    expected = run(candidate.model, some, "expected")[0]
    assert contribution.shape == (5, 12)
    before = run(candidate.model, some, "score")[0]
    assert (before > 0).all()
    for column in range(12):
        changed = some.copy()
        changed[:, :, column] = np.where(np.isnan(some[:, :, column]), np.nan, expected[:, column : column + 1])
        after = run(candidate.model, changed, "score")[0]
        difference = before - after
        cut_off = after == 0  # the score ends at 0, the contribution does not
        np.testing.assert_allclose(contribution[~cut_off, column], difference[~cut_off], atol=1e-5)
        assert (contribution[cut_off, column] >= difference[cut_off] - 1e-5).all(), FIELDS[column]
    assert contribution.max() > 0.05


@pytest.mark.parametrize("which", ["incident", "forest"])
def test_result_does_not_depend_on_the_batch(request: pytest.FixtureRequest, which: str, windows: np.ndarray) -> None:
    candidate: Candidate = request.getfixturevalue(which)
    whole = run(candidate.model, windows[:64], "score")[0]
    for batch in (2, 7):
        for start in range(0, 56, batch):
            part = run(candidate.model, windows[start : start + batch], "score")[0]
            np.testing.assert_array_equal(part, whole[start : start + batch])
    turned = run(candidate.model, windows[:64][::-1].copy(), "score")[0]
    np.testing.assert_array_equal(turned[::-1], whole)


def test_forest_knows_no_labels_and_ranks_better_than_chance(forest: Candidate, windows: np.ndarray) -> None:
    assert forest.metrics["roc_auc"] > 0.6
    assert "logistic" not in " ".join(forest.metrics["baselines"])
    score = run(forest.model, windows, "score")[0]
    assert np.isfinite(score).all()
    assert (score <= 1).mean() > 0.8


def test_empty_and_short_windows_get_a_finite_score(
    incident: Candidate, forest: Candidate, windows: np.ndarray
) -> None:
    short = windows[:4].copy()
    short[:, :-1] = np.nan
    short[0] = np.nan
    for candidate in (incident, forest):
        assert np.isfinite(run(candidate.model, short, "score")[0]).all()
        assert np.isfinite(run(candidate.explain, short, "contribution")[0]).all()


@pytest.mark.parametrize("which", ["incident", "forest"])
def test_report_shows_rule_and_baseline_beside_the_model(request: pytest.FixtureRequest, which: str) -> None:
    candidate: Candidate = request.getfixturevalue(which)
    for words in (
        "rule: error_rate > 0.01",
        "best single field",
        "false alarms per node and day",
        "train node-",
    ):
        assert words in candidate.report
    for name, png in candidate.plots.items():
        assert name in candidate.report
        assert png.startswith(b"\x89PNG")
    assert set(candidate.reference) == set(FIELDS)
    assert len(candidate.model) < 2_000_000


def test_training_again_gives_the_same_bytes(incident: Candidate, incident_job: Job) -> None:
    again = train_incident(incident_job)
    assert again.model == incident.model
    assert again.explain == incident.explain
    assert again.metrics == incident.metrics


def test_calibration_in_the_graph_equals_its_definition() -> None:
    calibration = Calibration(base=-4.25, threshold=1.5)
    g = Graph("calibration")
    raw = g.input("raw", np.float32, ["batch"])
    g.output(calibration.add_score(g, raw), "score", np.float32, ["batch"])
    x = np.array([-9.0, -4.25, 0.0, 1.5, 1.5001, 7.0], np.float32)
    session = ort.InferenceSession(to_bytes(g.model()), providers=["CPUExecutionProvider"])
    got = session.run(None, {"raw": x})[0]
    np.testing.assert_allclose(got, calibration.scores(x), atol=1e-6)
    assert got[3] == 1.0
    assert got[4] > 1.0
    assert got[:2].tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda table: table.drop("label"), "no column 'label'"),
        (lambda table: table.filter(pl.col("node_id") < "node-002"), "2 entities"),
        (lambda table: table.with_columns(label=pl.lit(0)), "0 labelled rows"),
    ],
)
def test_unusable_files_are_refused_with_a_reason(
    tmp_path: Path, stream: StreamDefinition, file: Path, change: object, words: str
) -> None:
    path = tmp_path / "nodes.parquet"
    change(pl.read_parquet(file)).write_parquet(path)
    with pytest.raises(PayloadError, match=words):
        train_incident(job_for(stream, "node-gbt", path))


@pytest.mark.parametrize("name", ["node-gbt", "node-iforest"])
def test_published_model_is_verified_and_scores_the_stream(
    request: pytest.FixtureRequest, tmp_path: Path, stream: StreamDefinition, file: Path, name: str
) -> None:
    candidate: Candidate = request.getfixturevalue("incident" if name == "node-gbt" else "forest")
    repository = ModelRepository(tmp_path)
    version = publish(candidate, job_for(stream, name, file), repository)
    model = repository.load(name, "champion")
    model.bind(stream)
    assert model.version == version == 1
    assert model.severity == candidate.severity
    window = np.full((3, 15, 12), np.nan, np.float32)
    window[:, -3:] = [0.0006, 0.0004, 11.0, 30.0, 0.0, 0.0, 0.005, 35.0, 42.0, 30.0, 3.0, 0.0]
    window[2, -3:, :4] *= 20.0
    verdicts = model.score(window, np.zeros((3, 15)), None)
    assert verdicts.score[2] > verdicts.score[0]
    assert verdicts.score[0] == verdicts.score[1] < 1.0
    contribution = model.explain(window, np.zeros((3, 15)))
    assert contribution is not None
    assert int(np.argmax(contribution[2])) < 4

"""The default incident model: features against plain definitions, splits, errors, and the whole way by commands."""

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
from dwcp_stream.training.incident.data import IncidentData, apart, load_incident_data, split
from dwcp_stream.training.incident.design import Design, fit_design
from dwcp_stream.training.incident.normal import LEAST_WEIGHT, MEMORY, PRIOR, STEP_LIMIT
from dwcp_stream.training.incident.sessions import FeatureSession, StateSession
from dwcp_stream.training.incident.thresholds import MOST_FALSE, RESERVE, calibrate, choose_threshold, fit_platt
from dwcp_stream.training.incident.trainer import train_incident
from dwcp_stream.training.job import Candidate, Job
from dwcp_stream.training.trainers import find_trainer

DEFINITION = """
name = "demo"
topic = "dwcp.telemetry.demo"
entity = ["host"]
step = 10.0
window = 12
[[fields]]
name = "f0"
[[fields]]
name = "f1"
[[fields]]
name = "still"
[[fields]]
name = "f2"
[[fields]]
name = "mode"
kind = "categorical"
vocabulary = ["on", "off"]
[[models]]
name = "anything"
task = "incident"
label = "label"
"""


@pytest.fixture(scope="module")
def stream() -> StreamDefinition:
    return msgspec.toml.decode(DEFINITION, type=StreamDefinition)


def history(entities: int, rows: int, seed: int, *, scale: float = 1.0, gaps: float = 0.03) -> pl.DataFrame:
    """Make hosts of very different levels; in an incident f0 rises by four of its spreads."""
    rng = np.random.default_rng(seed)
    parts = []
    for host in range(entities):
        label = np.zeros(rows, int)
        for start in (rows // 3, 2 * rows // 3):
            label[start : start + 12] = 1
        x = (rng.normal(0, 1, (rows, 3)) + rng.uniform(10, 60)) * scale
        x[:, 0] += 4 * scale * label
        x[rng.random(x.shape) < gaps] = np.nan
        parts.append(
            pl.DataFrame(
                {
                    "ts": 1.7e9 + 10 * np.arange(rows) + host,
                    "host": f"h{seed}-{host}",
                    "f0": x[:, 0],
                    "f1": x[:, 1],
                    "still": 7.0,
                    "f2": x[:, 2],
                    "mode": np.where(rng.random(rows) < 0.5, "on", "off").tolist(),
                    "label": label,
                }
            )
        )
    return pl.concat(parts).fill_nan(None)


def job_for(stream: StreamDefinition, table: pl.DataFrame, folder: Path, *, epochs: int = 20) -> Job:
    path = folder / "train.csv"
    table.write_csv(path)
    return Job(stream=stream, binding=stream.models[0], files=(path,), seed=1, epochs=epochs, command="train demo")


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


# --- the graph's parts


def test_a_constant_field_is_left_out_and_words_come_last(design: Design) -> None:
    assert design.fields == ("f0", "f1", "f2", "mode")
    assert design.words == ((0, 1),)
    assert design.lengths == (3, 12)


def test_features_follow_their_definitions(data: IncidentData, design: Design) -> None:
    session = FeatureSession(design)
    rows = data.ends[20:120]
    rng = np.random.default_rng(3)
    level, spread = rng.normal(0, 1, (len(rows), 3)), rng.uniform(0.5, 2, (len(rows), 3))
    state = np.concatenate([level, spread, np.full((len(rows), 3), 50.0)], axis=1).astype(np.float32)
    found = {
        column.name: value for column, value in zip(session.columns, session(data.grid, rows, state).T, strict=True)
    }
    windows, _ = data.grid.windows(rows, design.columns(data.grid.stream))
    u = design.scaled(windows[..., :3])

    held = np.array([[next((v for v in w[::-1, p] if np.isfinite(v)), np.nan) for p in range(3)] for w in u])
    for p, name in enumerate(("f0", "f1", "f2")):
        now = (held[:, p] - level[:, p]) / spread[:, p]
        np.testing.assert_allclose(found[f"{name} value"], held[:, p], atol=1e-4)
        np.testing.assert_allclose(found[f"{name} now"], now, atol=1e-3)
        np.testing.assert_allclose(
            found[f"{name} mean 3"], (np.nanmean(u[:, -3:, p], axis=1) - level[:, p]) / spread[:, p], atol=1e-3
        )
        np.testing.assert_allclose(found[f"{name} spread 12"], np.nanstd(u[..., p], axis=1) / spread[:, p], atol=1e-3)
        earlier = np.nanmean(u[:, :-3, p], axis=1)
        np.testing.assert_allclose(
            found[f"{name} shift"], (np.nanmean(u[:, -3:, p], axis=1) - earlier) / spread[:, p], atol=1e-3
        )
        missing = np.isnan(u[..., p]).sum(axis=1)
        fewest = np.isnan(u).sum(axis=1).min(axis=1)
        np.testing.assert_allclose(found[f"{name} missing"], (missing - fewest) / (12 - fewest), atol=1e-6)
    distance = np.minimum(np.abs((held - level) / spread), 8.0)
    np.testing.assert_allclose(found["all fields: now, mean"], distance.mean(axis=1), atol=2e-3)
    np.testing.assert_array_equal(found["mode is word 1"], windows[:, -1, 3] == 1)


def follow(design: Design, u: np.ndarray) -> list[np.ndarray]:
    """Plain definition of the running normal of one entity from its first row on."""
    typical = design.spread.astype(float)
    states, weight = [], np.zeros(3)
    level, spread = np.zeros(3), typical
    for end in range(1, len(u) + 1):
        window = u[max(end - design.window, 0) : end]
        seen = np.isfinite(u[end - 1])
        count = np.isfinite(window).sum(axis=0)
        first = np.array(
            [np.sort(column[np.isfinite(column)])[(n - 1) // 2] for column, n in zip(window.T, count, strict=True)]
        )
        usual = (np.nansum(np.abs(window - first), axis=0) + PRIOR * typical) / (count + PRIOR)
        young = weight < design.window
        level = np.where(young, first, level)
        spread = np.maximum(np.where(young, usual, spread), 0.1 * typical)
        step = np.where(seen, u[end - 1], 0.0) - level
        away = np.round(np.minimum(np.abs(step / spread), 8.0) * 1024) / 1024 * seen
        share = np.clip((design.strange - away.sum() / seen.sum()) / 3.0, LEAST_WEIGHT, 1.0) * seen
        grown = np.minimum(weight + share, MEMORY)
        bounded = np.clip(step, -STEP_LIMIT * spread, STEP_LIMIT * spread)
        next_level = level + share / np.maximum(grown, 1.0) * bounded
        next_spread = spread + share / (grown + PRIOR) * (np.abs(bounded) - spread)
        level, spread = np.where(young, level, next_level), np.where(young, usual, next_spread)
        weight = np.where(young, count, grown)
        states.append(np.concatenate([level, spread, weight]))
    return states


def test_an_entitys_normal_follows_its_definition(stream: StreamDefinition, data: IncidentData, design: Design) -> None:
    rows = np.flatnonzero(data.group == data.group[0])
    ends = data.ends[rows]
    found = StateSession(design).states(data.grid, ends, np.arange(len(ends)) == 0, np.arange(len(ends)))
    assert np.isnan(found[0]).all()
    u = design.scaled(data.grid.values[ends][:, design.columns(stream)[:3]])
    first = int(np.flatnonzero(np.isfinite(u).all(axis=1))[0])
    assert first == 0, "the seed gives a complete first row"
    expected = follow(design, u)
    np.testing.assert_allclose(found[1:], expected[:-1], rtol=2e-3, atol=2e-3)


def test_an_incident_hardly_moves_the_normal(design: Design, data: IncidentData) -> None:
    """A thousand times a host's spread, for as long as it was normal before."""
    grid, stream = data.grid, data.grid.stream
    one = np.flatnonzero(data.group == data.group[0])[:100]
    values = grid.values.copy()
    values[np.ix_(data.ends[one[50:]], design.columns(stream)[:3])] += 1000.0
    changed = IncidentData(type(grid)(**{**vars(grid), "values": values}), data.ends, data.label)
    ends = changed.ends[one]
    state = StateSession(design).states(changed.grid, ends, np.arange(100) == 0, np.array([50, 99]))
    moved = np.abs(state[1, :3] - state[0, :3]) / state[0, 3:6]
    assert (moved < 1.0).all()


# --- splits


def test_parts_of_many_entities_share_none(data: IncidentData) -> None:
    folds = split(data, 0)
    assert folds.by_entity
    assert folds.count == 5
    for number in range(folds.count):
        inside = folds.number == number
        assert data.incident[inside].any()
        assert not set(data.group[inside].tolist()) & set(data.group[~inside].tolist())


def test_parts_of_one_entity_are_stretches_whose_windows_are_apart(stream: StreamDefinition, tmp_path: Path) -> None:
    data = load_incident_data(job_for(stream, history(1, 300, 2), tmp_path))
    folds = split(data, 0)
    assert not folds.by_entity
    assert folds.count == 2
    assert (np.diff(folds.number) >= 0).all()
    test = folds.number == 1
    train = apart(data, test)
    assert train.any()
    assert not (train & test).any()
    assert data.ends[test].min() - data.ends[train].max() >= stream.window


def test_a_row_without_a_label_is_in_neither_class(stream: StreamDefinition, tmp_path: Path) -> None:
    table = history(2, 200, 3).with_columns(
        label=pl.when(pl.int_range(pl.len()) % 50 < 5).then(None).otherwise("label")
    )
    data = load_incident_data(job_for(stream, table, tmp_path))
    assert 0 < (~data.known).sum() < len(data.label)
    assert not (data.incident & data.normal).any()


# --- thresholds


def test_the_threshold_keeps_its_budget_and_takes_a_gap_in_the_middle() -> None:
    rng = np.random.default_rng(0)
    label = np.arange(2000) % 10 == 0
    noisy = rng.normal(0, 1, 2000) + 1.5 * label
    level = choose_threshold(label, noisy)
    assert 0 < (noisy[~label] > level).mean() <= MOST_FALSE * (1 - RESERVE)
    apart_ = np.where(label, 10.0, 0.0) + rng.uniform(0, 1, 2000)
    level = choose_threshold(label, apart_)
    assert 1.0 < level < 10.0
    assert 0.3 < (level - 1.0) / 9.0 < 0.7


def test_useless_margins_still_give_a_threshold() -> None:
    label = np.arange(100) % 2 == 0
    calibration = calibrate(label, np.zeros(100))
    assert calibration.threshold > calibration.base
    assert (calibration.scores(np.zeros(100)) < 1).all()
    assert fit_platt(label, np.zeros(100), np.ones(100)).probability(np.zeros(1))[0] == pytest.approx(0.5, abs=0.01)


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

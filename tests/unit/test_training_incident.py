"""The default incident model's parts: features, an entity's normal, splits and thresholds by their definitions."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from dwcp_stream.streams import StreamDefinition
from dwcp_stream.training.incident.data import IncidentData, apart, load_incident_data, split
from dwcp_stream.training.incident.design import Design, fit_design
from dwcp_stream.training.incident.normal import LEAST_WEIGHT, MEMORY, PRIOR, STEP_LIMIT
from dwcp_stream.training.incident.sessions import FeatureSession, StateSession
from dwcp_stream.training.incident.thresholds import MOST_FALSE, RESERVE, calibrate, choose_threshold, fit_platt
from dwcp_stream.training.job import Job
from tests.unit.incident_cases import STREAM, history, job_for


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
        young = (weight < design.window) & (count > 0)
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
        weight = np.where(young, np.maximum(count, weight + seen), grown)
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


def test_a_field_with_gaps_gets_a_long_memory_too(data: IncidentData, design: Design) -> None:
    rows = np.flatnonzero(data.group == data.group[0])
    ends = data.ends[rows]
    values = data.grid.values.copy()
    values[ends[::2]] = np.nan
    grid = type(data.grid)(**{**vars(data.grid), "values": values})
    state = StateSession(design).states(grid, ends, np.arange(len(ends)) == 0, np.array([len(ends) - 1]))
    known = np.isfinite(values[ends[:-1]][:, design.columns(grid.stream)[:3]]).sum(axis=0)
    np.testing.assert_allclose(state[0, 6:], known, rtol=0.05)


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

"""The default anomaly model: graph and training agree, its parts do what they say, files of every kind work."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime as ort
import polars as pl
import pytest

from dwcp_stream.cli.main import run
from dwcp_stream.errors import PayloadError
from dwcp_stream.registry import ModelRepository
from dwcp_stream.scoring.batching import padded
from dwcp_stream.streams import StreamDefinition
from dwcp_stream.streams.definition import Field, ModelBinding
from dwcp_stream.training.anomaly import memory
from dwcp_stream.training.anomaly.baselines import ewma_z, pca_mean
from dwcp_stream.training.anomaly.channels import LIMIT, fit_channels
from dwcp_stream.training.anomaly.marginal import fit_marginal, held_out_rarity
from dwcp_stream.training.anomaly.memory import Turns, join_fields, mean_power, track_levels, track_norms
from dwcp_stream.training.anomaly.model import build, hold, state_size
from dwcp_stream.training.anomaly.recipe import Recipe, fit_recipe
from dwcp_stream.training.anomaly.regression import CROSS_FIELDS, fit_regression, lagged
from dwcp_stream.training.anomaly.ridge import fit_ridge, held_out
from dwcp_stream.training.anomaly.season import fit_season
from dwcp_stream.training.anomaly.tail import RATE, SHARE, Tail, fit_tail, norm_of
from dwcp_stream.training.anomaly.trainer import split, train_anomaly
from dwcp_stream.training.dataset import Grid, load_grid
from dwcp_stream.training.graph import Graph, to_bytes
from dwcp_stream.training.job import Job
from dwcp_stream.training.publish import publish
from dwcp_stream.training.sequence import run_sequence

DAY = 86400
START = 1_700_006_400.0


def stream(*fields: Field, step: float | str = 300.0, window: int = 12, label: str | None = None) -> StreamDefinition:
    return StreamDefinition(
        name="plant",
        topic="t.plant",
        entity=("unit",),
        step=step,  # type: ignore[arg-type]
        window=window,
        fields=fields,
        models=(ModelBinding(name="whatever", task="anomaly", label=label),),
    )


def table(units: dict[str, dict[str, np.ndarray]], step: float = 300.0) -> pl.DataFrame:
    parts = []
    for name, columns in units.items():
        rows = len(next(iter(columns.values())))
        parts.append(pl.DataFrame({"ts": START + step * np.arange(rows), "unit": [name] * rows, **columns}))
    return pl.concat(parts)


def waves(rows: int, seed: int, noise: float = 0.1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return 5.0 + np.sin(2 * np.pi * np.arange(rows) / 288) + rng.normal(0, noise, rows)


def grid_of(definition: StreamDefinition, frame: pl.DataFrame, folder: Path) -> Grid:
    path = folder / "rows.csv"
    frame.write_csv(path)
    label = definition.models[0].label
    return load_grid(definition, (path,), extra=(label,) if label else ())


def job(definition: StreamDefinition, frame: pl.DataFrame, folder: Path, **more: object) -> Job:
    path = folder / "rows.csv"
    frame.write_csv(path)
    return Job(stream=definition, binding=definition.models[0], files=(path,), **more)  # type: ignore[arg-type]


def run_graph(model: bytes, **inputs: np.ndarray) -> dict[str, np.ndarray]:
    session = ort.InferenceSession(model)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


# -- the parts


def test_ridge_solves_each_field_on_its_known_rows() -> None:
    rng = np.random.default_rng(0)
    x, truth = rng.normal(size=(500, 3)), rng.normal(size=(3, 2))
    y = x @ truth
    y[::7, 1] = np.nan
    np.testing.assert_allclose(fit_ridge(x, y, 1e-9), truth, atol=1e-6)
    assert np.isnan(held_out(x, y, 1e-9)[::7, 1]).all()
    assert np.nanmax(np.abs(held_out(x, y, 1e-9))) < 1e-5


def test_held_out_residuals_are_larger_than_those_of_the_fit() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(80, 30)), rng.normal(size=(80, 1))
    fitted = y - x @ fit_ridge(x, y, 0.01)
    assert np.square(held_out(x, y, 0.01)).mean() > 1.5 * np.square(fitted).mean()


def test_channels_center_scale_limit_and_keep_what_is_missing() -> None:
    values = np.column_stack([np.arange(101.0), np.full(101, 7.0), np.zeros(101), np.full(101, np.nan)])
    made = fit_channels(values, tuple(Field(name=n) for n in "abcd"))
    assert made.center.tolist() == [50.0, 7.0, 0.0, 0.0]
    assert made.scale[0] == pytest.approx(np.arange(101).std())
    assert made.scale[1:3].tolist() == pytest.approx([0.007, 1.0])
    scaled = made.apply(np.array([[1e9, 7.007, np.nan, 50.0]]))
    assert scaled[0, 0] == LIMIT
    assert scaled[0, 1] == pytest.approx(1.0, abs=1e-3)
    assert np.isnan(scaled[0, 2])
    assert abs(scaled[0, 3]) < 1e-6  # nobody knows what is normal


def test_one_absurd_reading_does_not_set_the_scale() -> None:
    values = np.random.default_rng(0).normal(size=(1000, 1))
    values[500] = 1e12
    assert fit_channels(values, (Field(name="a"),)).scale[0] == pytest.approx(1.0, abs=0.1)


def test_words_are_scaled_by_their_rarity() -> None:
    field = Field(name="mode", kind="categorical", vocabulary=("a", "b", "c"))
    codes = np.array([[0.0]] * 90 + [[1.0]] * 10)
    made = fit_channels(codes, (field,))
    a, b, c = made.apply(np.array([[0.0], [1.0], [2.0]]))[:, 0]
    assert a == 0.0 < b < c
    assert made.common == {0: 0}


def test_a_daily_season_is_found_where_there_is_one() -> None:
    ts = START + 300.0 * np.arange(4 * 288)
    rng = np.random.default_rng(0)
    daily = np.sin(2 * np.pi * ts / DAY) + rng.normal(0, 0.1, len(ts))
    season = fit_season(ts, np.column_stack([daily, rng.normal(size=len(ts))]))
    assert season.fields.tolist() == [True, False]
    later = ts[-1] + 300.0 * np.arange(1, 289)
    assert np.abs(season(later)[:, 0] - np.sin(2 * np.pi * later / DAY)).max() < 0.15
    assert fit_season(ts[:400], daily[:400, None]).frequencies == ()  # a day and a half say nothing of a day


def test_a_weekly_season_needs_two_weeks() -> None:
    ts = START + 3600.0 * np.arange(28 * 24)
    weekend = ((ts // DAY + 3) % 7 >= 5).astype(float)
    value = (weekend - weekend.mean() + np.random.default_rng(0).normal(0, 0.1, len(ts)))[:, None]
    season = fit_season(ts, value)
    later = ts[-1] + 3600.0 * np.arange(1, 7 * 24)
    assert np.corrcoef(season(later)[:, 0], ((later // DAY + 3) % 7 >= 5))[0, 1] > 0.9


def test_lagged_rows_are_filled_from_older_ones_within_reach() -> None:
    z = np.array([[1.0], [2.0], [np.nan], [np.nan], [5.0]])
    np.testing.assert_array_equal(lagged(z, np.array([4]), (1, 2, 3), 4)[0, :, 0], [2.0, 2.0, 2.0])
    np.testing.assert_array_equal(lagged(z, np.array([4]), (1, 2), 2)[0, :, 0], [np.nan, np.nan])


@pytest.mark.parametrize("fields", [1, 3, CROSS_FIELDS + 1])
def test_regression_predicts_an_autoregression(fields: int) -> None:
    rng = np.random.default_rng(2)
    z = np.zeros((2000, fields))
    for t in range(1, len(z)):
        z[t] = 0.8 * z[t - 1] + rng.normal(0, 0.6, fields)
    ends = np.arange(3, len(z))
    past = lagged(z, ends, (1, 2, 3), 3)
    made, residual = fit_regression(past, z[ends], (1, 2, 3))
    assert residual.std() == pytest.approx(0.6, rel=0.12)
    np.testing.assert_allclose(made(past)[:, 0], 0.8 * z[ends - 1, 0], atol=0.35)
    assert made.weights.ndim == (3 if 1 < fields <= CROSS_FIELDS else 2)


def test_levels_and_norms_by_hand() -> None:
    turns = Turns.of(np.array([0, 1, 0, 0]))
    assert turns.order.tolist() == [[0, 1], [2, -1], [3, -1]]
    before, after = track_levels(np.array([[1.0], [5.0], [np.nan], [2.0]]), turns, np.zeros((2, 1)))
    rate = memory.LEVEL_RATE
    np.testing.assert_allclose(before[:, 0], [0.0, 0.0, rate, rate])
    np.testing.assert_allclose(after[:, 0], [rate + rate * (2.0 - rate), 5 * rate])
    unusual, power = track_norms(np.array([[1.0], [np.nan], [100.0]]), Turns.of(np.zeros(3)), np.array([1.0]))
    floor = memory.FLOOR**8
    assert unusual[0, 0] == pytest.approx(1.0)
    assert np.isnan(unusual[1, 0])
    assert unusual[2, 0] == pytest.approx(memory.DEVIATION_LIMIT, rel=1e-6)
    grown = 1.0 + memory.NORM_RATE * (memory.WINSOR**8 * (1.0 + floor) - 1.0)
    assert power[0, 0] == pytest.approx(grown, rel=1e-6)
    assert mean_power(np.array([[2.0], [np.nan]]))[0] == 256.0
    np.testing.assert_allclose(join_fields(np.array([[3.0, np.nan], [3.0, 4.0], [np.nan, np.nan]])), [3, 12.5**0.5, 0])


def test_tail_is_one_at_the_threshold_and_rises_throughout() -> None:
    tail = Tail(norm=0.5, upper=0.4, threshold=2.0)
    assert tail.score(np.array([0.0, 0.2, 1.0, 2.0])) == pytest.approx([0.0, SHARE, 1.0, 2.0])
    assert (np.diff(tail.score(np.linspace(0, 2, 500))) > 0).all()


def test_tail_of_many_rows_keeps_the_stated_rate_and_of_few_the_prior() -> None:
    rng = np.random.default_rng(0)
    many = rng.pareto(4.0, 100_000) + 1.0
    fresh = rng.pareto(4.0, 1_000_000) + 1.0
    tail = fit_tail(many, norm_of(many))
    assert (tail.score(fresh) > 1.0).mean() == pytest.approx(RATE, rel=0.35)
    assert fit_tail(many[:100], norm_of(many[:100])).threshold == pytest.approx(2.0, rel=0.05)
    assert fit_tail(np.zeros(50), norm_of(np.zeros(50))).threshold > 0


def test_tail_in_the_graph() -> None:
    tail = Tail(norm=0.5, upper=0.4, threshold=2.0)
    g = Graph("tail")
    g.output(tail.add(g, g.input("x", np.float32, ["batch"])), "y", np.float32, ["batch"])
    x = np.linspace(0, 3, 400).astype(np.float32)
    np.testing.assert_allclose(run_graph(to_bytes(g.model()), x=x)["y"], tail.score(x.astype(float)), atol=1e-5)


def test_rarity_is_the_logarithm_of_the_share_farther_out() -> None:
    rng = np.random.default_rng(0)
    z = np.column_stack([rng.normal(size=20_000), (rng.random(20_000) < 0.01) * 1.0])
    made = fit_marginal(z)
    found = made(np.array([[0.0, 0.0], [2.0, 1.0], [-2.0, 0.5], [30.0, 2.0], [np.nan, -1.0]]))
    assert found[:3, 0] == pytest.approx([0.0, -np.log(2 * 0.02275), -np.log(2 * 0.02275)], abs=0.15)
    assert found[3, 0] == pytest.approx(np.log(20_001) + np.log1p(30 - z[:, 0].max()), abs=0.01)
    assert found[:2, 1] == pytest.approx([0.0, -np.log(2 * z[:, 1].mean())], abs=1e-6)
    assert 0.0 < found[2, 1] < found[1, 1] < found[3, 1]
    assert np.isnan(found[4, 0])
    assert found[4, 1] > 9.0  # below all that was ever seen
    g = Graph("rarity")
    g.output(made.add(g, g.input("z", np.float32, ["batch", 2])), "y", np.float32, ["batch", 2])
    sample = rng.normal(0, 3, (500, 2)).astype(np.float32)
    np.testing.assert_allclose(run_graph(to_bytes(g.model()), z=sample)["y"], made(sample.astype(float)), atol=1e-4)


def test_drifting_rows_make_rarity_less_telling() -> None:
    rng = np.random.default_rng(0)
    steady = rng.normal(size=(2000, 1))
    drifting = steady + np.linspace(0, 10, 2000)[:, None]
    # the first and the last quarter lie outside of the others
    assert np.nanmean(held_out_rarity(drifting)) > 2 * np.nanmean(held_out_rarity(steady))


def test_hold_falls_from_under_the_threshold() -> None:
    assert hold(np.array([3.0, 0.1, 0.1, 0.0, 1.2])).tolist() == pytest.approx([3.0, 0.98, 0.98, 0.98, 1.2])
    assert hold(np.array([0.5, 0.0, 0.0])).tolist() == pytest.approx([0.5, 0.45, 0.405])


# -- the whole


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Grid, Recipe, bytes]:
    """Three units of different levels, four fields: two related, a word, a constant; values missing."""
    rng = np.random.default_rng(3)
    units = {}
    for number in range(3):
        a = waves(900, number) + 20.0 * number
        units[f"u{number}"] = {
            "a": np.where(rng.random(900) < 0.05, np.nan, a),
            "b": 3.0 * a + rng.normal(0, 0.1, 900),
            "mode": np.where(rng.random(900) < 0.02, "odd", "usual"),
            "c": np.full(900, 4.0),
        }
    definition = stream(
        Field(name="a"),
        Field(name="b"),
        Field(name="mode", kind="categorical", vocabulary=("usual", "odd", "never")),
        Field(name="c", kind="constant"),
    )
    frame = table(units).with_columns(pl.col("a").fill_nan(None))
    grid = grid_of(definition, frame, tmp_path_factory.mktemp("mixed"))
    recipe = fit_recipe(grid, grid.ends())
    return grid, recipe, build(recipe, definition.window)


def reference(grid: Grid, recipe: Recipe) -> np.ndarray:
    """Scores of the first entity by a plain loop over its rows."""
    ends = grid.ends()
    ends = ends[grid.entity[ends] == 0]
    z = recipe.channels.apply(grid.values) - recipe.season(grid.ts)
    past = lagged(z, ends, recipe.regression.lags, recipe.reach)
    b, power, rarity, scores = recipe.between, recipe.power.astype(float), 0.0, []
    for row, end in enumerate(ends):
        last = z[end]
        if not row:
            window = z[end - grid.stream.window + 1 : end + 1]
            known = np.isfinite(window).sum(axis=0)
            mean = np.nan_to_num(window).sum(axis=0) / np.maximum(known, 1)
            weight = known * b / (known * b + 1)
            level = recipe.level + weight * (mean - recipe.level)
            fast, anchor, count = level, recipe.anchor + weight * (mean - recipe.anchor), float(known.max())
        gain = b / ((count + 1) * b + 1)
        fast = fast + np.nan_to_num(np.maximum(memory.MEAN_RATES[0], gain) * (last - fast))
        residual = last - level - recipe.regression((past[row] - level)[None])[0]
        unusual = np.abs(np.concatenate([residual, last - level, np.where(np.isnan(last), np.nan, fast - level)]))
        base = power + memory.FLOOR**8
        rare = join_fields(recipe.marginal((last - anchor)[None]))[0]  # type: ignore[misc]
        rarity += memory.RARITY_RATE * (rare - rarity)
        kinds = join_fields((unusual / base ** (1 / 8)).reshape(3, -1))
        parts = [tail.score(kind) for tail, kind in zip(recipe.tails, kinds, strict=True)]
        scores.append(max(*parts, recipe.rarity.score(np.array(rarity))))  # type: ignore[union-attr]
        grown = memory.NORM_RATE * (np.minimum(unusual**8, memory.WINSOR**8 * base) - power)
        power = power + np.nan_to_num(grown)
        level = level + np.nan_to_num(np.maximum(memory.LEVEL_RATE, gain) * (last - level))
        rate = np.maximum(memory.ANCHOR_RATE, gain) if count < memory.ANCHOR_ROWS else memory.ANCHOR_RATE
        anchor = anchor + np.nan_to_num(rate * np.clip(last - anchor, -memory.ANCHOR_LIMIT, memory.ANCHOR_LIMIT))
        count += 1
    return hold(np.array(scores))


def test_graph_and_numpy_agree(mixed: tuple[Grid, Recipe, bytes]) -> None:
    grid, recipe, model = mixed
    ends = grid.ends()
    scores = run_sequence(model, grid, ends, ["score"], state=state_size(4))["score"][grid.entity[ends] == 0]
    np.testing.assert_allclose(scores, reference(grid, recipe), rtol=2e-3, atol=2e-3)
    assert scores.max() > 0.3


def test_entities_of_other_levels_begin_at_their_own(mixed: tuple[Grid, Recipe, bytes]) -> None:
    _, recipe, model = mixed
    assert recipe.between[0] > 1.0
    window = np.tile(np.array([105.0, 315.0, 0.0, 4.0], np.float32), (4, 12, 1))
    window[:, :, 0] += np.random.default_rng(0).normal(0, 0.1, (4, 12))
    time = np.tile(START + 300.0 * np.arange(12), (4, 1))
    found = run_graph(model, window=window, time=time, state_in=np.full((4, state_size(4)), np.nan, np.float32))
    assert (np.abs(found["expected"][:, 0] - 105.0) < 10.0).all()


def test_explanation_is_a_share_and_finds_the_field(mixed: tuple[Grid, Recipe, bytes]) -> None:
    grid, recipe, model = mixed
    ends = grid.ends()[200:204]
    window, time = grid.windows(ends)
    state = np.full((4, state_size(4)), np.nan, np.float32)
    window[0, -1, 3] = 40.0
    window[1, -1, 2] = 2.0
    window[2, -1] = np.nan
    inputs = {"window": window, "time": time, "state_in": state}
    share = run_graph(build(recipe, 12, explain=True), **inputs)["contribution"]
    assert share[0].argmax() == 3
    assert share[1].argmax() == 2
    assert share[2].tolist() == [0.0] * 4
    assert share[[0, 1, 3]].sum(axis=1) == pytest.approx(np.ones(3), abs=1e-5)
    found = run_graph(model, **inputs)
    assert found["score"][0] > 1.0
    assert found["expected"][0, 3] == pytest.approx(4.0, abs=0.05)
    assert found["expected"][:, 2].tolist() == [0.0] * 4
    assert np.isfinite(found["score"]).all()


def test_a_row_without_values_changes_only_what_is_held(mixed: tuple[Grid, Recipe, bytes]) -> None:
    grid, _, model = mixed
    window, time = grid.windows(grid.ends()[300:304])
    state = np.full((4, state_size(4)), np.nan, np.float32)
    known = run_graph(model, window=window, time=time, state_in=state)["state_out"]
    window[:, -1] = np.nan
    after = run_graph(model, window=window, time=time, state_in=known)["state_out"]
    np.testing.assert_array_equal(after[:, :-3], known[:, :-3])
    np.testing.assert_array_equal(after[:, -2], known[:, -2] + 1)
    np.testing.assert_allclose(after[:, -1], 0.9 * known[:, -1], rtol=1e-6)


def test_bits_do_not_depend_on_the_batch(mixed: tuple[Grid, Recipe, bytes]) -> None:
    grid, _, model = mixed
    ends = grid.ends()[::29][:64]
    window, time = grid.windows(ends)
    state = np.random.default_rng(0).normal(1.0, 0.5, (len(ends), state_size(4))).astype(np.float32)
    whole = run_graph(model, window=window, time=time, state_in=state)
    for part in (slice(0, 1), slice(5, 7), slice(3, 10), slice(60, 64)):
        inputs = {"window": window[part], "time": time[part], "state_in": state[part]}
        found = run_graph(model, **dict(padded(inputs)))
        for name, array in whole.items():
            assert found[name][: len(window[part])].tobytes() == array[part].tobytes(), name


def test_many_rows_are_cut_to_the_newest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = np.random.default_rng(0).normal(0, 1, 300), np.random.default_rng(1).normal(50, 1, 300)
    grid = grid_of(stream(Field(name="a")), table({"u": {"a": np.concatenate([old, new])}}), tmp_path)
    monkeypatch.setattr("dwcp_stream.training.anomaly.recipe.MAX_VALUES", 250)
    assert fit_recipe(grid, grid.ends()).channels.center[0] == pytest.approx(50.0, abs=0.5)


def test_a_field_without_training_values_counts_for_nothing(tmp_path: Path) -> None:
    frame = table({"u": {"a": waves(300, 0), "b": np.full(300, np.nan)}}).with_columns(pl.col("b").fill_nan(None))
    grid = grid_of(stream(Field(name="a"), Field(name="b")), frame, tmp_path)
    model = build(fit_recipe(grid, grid.ends()), 12)
    window, time = grid.windows(grid.ends()[100:104])
    state = np.full((4, state_size(2)), np.nan, np.float32)
    plain = run_graph(model, window=window, time=time, state_in=state)
    window[:, :, 1] = 1e6
    found = run_graph(model, window=window, time=time, state_in=state)
    assert (found["score"] <= plain["score"] + 1e-6).all()
    assert np.isnan(found["expected"][:, 1]).all()
    assert np.isfinite(found["expected"][:, 0]).all()


def test_split_is_by_time_and_by_entity(tmp_path: Path) -> None:
    frame = table({f"u{i}": {"a": waves(100, i)} for i in range(5)})
    grid = grid_of(stream(Field(name="a")), frame, tmp_path)
    fitted, test = split(grid, grid.ends())
    assert not set(fitted) & set(test)
    assert set(grid.entity[fitted]) == {0, 1, 2, 3}
    assert (grid.entity[test] == 4).sum() == 100
    assert max(grid.ts[fitted]) < min(grid.ts[test][grid.entity[test] == 0])


def test_labels_judge_and_choose_nothing(tmp_path: Path) -> None:
    values = waves(1500, 0)
    values[1400:1410] += 4.0
    label = np.zeros(1500, np.int64)
    label[1400:1410] = 1
    frame = table({"u": {"a": values, "label": label}})
    with_label = train_anomaly(job(stream(Field(name="a"), label="label"), frame, tmp_path, seed=1))
    without = train_anomaly(job(stream(Field(name="a")), frame.drop("label"), tmp_path, seed=2))
    assert with_label.model == without.model
    assert with_label.metrics["detection"]["model"]["found"] == 1
    assert with_label.metrics["vus_pr"]["model"] > with_label.metrics["labelled"]
    assert set(with_label.metrics["vus_pr"]) == {"model", "EWMA z over 3", "PCA, mean of 5 rows"}
    assert without.metrics["labelled"] is None
    assert "no labels" in without.report


CASES = {
    "univariate": {"v": waves(400, 1)},
    "few rows": {"v": waves(60, 1)},
    "constant": {"v": np.full(300, 3.0)},
    "zeros": {"v": np.zeros(300)},
    "huge": {"v": 1e30 * waves(300, 2)},
    "tiny": {"v": 1e-25 * waves(300, 2)},
    "negative": {"v": -1e6 + waves(300, 2)},
    "mostly missing": {"v": np.where(np.arange(300) % 5, np.nan, waves(300, 3))},
    "one empty": {"v": waves(300, 1), "w": np.full(300, np.nan)},
    "wide": {f"f{i}": waves(300, i) for i in range(CROSS_FIELDS + 6)},
}


@pytest.mark.parametrize("case", CASES)
def test_any_numbers_make_a_version_that_verifies(case: str, tmp_path: Path) -> None:
    columns = CASES[case]
    definition = stream(*(Field(name=name) for name in columns))
    frame = table({"u": columns}).with_columns(pl.selectors.float().fill_nan(None))
    one = job(definition, frame, tmp_path)
    repository = ModelRepository(tmp_path / "models")
    publish(train_anomaly(one), one, repository)
    model = repository.load("whatever", 1).bind(definition)
    window = np.full((3, 12, len(columns)), np.nan, np.float32)
    window[1:] = frame.select(list(columns)).to_numpy()[:12]
    window[2, -1] = 3e38
    found = model.score(window, np.tile(START + 300.0 * np.arange(12), (3, 1)))
    assert np.isfinite(found.score).all()
    assert found.state_out is not None
    assert np.isfinite(found.state_out).all()
    assert found.score[2] >= found.score[1] * 0.999


def test_counters_and_irregular_times(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    frame = table({"u": {"total": np.cumsum(rng.poisson(100, 500)).astype(float)}}).with_columns(
        ts=pl.Series(START + np.cumsum(rng.exponential(60, 500)))
    )
    definition = stream(Field(name="total", kind="counter"), step="irregular", window=1)
    one = job(definition, frame, tmp_path)
    candidate = train_anomaly(one)
    publish(candidate, one, ModelRepository(tmp_path / "models"))
    assert candidate.window == 1


def test_too_little_is_refused_with_what_to_do(tmp_path: Path) -> None:
    definition = stream(Field(name="a"))
    with pytest.raises(PayloadError, match="at least 40 are needed") as few:
        train_anomaly(job(definition, table({"u": {"a": waves(30, 0)}}), tmp_path))
    assert "longer history" in str(few.value.remedy)
    empty = table({"u": {"a": np.full(100, np.nan)}}).with_columns(pl.col("a").fill_nan(None))
    with pytest.raises(PayloadError, match="no field has a value"):
        train_anomaly(job(definition, empty, tmp_path))


def test_a_seed_and_another_give_the_same_bytes(tmp_path: Path) -> None:
    one = job(stream(Field(name="a")), table({"u": {"a": waves(300, 0)}}), tmp_path)
    first = train_anomaly(one)
    assert train_anomaly(replace(one, seed=5)).model == first.model
    assert first.explain is not None


def test_train_and_backtest_by_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "streams").mkdir()
    (tmp_path / "streams" / "plant.toml").write_text(
        'name = "plant"\ntopic = "t.plant"\nentity = ["unit"]\nstep = 300.0\nwindow = 30\nmin_periods = 10\n'
        '[[fields]]\nname = "a"\n[[fields]]\nname = "b"\n[[models]]\nname = "plant-watch"\ntask = "anomaly"\n'
    )
    monkeypatch.setenv("DWCP_STREAMS_DIR", str(tmp_path / "streams"))
    columns = {"a": waves(900, 1), "b": waves(900, 2)}
    columns["a"][800:804] += 6.0
    whole = table({"u": columns})
    whole[:600].write_csv(tmp_path / "train.csv")
    whole[600:].write_csv(tmp_path / "test.csv")
    models, scores = tmp_path / "models", tmp_path / "scores.csv"
    assert run(["train", "plant", "--data", str(tmp_path / "train.csv"), "--out", str(models), "--json"]) == 0
    trained = json.loads(capsys.readouterr().out)["trained"][0]
    assert trained["champion"]
    test = str(tmp_path / "test.csv")
    words = ["backtest", test, "--stream", "plant", "--models", str(models), "--scores", str(scores), "--json"]
    assert run(words) == 0
    report = json.loads(capsys.readouterr().out)
    firing = next(alert for alert in report["alerts"] if alert["action"] == "firing")
    assert firing["annotations"]["fields"].split(", ")[0] == "a"
    found = pl.read_csv(scores)
    assert found.columns == ["entity", "ts", "model", "version", "score", "state"]
    assert found.height == 300 - 9  # each sample from the tenth on
    assert found["version"].unique().to_list() == [1]
    best = found.sort("score", descending=True)[0]
    assert START + 300 * 800 <= best["ts"][0] <= START + 300 * 804
    assert best["score"][0] > 1.0
    assert found.filter(pl.col("ts") < START + 300 * 799)["score"].max() < 1.0


def test_evaluate_carries_the_state(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "streams").mkdir()
    (tmp_path / "streams" / "plant.toml").write_text(
        'name = "plant"\ntopic = "t.plant"\nentity = ["unit"]\nstep = 300.0\nwindow = 12\n'
        '[[fields]]\nname = "a"\n[[models]]\nname = "plant-watch"\ntask = "anomaly"\nlabel = "bad"\n'
    )
    monkeypatch.setenv("DWCP_STREAMS_DIR", str(tmp_path / "streams"))
    monkeypatch.setenv("DWCP_MODELS_DIR", str(tmp_path / "models"))
    values, bad = waves(700, 1), np.zeros(700, np.int64)
    values[600:605] += 5.0
    bad[600:605] = 1
    path, scores = tmp_path / "rows.csv", tmp_path / "scores.csv"
    table({"u": {"a": values, "bad": bad}}).write_csv(path)
    assert run(["train", "plant", "--data", str(path), "--json"]) == 0
    capsys.readouterr()
    assert run(["evaluate", "plant", "--data", str(path), "--json"]) == 0
    judged = json.loads(capsys.readouterr().out)["models"][0]["detectors"]
    assert set(judged) == {"plant-watch", "EWMA z over 3"}
    assert judged["plant-watch"]["found"] == 1
    assert run(["backtest", str(path), "--stream", "plant", "--scores", str(scores), "--json"]) == 0
    over = pl.read_csv(scores)["score"].to_numpy() > 1.0
    assert judged["plant-watch"]["quiet_in_alarm"] == pytest.approx(over[bad == 0].mean(), abs=1e-9)


def test_scores_of_a_file_have_the_samples_own_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "streams").mkdir()
    (tmp_path / "streams" / "plant.toml").write_text(
        'name = "plant"\ntopic = "t.plant"\nentity = ["unit"]\nstep = 300.0\nwindow = 12\n'
        '[[fields]]\nname = "a"\n[[models]]\nname = "plant-watch"\ntask = "anomaly"\n'
    )
    monkeypatch.setenv("DWCP_STREAMS_DIR", str(tmp_path / "streams"))
    late = np.random.default_rng(0).uniform(0, 60, 200)  # off the grid, but in order and each in a row of its own
    frame = table({"u": {"a": waves(200, 1)}}).with_columns(ts=pl.col("ts") + pl.Series(late).round(3))
    path, models, scores = tmp_path / "rows.csv", str(tmp_path / "models"), tmp_path / "scores.csv"
    frame.write_csv(path)
    assert run(["train", "plant", "--data", str(path), "--out", models, "--json"]) == 0
    words = ["backtest", str(path), "--stream", "plant", "--models", models, "--scores", str(scores), "--json"]
    assert run(words) == 0
    np.testing.assert_allclose(pl.read_csv(scores)["ts"], frame["ts"], atol=1e-6)


def test_simple_rules_find_a_jump() -> None:
    z = np.random.default_rng(0).normal(size=(300, 2))
    z[200, 1] += 25.0
    entity = np.zeros(300, np.int64)
    assert int(ewma_z(z, entity).argmax()) == 200
    assert 200 <= int(pca_mean(z[:150], z, entity).argmax()) < 205

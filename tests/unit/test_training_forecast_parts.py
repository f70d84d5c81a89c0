"""Parts of the default forecaster: regression, comparison, plan, split, and what the graph computes."""

import msgspec
import numpy as np
import polars as pl
import pytest

from dwcp_stream.errors import PayloadError
from dwcp_stream.registry.operators import parse_graph
from dwcp_stream.scoring.batching import run_batched
from dwcp_stream.scoring.session import make_session
from dwcp_stream.streams.defaults import completed
from dwcp_stream.streams.definition import Field, ModelBinding, StreamDefinition
from dwcp_stream.training.dataset import Grid, load_grid
from dwcp_stream.training.forecast import network, plan
from dwcp_stream.training.forecast.compare import diebold_mariano, holm, pooled_skill
from dwcp_stream.training.forecast.features import LIMIT, features_model
from dwcp_stream.training.forecast.graph import Parts, build
from dwcp_stream.training.forecast.judge import together
from dwcp_stream.training.forecast.layout import Season, Transform
from dwcp_stream.training.forecast.regression import fit_quantile
from dwcp_stream.training.forecast.rows import CUTS, add_cold, make_table, split
from dwcp_stream.training.graph import Graph, to_bytes
from dwcp_stream.training.sequence import in_order
from tests.unit.forecast_cases import STEP, Runner, daily, flat, layout, start, table, times, weights

MODEL = ModelBinding(name="m", task="forecast", targets=("a",), horizons=(1, 3))


def stream(*fields: Field, **changes: object) -> StreamDefinition:
    keys = {"name": "s", "topic": "t", "entity": ("e",), "step": STEP, "window": 12, "fields": fields, **changes}
    return StreamDefinition(**keys)  # type: ignore[arg-type]


def grid_of(tmp_path, defined: StreamDefinition, entities: dict[str, dict[str, np.ndarray]]) -> Grid:
    parts = [
        table({"e": [name] * len(ts), **{k: v for k, v in columns.items() if k != "ts"}}, ts)
        for name, columns in entities.items()
        for ts in [columns.get("ts", times(len(next(iter(columns.values())))))]
    ]
    pl.concat(parts).write_csv(tmp_path / "d.csv")
    return load_grid(defined, [tmp_path / "d.csv"])


# --- regression and comparison


def test_median_regression_ignores_outliers_that_move_least_squares() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(800, 2))
    y = X @ [2.0, -1.0] + 0.5 + rng.normal(0, 0.1, 800)
    y[:80] += 50.0
    found = fit_quantile(X, y, ridge=1e-6)
    np.testing.assert_allclose(found, [2.0, -1.0, 0.5], atol=0.05)
    assert abs(np.linalg.lstsq(np.c_[X, np.ones(800)], y, rcond=None)[0][2] - 0.5) > 3


def test_quantile_regression_leaves_its_share_below() -> None:
    rng = np.random.default_rng(1)
    X = rng.normal(size=(4000, 1))
    y = X[:, 0] + rng.exponential(1.0, 4000)
    for level in (0.1, 0.9):
        made = np.c_[X, np.ones(4000)] @ fit_quantile(X, y, level=level, ridge=1e-6)
        assert (y < made).mean() == pytest.approx(level, abs=0.02)


def test_a_constant_target_gives_a_constant() -> None:
    X = np.random.default_rng(2).normal(size=(50, 3))
    np.testing.assert_allclose(fit_quantile(X, np.full(50, 3.0)), [0, 0, 0, 3], atol=1e-6)
    assert not fit_quantile(X, np.zeros(50)).any()


def test_diebold_mariano_finds_the_better_forecast_and_no_other() -> None:
    rng = np.random.default_rng(3)
    noise = rng.normal(size=600)
    good, bad = np.abs(noise), np.abs(noise + rng.normal(0, 0.7, 600))
    statistic, p = diebold_mariano(good, bad, 1)
    assert statistic < -3
    assert p < 0.01
    assert diebold_mariano(bad, good, 1)[0] == pytest.approx(-statistic)
    assert diebold_mariano(good, good, 1) == (0.0, 1.0)
    p_values = [diebold_mariano(*np.abs(rng.normal(size=(2, 400))), 6)[1] for _ in range(200)]
    assert 0.01 < np.mean(np.array(p_values) < 0.05) < 0.12


def test_holm_on_a_known_case() -> None:
    np.testing.assert_allclose(holm(np.array([0.01, 0.04, 0.03, 0.005])), [0.03, 0.06, 0.06, 0.02])


def test_pooled_skill_is_that_of_ratios() -> None:
    middle, low, high = pooled_skill(np.array([8.0, 0.9, 70.0]), np.array([10.0, 1.0, 100.0]))
    assert middle == pytest.approx(1 - (0.8 * 0.9 * 0.7) ** (1 / 3))
    assert low < middle < high


# --- plan and split


def test_plan_chooses_logarithms_covariates_and_seasons(tmp_path) -> None:
    rng = np.random.default_rng(4)
    n = 24 * 12
    driver = rng.normal(0, 1, n)
    spread = np.exp(daily(12, noise=0.1, level=0.0) / 20)
    a = spread * np.exp(0.3 * np.r_[0.0, np.cumsum(driver)[:-1]] / 10)
    defined = stream(Field(name="a"), Field(name="x"), Field(name="flat"), Field(name="w", vocabulary=("p", "q")))
    columns = {"a": a, "x": np.cumsum(driver), "flat": np.ones(n), "w": np.array(["p"] * n)}
    grid = grid_of(tmp_path, defined, {"one": columns})
    shape = plan.plan(grid, MODEL, grid.ends())
    assert shape.transforms[0].log
    jumpy = grid_of(tmp_path, stream(Field(name="a")), {"one": {"a": np.exp(rng.normal(0, 1, n))}})
    assert not plan.plan(jumpy, MODEL, jumpy.ends()).transforms[0].log
    assert shape.fields[0] == "a"
    assert "w" not in shape.fields
    assert "flat" not in shape.fields
    assert "x" in [shape.fields[i] for i in shape.covariates]
    assert [tuple(s.seconds for s in c) for c in plan.season_choices(shape, grid, grid.ends())] == [(), (86_400.0,)]
    assert np.ptp(plan.usual_courses(shape.with_seasons((Season(86_400.0, 24),)), grid, grid.ends())[0]) > 1.0


def test_a_period_of_its_own_is_found(tmp_path) -> None:
    rng = np.random.default_rng(5)
    a = 50 + 5 * np.sin(2 * np.pi * np.arange(900) / 50) + rng.normal(0, 1, 900)
    grid = grid_of(tmp_path, stream(Field(name="a")), {"one": {"a": a}})
    shape = plan.plan(grid, MODEL, grid.ends())
    assert plan.own_period(grid, grid.ends(), shape) == pytest.approx(50, abs=1)
    noise = grid_of(tmp_path, stream(Field(name="a")), {"one": {"a": rng.normal(size=900)}})
    assert plan.own_period(noise, noise.ends(), shape) is None


def test_targets_and_horizons_may_be_left_out() -> None:
    defined = stream(Field(name="a"), Field(name="c", kind="counter"), Field(name="w", vocabulary=("p",)))
    for binding, horizons in ((ModelBinding(task="forecast"), (1,)), (MODEL, (1, 3))):
        (filled,) = completed(msgspec.structs.replace(defined, models=(binding,)), says_models=True).models
        assert (filled.targets, filled.horizons) == (("a",), horizons)


def test_targets_without_numbers_are_refused(tmp_path) -> None:
    defined = stream(Field(name="a"), Field(name="w", vocabulary=("p", "q")))
    columns = {"a": np.full(60, np.nan), "w": np.array(["p", "q"] * 30)}
    grid = grid_of(tmp_path, defined, {"one": columns})
    with pytest.raises(PayloadError, match="'a' has no value"):
        plan.plan(grid, MODEL, grid.ends())
    with pytest.raises(PayloadError, match="'w' is a word"):
        plan.plan(grid, ModelBinding(name="m", task="forecast", targets=("w",), horizons=(1,)), grid.ends())


def test_split_lets_no_target_cross_a_cut_and_no_held_out_entity_train(tmp_path) -> None:
    grid = grid_of(tmp_path, stream(Field(name="a")), {f"e{i}": {"a": daily(6, i)} for i in range(5)})
    parted = split(grid, 3, 1, 1)
    entity, ts = grid.entity[parted.rows], grid.ts[parted.rows]
    assert set(entity[parted.unknown]) == {4}
    assert 4 not in entity[parted.train | parted.valid | parted.test]
    for e in range(4):
        own = entity == e
        first = ts[own].min() + CUTS[0] * np.ptp(ts[own])
        assert ts[own & parted.train].max() + 3 * STEP < first <= ts[own & parted.valid].min()
        assert ts[own & parted.valid].max() + 3 * STEP < ts[own & parted.test].min()


def test_too_short_histories_are_refused(tmp_path) -> None:
    grid = grid_of(tmp_path, stream(Field(name="a")), {"one": {"a": daily(2)}})
    with pytest.raises(PayloadError, match="too few") as caught:
        split(grid, 3, 1, 1)
    assert "longer histories" in str(caught.value)


def test_rows_between_strides_are_left_out(tmp_path) -> None:
    grid = grid_of(tmp_path, stream(Field(name="a")), {"one": {"a": np.arange(30.0)}, "two": {"a": np.arange(25.0)}})
    rows = in_order(grid, grid.ends(), 4)
    assert grid.values[rows, 0].tolist() == [0, 4, 8, 12, 16, 20, 24, 28, 0, 4, 8, 12, 16, 20, 24]


# --- the graph


def test_features_are_what_they_say() -> None:
    shape = layout(1, seasons=())
    session = make_session(features_model(shape, ()))
    rng = np.random.default_rng(6)
    window = rng.normal(50, 3, (4, 10, 2)).astype(np.float32)
    time = np.repeat(times(10)[None], 4, axis=0)
    state = np.full((4, shape.memory), np.nan, np.float32)
    common, origin, scale = session.run(
        ["common", "origin", "scale"], {"window": window, "time": time, "state_in": state}
    )
    x = window[0, :, 0].astype(np.float64)
    assert origin[0, 0] == window[0, -1, 0]
    steps = np.abs(np.diff(x))
    first = steps.mean()
    assert scale[0, 0] == pytest.approx(first + (steps[-1] - first) / 8, rel=1e-5)
    away = (x - x[-1]) / scale[0, 0]
    expected = [*away[-2::-1], *(np.median(away[-k:]) for k in (3, 5, 9)), away.mean(), 0.0]
    np.testing.assert_allclose(common[0, 0, : len(expected)], np.clip(expected, -LIMIT, LIMIT), atol=1e-4)
    z = window[0, :, 1]
    assert common[0, 0, -2] == pytest.approx((z[-1] - z.mean()) / np.abs(z - z.mean()).mean(), rel=1e-3)

    shifted = window * np.float32(1024.0)
    again = session.run(["common"], {"window": shifted, "time": time, "state_in": state})[0]
    np.testing.assert_allclose(again, common, atol=1e-4)


def test_gaps_are_bridged_and_an_empty_window_says_nothing() -> None:
    shape = layout(1)
    runner = Runner(shape, Parts(shape, flat(shape), weights(shape), start(shape)))
    history = np.stack([daily(2), daily(2, 1)], axis=1)
    history[20:23, 0] = np.nan
    made = runner(history, times(len(history)))
    assert np.isfinite(made["quantiles"]).all()
    empty = Runner(shape, Parts(shape, flat(shape), weights(shape), start(shape)))
    nothing = empty(np.full((12, 2), np.nan), times(12))
    assert np.isnan(nothing["quantiles"]).all()
    assert np.isfinite(nothing["state_out"]).all()
    assert (nothing["score"] == 0).all()


def test_network_parity() -> None:
    shape = layout(2)
    drawn = weights(shape)
    rng = np.random.default_rng(7)
    common = rng.normal(size=(4, 2, shape.common)).astype(np.float32)
    common[..., -1] = [[0, 1], [1, 0], [0, 0], [1, 1]]  # whose season has not been seen
    seasonal = rng.normal(size=(4, 2, 2, shape.seasonal)).astype(np.float32)
    g = Graph("middle")
    names = [g.input("c", np.float32, ["b", *common.shape[1:]]), g.input("s", np.float32, ["b", *seasonal.shape[1:]])]
    for value, name in zip(network.export(g, *names, drawn, shape), "mlu", strict=True):
        g.output(value, name, np.float32, ["b", 2, 2])
    served = make_session(to_bytes(g.model())).run(list("mlu"), {"c": common, "s": seasonal})
    trained = network.predict(drawn, network.flatten(common, seasonal), shape)
    for mine, its in zip(served, trained, strict=True):
        np.testing.assert_allclose(mine.transpose(0, 2, 1), its, atol=2e-5)
    ungated = network.Weights(drawn.mean, drawn.spread, drawn.linear, drawn.network, 1 - drawn.gate)
    other = network.predict(ungated, network.flatten(common, seasonal), shape)[0]
    assert np.abs(other - trained[0]).max() > 1e-3


def test_seasons_hold_the_value_of_the_day_before() -> None:
    shape = layout(1)
    session = make_session(features_model(shape, flat(shape)))
    values = daily(3, noise=0.0)
    window_rows, ts = shape.window, times(len(values))
    state = np.full((4, shape.memory), np.nan, np.float32)
    for end in range(window_rows, len(values) + 1):
        window = np.repeat(np.stack([values, values], axis=1)[None, end - window_rows : end], 4, axis=0)
        feed = {"window": window.astype(np.float32), "time": np.repeat(ts[None, end - window_rows : end], 4, axis=0)}
        common, seasonal, scale, state = session.run(
            ["common", "seasonal", "scale", "state_out"], {**feed, "state_in": state}
        )
    # two whole days on, the value of a day before is the value itself, and tomorrow's move is yesterday's
    assert common[0, 0, shape.lags + len(shape.medians) + 2] == pytest.approx(0.0, abs=1e-3)
    assert common[0, 0, -1] == 0.0
    moves = [(values[len(values) - 25 + h] - values[len(values) - 25]) / scale[0, 0] for h in shape.horizons]
    np.testing.assert_allclose(seasonal[0, 0, :, 0], moves, atol=1e-3)


def test_an_unseen_entity_starts_from_the_usual_course() -> None:
    shape = layout(1)
    course = (np.sin(2 * np.pi * np.arange(24) / 24)[None]).astype(np.float32)
    session = make_session(features_model(shape, (course,)))
    values = np.full((4, 10, 2), 7.0, np.float32) + np.arange(10, dtype=np.float32)[None, :, None]
    state = np.full((4, shape.memory), np.nan, np.float32)
    feed = {"window": values, "time": np.repeat(times(10)[None], 4, axis=0), "state_in": state}
    seasonal, scale, common = session.run(["seasonal", "scale", "common"], feed)
    assert common[0, 0, -1] == 1.0
    expected = [(course[0, 9 + h] - course[0, 9]) / scale[0, 0] for h in shape.horizons]
    np.testing.assert_allclose(seasonal[0, 0, :, 0], expected, atol=1e-4)


def test_a_model_that_is_worse_than_the_last_value_is_not_used() -> None:
    shape = layout(1, seasons=(), horizons=(1, 3))
    bad = weights(shape, noise=0.0)
    bad.linear[..., -1] = 6.0  # always far above
    history = np.stack([daily(12, noise=2.0)] * 2, axis=1)
    ts = times(len(history))
    made = Runner(shape, Parts(shape, (), bad, start(shape)))(history, ts)
    q50, last = made["quantiles"][:, :, 0, 1], history[shape.window - 1 :, 0]
    assert (q50[0] > last[0] + 1).all()
    np.testing.assert_allclose(q50[-20:], np.repeat(last[-20:, None], 2, axis=1), rtol=1e-5)
    trusted = Runner(shape, Parts(shape, (), bad, start(shape, edge=1.0)))(history, ts)["quantiles"][0, :, 0, 1]
    np.testing.assert_allclose(trusted, [last[0]] * 2, rtol=1e-5)  # validation may say so from the beginning


def test_intervals_come_to_cover_what_they_promise() -> None:
    shape = layout(1, seasons=())
    narrow = weights(shape, noise=0.0)
    narrow.network["last"]["b"] = narrow.network["last"]["b"] - 1.5
    rng = np.random.default_rng(8)
    walk = 500 + np.cumsum(rng.normal(0, 1, 2500))
    history = np.stack([walk, walk], axis=1)
    made = Runner(shape, Parts(shape, (), narrow, start(shape)))(history, times(len(history)))["quantiles"][..., 0, :]
    for i, horizon in enumerate(shape.horizons):
        actual = walk[shape.window - 1 + horizon :]
        q = made[: len(actual), i]
        inside = (actual >= q[:, 0]) & (actual <= q[:, 2])
        assert inside[:40].mean() < 0.55
        assert inside[-1200:].mean() == pytest.approx(0.8, abs=0.03)


def test_several_targets_off_tell_more_than_one_far_off_and_one_alone_is_itself() -> None:
    def score(residual: np.ndarray) -> np.ndarray:
        shape = layout(residual.shape[2], horizons=tuple(range(1, residual.shape[1] + 1)))
        g = Graph("together")
        g.output(
            together(g, g.input("r", np.float32, ["batch", *residual.shape[1:]]), shape), "s", np.float32, ["batch"]
        )
        return np.asarray(make_session(to_bytes(g.model())).run(None, {"r": residual})[0])

    alone = np.array([[[0.0]], [[0.5]], [[4.0]], [[50.0]]], np.float32)
    np.testing.assert_allclose(score(alone), alone[:, 0, 0], rtol=1e-4, atol=1e-3)
    four = np.array([[[4.0, 4.0, 4.0, 0.0]], [[10.0, 0.0, 0.0, 0.0]], [[0.0, 0.0, 10.0, 0.0]]], np.float32)
    found = score(four)
    expected = np.sqrt(3 * (np.exp(np.mean([np.log1p(100 / 3), 0, 0])) - 1))
    np.testing.assert_allclose(found, [4.0, expected, expected], rtol=1e-4)
    assert found[0] > found[1]
    horizons = np.array([[[0.0], [3.0]], [[2.0], [1.0]]], np.float32)
    np.testing.assert_allclose(score(horizons), [3.0, 2.0], rtol=1e-4)


def test_the_score_is_the_surprise_of_the_newest_row() -> None:
    shape = layout(1, seasons=())
    parts = Parts(shape, (), weights(shape, noise=0.0), start(shape), threshold=4.0)
    rng = np.random.default_rng(9)
    values = 50 + np.cumsum(rng.normal(0, 1, 300))
    values[250:] += 60
    made = Runner(shape, parts)(np.stack([values] * 2, axis=1), times(300))
    score = made["score"]
    assert score[0] == 0.0
    jump = 250 - shape.window + 1
    assert score[jump] > 2.0
    assert np.median(score) < 0.5
    assert made["expected"][jump, 0] == pytest.approx(values[249], abs=0.01)
    assert np.isnan(made["expected"][jump, 1])


def test_logarithms_and_ranges_bound_what_is_forecast() -> None:
    shape = layout(1, seasons=(), transforms=(Transform(True, 0.01, 0.0, 120.0),))
    made = Runner(shape, Parts(shape, (), weights(shape, noise=0.3), start(shape)))(
        np.stack([np.maximum(daily(4, noise=5.0), 1e-3)] * 2, axis=1), times(96)
    )["quantiles"]
    assert (made > 0).all()
    assert (made <= 120.0).all()
    assert (np.diff(made, axis=-1) >= 0).all()


@pytest.mark.parametrize("irregular", [False, True])
def test_results_do_not_depend_on_the_batch(irregular: bool) -> None:
    shape = layout(3, transforms=(Transform(True, 0.1, 0.0, None),) + (Transform(False, 0, None, None),) * 2,
                   irregular=irregular)  # fmt: skip
    model = build(Parts(shape, flat(shape), weights(shape), start(shape), 3.0))
    parse_graph(model, where="test")
    session = make_session(model)
    names = [output.name for output in session.get_outputs()]
    rng = np.random.default_rng(10)
    size = 64
    window = rng.gamma(3.0, 5.0, (size, 10, 4)).astype(np.float32)
    window[rng.random(window.shape) < 0.1] = np.nan
    window[3] = np.nan
    feed = {
        "window": window,
        "time": times(10) + STEP * rng.integers(0, 500, (size, 1)),
        "state_in": rng.normal(size=(size, shape.state)).astype(np.float32),
    }
    feed["state_in"][:5] = np.nan

    def run(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return dict(zip(names, session.run(names, dict(arrays)), strict=True))

    whole = run_batched(run, feed)
    for part in (slice(0, 1), slice(2, 9), slice(5, 64), slice(63, 64)):
        cut = run_batched(run, {name: np.ascontiguousarray(a[part]) for name, a in feed.items()})
        for name in names:
            np.testing.assert_array_equal(cut[name], whole[name][part], err_msg=name)


def test_rows_of_new_entities_are_made_by_forgetting(tmp_path) -> None:
    grid = grid_of(tmp_path, stream(Field(name="a")), {f"e{i}": {"a": daily(6, i)} for i in range(2)})
    parted = split(grid, 3, 1, 1)
    shape = plan.plan(grid, MODEL, parted.rows).with_seasons((Season(86_400.0, 24),))
    shapes = plan.usual_courses(shape, grid, parted.rows)
    once = make_table(grid, parted.rows, shape, shapes)
    cold = network.is_cold(once.x, shape)[:, 0]
    assert cold.sum() == 2 * 24
    longer, used = add_cold(once, grid, parted, parted.train, shape, shapes, lambda _share: None)
    added = longer.x[len(once.x) :]
    assert len(added) > 50
    assert used[len(once.x) :].all()
    assert network.is_cold(added, shape).all()
    assert np.array_equal(used[: len(once.x)], parted.train)
    np.testing.assert_array_equal(longer.x[: len(once.x)], once.x)


def test_an_error_of_a_logarithm_counts_in_the_targets_unit() -> None:
    shape = layout(1, seasons=(), horizons=(1,), transforms=(Transform(True, 0.01, None, None),))
    rng = np.random.default_rng(11)
    values = np.exp(rng.normal(0, 0.05, 400))
    drawn = weights(shape, noise=0.0)
    drawn.linear[..., -1] = 12.0  # e to some scales: far too high in the target's unit
    made = Runner(shape, Parts(shape, (), drawn, start(shape)))(np.stack([values] * 2, axis=1), times(400))
    q50 = made["quantiles"][:, 0, 0, 1]
    assert q50[0] > 1.3 * values[shape.window - 1]
    np.testing.assert_allclose(q50[-50:], values[-50:], rtol=1e-4)

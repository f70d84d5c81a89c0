"""Alert budgets and differences: never too many on the history chosen on, and the simulation is the pipeline."""

import math
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dwcp_stream.alerts.budget import DAY, Budget, Trouble, choose, keep, recall
from dwcp_stream.alerts.diff import Raised, diff, raised
from dwcp_stream.alerts.simulate import ScoreHistory, simulate
from dwcp_stream.backtest import backtest
from dwcp_stream.errors import ConfigError, PayloadError
from dwcp_stream.events import Alert
from dwcp_stream.history.scores import labelled, made_up_trouble, score_table
from dwcp_stream.pipeline import Pipeline
from dwcp_stream.streams.definition import AlertPolicy
from dwcp_stream.streams.files import rows_to_records
from dwcp_stream.streams.policies import with_policy
from dwcp_stream.untrained import untrained_model
from tests.unit.history_cases import binding, small_stream

CUTOFFS = (1.0, 2.0, 5.0)
EXPIRE = 3600.0


@st.composite
def histories(draw: st.DrawFn) -> list[ScoreHistory]:
    found = []
    for model in ("a", "b"):
        n = draw(st.integers(0, 60))
        score = draw(st.lists(st.floats(0, 40, width=32), min_size=n, max_size=n))
        found.append(
            ScoreHistory(
                model, CUTOFFS, ["x", "y"], np.arange(n) % 2, 900.0 * np.arange(n, dtype=np.float64),
                np.array(score, np.float32),
            )
        )  # fmt: skip
    return found


@given(histories(), st.sampled_from([0.5, 1.0, 3.0]), st.sampled_from([0.0, 1800.0]), st.booleans())
def test_the_budget_is_kept_on_the_history_that_was_chosen_on(
    found: list[ScoreHistory], per_day: float, duration: float, every_day: bool
) -> None:
    policy = AlertPolicy(min_duration=duration)
    troubles = [Trouble("x", 9000.0, 12_000.0), Trouble("y", 0.0, 3000.0)]
    chosen = choose(found, policy, Budget(per_day, 0.6, every_day), EXPIRE, [duration], found, troubles)
    kept = keep(found, chosen, 0.6, EXPIRE)
    assert kept.per_day <= per_day
    assert not every_day or kept.worst_day <= per_day
    assert all(factor >= 1.0 for factor in chosen.thresholds.values())
    assert (chosen.min_duration, chosen.resolve_below) == (duration, policy.resolve_below)


def test_a_budget_that_is_kept_already_changes_nothing() -> None:
    history = ScoreHistory("a", CUTOFFS, ["x"], np.zeros(3, np.int64), np.arange(3.0), np.array([0, 3, 0], np.float32))
    assert choose([history], AlertPolicy(), Budget(1.0, 1.0), EXPIRE, [0.0]) == AlertPolicy()


def test_infinite_scores_are_said_and_not_hidden() -> None:
    history = ScoreHistory("a", CUTOFFS, ["x"], np.zeros(1, np.int64), np.zeros(1), np.full(1, np.inf, np.float32))
    with pytest.raises(PayloadError, match="infinite"):
        choose([history], AlertPolicy(), Budget(0.5, 1.0), EXPIRE, [0.0])


def test_of_the_policies_within_the_budget_the_one_that_finds_most_is_chosen() -> None:
    # noise is high for one row, trouble lower and longer: only a min_duration tells them apart
    score = np.zeros(400, np.float32)
    score[::20] = 5.0
    score[110:116] = 3.0
    ts = 60.0 * np.arange(400.0)
    history = ScoreHistory("a", CUTOFFS, ["x"], np.zeros(400, np.int64), ts, score)
    troubles = [Trouble("x", ts[110], ts[115])]
    chosen = choose([history], AlertPolicy(), Budget(1.0, 1.0), EXPIRE, [0.0, 120.0], [history], troubles)
    assert chosen.min_duration == 120.0
    found = recall(keep([history], chosen, 1.0, EXPIRE).alerts, troubles)
    assert (found.found, found.of) == (1, 1)
    assert found.interval[0] < 1.0 == found.share


def test_the_model_that_finds_trouble_is_lowered_and_the_noisy_one_is_not() -> None:
    noisy, good = np.zeros(400, np.float32), np.zeros(400, np.float32)
    noisy[::20], good[110:116] = 5.0, 2.0
    ts, entity = 60.0 * np.arange(400.0), np.zeros(400, np.int64)
    pairs = (("noisy", noisy), ("good", good))
    found = [ScoreHistory(name, CUTOFFS, ["x"], entity, ts, score) for name, score in pairs]
    chosen = choose(found, AlertPolicy(), Budget(2.0, 1.0), EXPIRE, [0.0], found, [Trouble("x", ts[110], ts[115])])
    assert set(chosen.thresholds) == {"noisy"}
    assert chosen.thresholds["noisy"] >= 5.0


def small_history(rows: int = 400) -> pl.DataFrame:
    rng = np.random.default_rng(3)
    load = 10 + rng.normal(0, 1, rows)
    load[150:156] += 60
    load[300:306] += 40
    table = pl.DataFrame({"ts": 1e9 + np.arange(rows, dtype=np.float64), "id": "n1", "load": load})
    return pl.concat([table, table.with_columns(id=pl.lit("n2"), load=pl.lit(10.0) + table["load"].reverse())]).sort(
        "ts"
    )


def test_the_simulation_raises_what_the_pipeline_raises() -> None:
    stream = small_stream(models=(binding(),), alert=AlertPolicy(min_duration=1.0, threshold=1.5))
    table = small_history()
    model = untrained_model(stream, stream.models[0]).bind(stream)
    alerts = []
    for result in backtest(Pipeline(stream, [model], check_ahead=False), rows_to_records(table, stream), partitions=1):
        alerts += [msgspec.json.decode(o.value, type=Alert) for o in result.outputs if o.topic == "anomalies"]
    wanted = raised(alerts)
    (scores,) = score_table([model], stream, table)
    found = simulate(scores, stream.alert, stream.expire_after)
    assert wanted
    assert sorted(found, key=lambda r: (r.starts, r.entity)) == sorted(wanted, key=lambda r: (r.starts, r.entity))
    assert diff(wanted, found).counts == {"appears": 0, "vanishes": 0, "same": len(wanted), "severity": 0}


def test_made_up_trouble_is_found_less_often_under_a_higher_threshold() -> None:
    stream = small_stream(models=(binding(),), window=40)
    load = 10 + np.random.default_rng(3).normal(0, 1, 600)
    table = pl.DataFrame({"ts": 1e9 + np.arange(600.0), "id": "n1", "load": load})
    model = untrained_model(stream, stream.models[0]).bind(stream)
    trial, troubles = made_up_trouble([model], stream, table, (1e9, 1e9 + 600))
    assert len(troubles) > 3
    shares = [recall(keep(trial, AlertPolicy(threshold=t), 1.0, EXPIRE).alerts, troubles).found for t in (1.0, 1e6)]
    assert shares[0] > shares[1] == 0


def test_labels_are_runs_of_an_entity() -> None:
    stream = small_stream()
    table = pl.DataFrame(
        {"ts": [0.0, 1, 2, 3, 0, 1], "id": ["a"] * 4 + ["b"] * 2, "load": 1.0, "label": [0, 1, 1, 0, 1, None]}
    )
    assert labelled(stream, table, "label") == [Trouble("a", 1.0, 2.0), Trouble("b", 0.0, 0.0)]


def one(starts: float, ends: float = math.inf, severity: str = "warning", entity: str = "x") -> Raised:
    return Raised(entity, "m", starts, ends, severity)


def test_a_difference_names_what_appears_vanishes_and_changes() -> None:
    found = diff(
        [one(0, 10), one(100, 110), one(200, 210)],
        [one(5, 20, "critical"), one(205, 207), one(208, 209), one(0, 10, entity="y"), one(DAY)],
    )
    assert found.counts == {"appears": 3, "vanishes": 1, "same": 1, "severity": 1}
    assert found.days == {"1970-01-01": (3, 4), "1970-01-02": (0, 1)}
    assert [row["change"] for row in found.plain()["alerts"]] == [
        "severity", "appears", "vanishes", "same", "appears", "appears",
    ]  # fmt: skip


spans = st.builds(one, st.integers(0, 100), st.integers(100, 200), st.sampled_from(["warning", "critical"]))


@given(st.lists(spans, max_size=6), st.lists(spans, max_size=6))
def test_a_difference_counts_every_alert_once(before: list[Raised], after: list[Raised]) -> None:
    counts = diff(before, after).counts
    both = counts["same"] + counts["severity"]
    assert both + counts["vanishes"] == len(before)
    assert both + counts["appears"] == len(after)
    assert diff(before, before).counts["same"] == len(before)


def test_a_policy_file(tmp_path: Path) -> None:
    path = tmp_path / "new.toml"
    path.write_text('name = "other"\n[alert]\nthreshold = 2.0\n')
    stream = small_stream(models=(binding(),))
    assert with_policy(stream, path).alert == AlertPolicy(threshold=2.0)
    path.write_text("[alert]\nthresholds = { demo-anomaly = 3.0 }\n")
    policy = with_policy(stream, path).alert
    assert [policy.of(name).threshold for name in ("demo-anomaly", "other")] == [3.0, 1.0]
    for text in (
        "",
        "[alert]\nthreshold = 0\n",
        "[alert]\nthreshhold = 2.0\n",
        "[alert",
        "[alert]\nthresholds = {x = 2.0}",
    ):
        path.write_text(text)
        with pytest.raises(ConfigError, match=r"new\.toml"):
            with_policy(stream, path)

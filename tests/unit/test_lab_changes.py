"""How changes are counted, and the rule that stands beside the detectors."""

from __future__ import annotations

import gzip
import json

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from lab.evaluations import drift, drift_inputs
from lab.evaluations.changes import counts, main, median_test, onsets, summary


def test_an_alert_begins_once_until_it_has_been_under_the_lower_bound():
    assert onsets(np.array([0.0, 2.0, 0.9, 1.5, 0.7, 1.1, np.nan, 1.2])).tolist() == [1, 5]


ROWS = st.lists(st.integers(0, 60), unique=True, max_size=12).map(sorted)


@given(ROWS, ROWS, st.integers(0, 6))
def test_as_many_pairs_as_there_can_be(found, true, within):
    right, *sizes = counts(np.array(found, int), np.array(true, int), within)
    assert sizes == [len(found), len(true)]
    fits = np.abs(np.subtract.outer(np.array(found, int), np.array(true, int))) <= within
    rows, columns = linear_sum_assignment(~fits) if fits.size else ([], [])
    assert right == int(fits[rows, columns].sum() if fits.size else 0)


def test_f1_is_over_all_traces_and_lies_in_its_interval():
    found = summary(np.array([[8, 10, 9], [0, 5, 1], [4, 4, 4]]))
    assert found["f1"] == round(24 / 33, 3)
    assert (found["precision"], found["recall"]) == (round(12 / 19, 3), round(12 / 14, 3))
    low, high = found["interval"]
    assert low < found["f1"] < high


def levels(rng, lengths):
    return np.concatenate([level + rng.normal(0, 0.2, n) for level, n in lengths])


def test_the_median_test_finds_levels_and_no_spikes():
    rng = np.random.default_rng(1)
    values = levels(rng, [(100, 80), (110, 60), (95, 60)])
    values[[30, 50, 100]] += 40
    found = median_test(values)
    assert len(found) == 2
    assert np.abs(found - [80, 140]).max() <= 1


def test_the_evaluation_finds_a_clear_change(tmp_path):
    rng = np.random.default_rng(2)
    rows = []
    for probe in (1, 2):
        values = levels(rng, [(100, 400), (130, 300)])
        values[:200] += levels(rng, [(0, 150), (15, 50)])
        marks = [int(n in (150, 200, 400)) for n in range(700)]
        times = pl.from_epoch(pl.Series(np.arange(700) * 240 + 1_700_000_000)).dt.strftime("%Y-%m-%d %H:%M:%S")
        rows.append(pl.DataFrame({"probe": [probe] * 700, "timestamp": times, "rtt_ms": values, "changepoint": marks}))
    (tmp_path / "ripe_rtt").mkdir()
    pl.concat(rows).write_csv(tmp_path / "ripe.csv")
    with gzip.open(tmp_path / "ripe_rtt/ripe_rtt.csv.gz", "wb") as file:
        file.write((tmp_path / "ripe.csv").read_bytes())
    done = CliRunner().invoke(main, ["--data", str(tmp_path), "--json"], catch_exceptions=False)
    found = json.loads(done.stdout)
    assert found["changes"] == 2
    assert found["dwcp-stream default"]["recall"] == 1.0
    assert found["median of 3 rows, 4 robust deviations of 30"]["recall"] == pytest.approx(1.0)
    assert {"River ADWIN", "River PageHinkley", "dwcp-stream, nothing trained"} <= found.keys()


def test_the_drift_evaluation_tells_quiet_from_shifted_and_takes_labels(tmp_path):
    rng = np.random.default_rng(4)
    values = levels(rng, [(100, 15 * 150), (110, 15 * 100)])
    marks = [int(n == 15 * 150) for n in range(len(values))]
    times = pl.from_epoch(pl.Series(np.arange(len(values)) * 240 + 1_700_000_000)).dt.strftime("%Y-%m-%d %H:%M:%S")
    table = pl.DataFrame(
        {"probe": [1] * len(values), "timestamp": times, "rtt_ms": values, "changepoint": marks}
    ).write_csv()
    (tmp_path / "ripe_rtt").mkdir()
    with gzip.open(tmp_path / "ripe_rtt/ripe_rtt.csv.gz", "wb") as file:
        file.write(table.encode())
    done = CliRunner().invoke(drift.main, ["--data", str(tmp_path), "--repeats", "2", "--json"], catch_exceptions=False)
    found = json.loads(done.stdout)
    ours = {row["autocorrelation"]: row for row in found["simulated"] if row["detector"] == "DriftMonitor"}
    assert ours[0.0]["shifts_found"] == 1.0
    assert ours[0.6]["false_per_1000"] < 1.0
    rows = {row["detector"]: row for row in found["ripe_rtt"]}
    assert rows["DriftMonitor"]["lasting_changes"] == 1
    assert rows["DriftMonitor"]["found_within_a_day"] == 1.0
    assert rows["DriftMonitor"]["told_by_a_label"] == 1.0


def test_the_index_of_inputs_tells_quiet_from_shifted_and_few_entities_from_many():
    quiet = drift_inputs.shares_of_inputs(drift_inputs.Case(10, 0.0, "none"), 2)
    assert (quiet["drifted_per_1000"], quiet["found_1.0"]) == (0.0, 1.0)
    assert 5 < quiet["delay_1.0"] < 24
    few = drift_inputs.shares_of_inputs(drift_inputs.Case(1, 24.0, "none"), 2)
    assert few["drifted_per_1000"] > 300


def test_levels_of_entities_are_those_of_training_or_others():
    for levels, lowest, highest in (("same", 0.9, 1.0), ("others", -0.5, 0.5)):
        train, values = drift_inputs.drawn(np.random.default_rng(6), drift_inputs.Case(50, 1.0, levels))
        assert lowest < np.corrcoef(train.mean(axis=0), values.mean(axis=0))[0, 1] <= highest
        assert values.std() == pytest.approx(1.0, abs=0.2)

"""The evaluation of the sequential test: its rules by hand, its made-up series, and all of it on made-up traces."""

import gzip
import json

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner
from scipy.signal import lfilter
from scipy.stats import ttest_1samp

from dwcp_stream.loop import judge
from dwcp_stream.loop.decider import PROMOTABLE
from lab.evaluations import decision_errors, decisions


def test_looks_between_full_blocks_would_find_nothing_else():
    better = np.random.default_rng(0).normal(0.02, 0.2, (4, 2000))
    for series, sign, begin in ((better, 1, decisions.BLOCK * PROMOTABLE), (-better, -1, 1)):
        side, when = decisions.sequential(series)
        for run, values in enumerate(series):
            first = next((n for n in range(begin, 2001) if judge(sign * values[:n]).lower > 0), 0)
            assert (side[run], when[run]) == (sign * int(first > 0), first)
        assert (side == sign).any()


def test_the_observed_mae_can_veto():
    series = np.full((2, 1500), 0.1)
    side, _ = decisions.sequential(series, np.array([[0.9] * 1500, [1.1] * 1500]))
    assert side.tolist() == [1, 0]


def test_t_statistics_are_students():
    values = np.random.default_rng(1).normal(0.1, 1.0, 50)
    found = decisions.t_statistic(values, np.array([10, 50]))
    assert found == pytest.approx([ttest_1samp(values[:n], 0.0).statistic for n in (10, 50)])


def test_a_repeated_t_test_decides_no_later_than_one_at_the_end():
    series = np.random.default_rng(2).normal(0.01, 0.2, (50, 1500))
    (once, _), (often, when) = decisions.at_end(series), decisions.repeated(series)
    assert (np.abs(often) >= np.abs(once)).all()
    assert np.abs(often).sum() > np.abs(once).sum() > 0
    assert (when[often != 0] >= decisions.FIRST).all()


def test_the_fitted_process_has_the_memory_of_the_series():
    rng = np.random.default_rng(3)
    series = lfilter([1.0, -0.6], [1.0, -0.9], rng.normal(size=288 * 2000))
    assert decision_errors.arma(series) == pytest.approx((0.9, -0.6), abs=0.03)
    phi, theta = decision_errors.arma(rng.normal(size=288 * 500))
    assert (abs(phi), theta) == (pytest.approx(0.0, abs=0.01), 0.0)


def test_changing_places_turns_whole_days_around():
    drawn = decision_errors.Runs({0.0: np.ones((200, 700)), 0.1: np.ones((200, 700))})
    found = decision_errors.changing_places(np.random.default_rng(6), drawn).differences
    assert list(found) == [0.0]
    first, second, third = np.split(found[0.0], [288, 576], axis=1)
    assert all((np.ptp(day, axis=1) == 0).all() for day in (first, second, third))
    assert abs(first[:, 0].mean()) < 0.3
    assert abs((first[:, 0] * second[:, 0]).mean()) < 0.3


def test_a_candidate_is_made_as_good_and_then_better():
    rng = np.random.default_rng(4)
    champion, candidate = np.abs(rng.normal(size=(2000, 3))), 1.7 * np.abs(rng.normal(size=(2000, 3)))
    made = decision_errors.source(champion, candidate)
    assert made is not None
    means = {effect: series.mean() for effect, series in made.differences.items()}
    assert means[0.0] == pytest.approx(0.0, abs=1e-6)
    assert means[-0.1] < means[-0.02] < 0 < means[0.02] < means[0.05] < means[0.1] < 0.1
    assert made.candidate.mean() == pytest.approx(1.0, abs=0.1)
    assert decision_errors.source(champion, 100 * candidate) is None


def test_the_evaluation_finds_the_better_version_in_made_up_traces(tmp_path):
    rng = np.random.default_rng(5)
    rows = []
    for probe in (1, 2):
        noise = lfilter([1.0], [1.0, -0.6], rng.normal(size=6600))
        times = pl.from_epoch(pl.Series(np.arange(6600) * 240 + 1_700_000_000)).dt.strftime("%Y-%m-%d %H:%M:%S")
        rows.append(pl.DataFrame({"probe": [probe] * 6600, "timestamp": times, "rtt_ms": 100 + noise}))
    (tmp_path / "ripe_rtt").mkdir()
    with gzip.open(tmp_path / "ripe_rtt/ripe_rtt.csv.gz", "wb") as file:
        file.write(pl.concat(rows).write_csv().encode())
    picture = tmp_path / "decisions.svg"
    arguments = ["--data", str(tmp_path), "--runs", "20", "--days", "5", "--draw", str(picture), "--json"]
    done = CliRunner().invoke(decisions.main, arguments, catch_exceptions=False)
    found = {(row["errors"], row["effect"], row["rule"]): row for row in json.loads(done.stdout)["decisions"]}
    for setting in ("one link", "all links", "one link, ARMA(1, 1)"):
        assert found[setting, 0.1, "sequential"]["promoted"] >= 0.5
        assert found[setting, -0.1, "sequential"]["rolled_back"] >= 0.5
        assert found[setting, 0.0, "sequential"]["promoted"] <= 0.2
    assert found["one link, changing places", 0.0, "sequential"]["undecided"] >= 0.6
    assert found["AR(1) 0.97", 0.0, "repeated t-test"]["undecided"] <= 0.2
    assert found["AR(1) 0.97", 0.0, "sequential"]["undecided"] >= 0.8
    assert picture.read_text().count("<svg") == 1

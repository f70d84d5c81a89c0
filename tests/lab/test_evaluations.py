"""NAB's rules by hand, and the evaluations end to end on made-up files in the data sets' formats."""

import gzip
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

from lab.evaluations import asd, labelled, nab
from lab.evaluations.nab_scoring import Profile, Series, corpus_score, probation_rows, sigmoid
from lab.evaluations.peers import peers
from lab.evaluations.windowed_gaussian import windowed_gaussian

STANDARD = Profile(found=1.0, missed=1.0, false=0.11)


def series(rows: int, windows: list[tuple[int, int]], **scores: float) -> Series:
    values = np.zeros(rows)
    for row, score in scores.items():
        values[int(row[1:])] = score
    return Series(values, windows)


def test_probation_is_15_percent_and_750_rows_at_most() -> None:
    assert [probation_rows(n) for n in (100, 4032, 5000, 22695)] == [15, 604, 750, 750]


def test_sigmoid_at_its_corners() -> None:
    assert sigmoid(np.array([-1.0, 0.0, 3.0, 3.1])) == pytest.approx([0.98661, 0.0, -0.9999994, -1.0], abs=1e-5)


def test_first_row_of_every_window_is_perfect_and_silence_is_null() -> None:
    files = [series(100, [(40, 49), (80, 89)], r40=1, r80=1), series(100, [])]
    best = corpus_score(files, STANDARD)
    assert (best.score, best.found, best.false_rows) == (pytest.approx(100.0), 2, 0)
    assert corpus_score([series(100, [(40, 49)])], STANDARD).score == 0.0


def test_a_late_detection_earns_less_and_only_the_first_counts() -> None:
    one = corpus_score([series(100, [(40, 49)], r45=1)], STANDARD, threshold=1.0)
    # place -(49 - 45 + 1) / 10 = -0.5; gain of the window: 1 for no miss, and sigmoid(-.5) / sigmoid(-1)
    assert one.score == pytest.approx(100 * (1 + sigmoid(np.array(-0.5)) / sigmoid(np.array(-1.0))) / 2)
    more = corpus_score([series(100, [(40, 49)], r45=1, r46=1, r49=1)], STANDARD, threshold=1.0)
    assert more.score == pytest.approx(one.score)


def test_every_row_outside_costs_and_less_right_after_a_window() -> None:
    far = corpus_score([series(100, [(40, 49)], r40=1, r20=1, r21=1)], STANDARD, threshold=1.0)
    assert far.score == pytest.approx(100 - 100 * 2 * 0.11 / 2)
    near = corpus_score([series(100, [(40, 49)], r40=1, r50=1)], STANDARD, threshold=1.0)
    assert near.score == pytest.approx(100 + 100 * 0.11 * float(sigmoid(np.array(1 / 9))) / 2)
    assert near.false_rows == far.false_rows - 1 == 1


def test_probation_counts_neither_way() -> None:
    quiet = corpus_score([series(100, [(40, 49)], r40=1)], STANDARD, threshold=1.0)
    early = corpus_score([series(100, [(40, 49)], r40=1, r3=1)], STANDARD, threshold=1.0)
    assert early == quiet


def test_best_threshold_is_found_over_the_corpus() -> None:
    files = [series(100, [(40, 49)], r40=0.5, r20=0.4), series(100, [(60, 69)], r60=0.45, r30=0.9)]
    best = corpus_score(files, STANDARD)
    assert best.threshold == 0.45
    assert (best.found, best.false_rows) == (2, 1)


def test_windowed_gaussian_by_hand() -> None:
    scores = windowed_gaussian(np.array([0.0, 2.0, 1.0, 1.0 + np.sqrt(2 / 3)]))
    assert scores[0] == 0.0
    assert scores[2] == pytest.approx(0.5)  # the mean of 0 and 2
    assert scores[3] == pytest.approx(0.8413447)  # one deviation of 0, 2 and 1 over their mean


def test_records_keep_rises_only() -> None:
    scores = np.array([1.0, 1.0, 2.0, 0.5, np.nan, 2.5])
    assert nab.records(scores).tolist() == [1.0, 0.0, 2.0, 0.0, 0.0, 2.5]
    repeated = np.zeros(250)
    repeated[[10, 60, 161]] = 1.0
    assert np.flatnonzero(nab.records(repeated)).tolist() == [10, 161]


def test_peers_rank_a_jump_first() -> None:
    rng = np.random.default_rng(0)
    train, test = rng.normal(size=(400, 3)), rng.normal(size=(100, 3))
    test[60:63] += 30.0
    for name, make in peers().items():
        assert 60 <= int(np.argmax(make(train, test))) < 68, name


def signal(rows: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.sin(np.arange(rows) / 40.0) + rng.normal(0, 0.1, rows)


def test_asd_end_to_end(tmp_path: Path) -> None:
    arrays = {}
    for name in ("omi-1", "omi-2"):
        train = np.stack([signal(400, i) for i in range(3)], axis=1)
        test, label = np.stack([signal(200, 9 + i) for i in range(3)], axis=1), np.zeros(200, np.int64)
        test[120:130] += 3.0
        label[120:130] = 1
        arrays |= {f"{name}_train": train, f"{name}_test": test, f"{name}_label": label}
    np.savez(tmp_path / "data.npz", **arrays)
    result = CliRunner().invoke(asd.main, ["--data", str(tmp_path), "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["mean_vus_pr"][asd.MODEL] > 0.5
    assert [row["segments_found"] for row in found["servers"]] == [1, 1]


def test_nab_end_to_end(tmp_path: Path) -> None:
    times = pl.datetime_range(
        pl.datetime(2024, 1, 1), pl.datetime(2024, 1, 1) + pl.duration(minutes=5 * 799), "5m", eager=True
    ).dt.strftime("%Y-%m-%d %H:%M:%S")
    values = signal(800, 1)
    values[600:620] += 8.0
    table = pl.DataFrame({"file": ["a/one.csv"] * 800, "timestamp": times, "value": values})
    (tmp_path / "nab_corpus.csv.gz").write_bytes(gzip.compress(table.write_csv().encode()))
    window = [f"{times[590]}.000000", f"{times[639]}.000000"]
    (tmp_path / "combined_windows.json").write_text(json.dumps({"a/one.csv": [window]}))
    costs = {"standard": {"CostMatrix": {"tpWeight": 1.0, "fnWeight": 1.0, "fpWeight": 0.11, "tnWeight": 1.0}}}
    (tmp_path / "profiles.json").write_text(json.dumps(costs))
    out = tmp_path / "scores.parquet"
    result = CliRunner().invoke(nab.main, ["--data", str(tmp_path), "--json", "--scores", str(out)])
    assert result.exit_code == 0, result.output
    row = json.loads(result.stdout)["results"][0]
    assert (row["found"], row["windows"]) == (1, 1)
    assert row["standard"] > 90
    assert pl.read_parquet(out).height == 800


@pytest.mark.parametrize("way", ["files", "head"])
def test_labelled_end_to_end(way: str, tmp_path: Path) -> None:
    paths = []
    for number in range(3):
        values, label = np.stack([signal(500, number), signal(500, 7 + number)], axis=1), np.zeros(500, np.int64)
        if number:
            values[450:460] += 3.0
            label[450:460] = 1
        columns = {"ts": 1.7e9 + np.arange(500.0), "a b": values[:, 0], "c": values[:, 1], "bad": label}
        paths.append(tmp_path / f"run{number}.csv")
        pl.DataFrame(columns).write_csv(paths[-1])
    words = ["--step", "1", "--label", "bad", "--json", "--test", str(paths[1]), "--test", str(paths[2])]
    words += ["--train", str(paths[0])] if way == "files" else ["--head", "400"]
    result = CliRunner().invoke(labelled.main, words)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["entities"] == 2
    assert found[labelled.MODEL]["vus_pr"] > 0.5
    assert found[labelled.MODEL]["quiet_over"] < 0.05
    assert "EWMA z" in found

"""The comparison of consensus detectors: its words, its sums, and a run on made-up files."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner

from dwcp_stream.wilson import wilson
from lab.evaluations.consensus import each_named, main
from lab.evaluations.consensus_frontier import main as frontier_main
from lab.evaluations.consensus_tally import lasting
from tests.unit.test_training_end_to_end import consensus_run


def test_an_option_holds_for_all_files_after_it() -> None:
    words = ["--train", "a", "b", "--seed", "3", "--test", "c", "d", "--json"]
    wanted = ["--train", "a", "--train", "b", "--seed", "3", "--test", "c", "--test", "d", "--json"]
    assert each_named(words) == wanted


def test_wilson_intervals() -> None:
    assert wilson(15, 16) == pytest.approx((0.717, 0.989), abs=1e-3)  # Brown, Cai and DasGupta 2001, equation 4
    assert wilson(0, 10)[0] == 0.0
    assert np.isnan(wilson(0, 0)).all()


def test_an_alert_needs_three_rows_in_a_row() -> None:
    seen = SimpleNamespace(ends=np.array([30, 31, 32, 33, 70, 71, 72]))
    found = lasting(np.array([2.0, 3.0, 4.0, 1.0, 5.0, 6.0, 7.0]), seen)
    np.testing.assert_array_equal(found, [-np.inf, -np.inf, 2.0, 1.0, -np.inf, -np.inf, 5.0])


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("runs")
    paths = [folder / f"run{seed}.csv" for seed in range(3)]
    for seed, path in enumerate(paths):
        consensus_run(seed).write_csv(path)
    return [str(path) for path in paths]


def rows(words: list[str]) -> dict[str, dict[str, object]]:
    made = CliRunner().invoke(main, [*each_named(words), "--json"])
    assert made.exit_code == 0, made.output
    return {row["detector"]: row for row in json.loads(made.output)["detectors"]}


def test_rules_and_a_detector_on_a_test_file(files: list[str]) -> None:
    only = ["--only", "harmful deviations", "--only", "member missing or leader change"]
    found = rows(["--train", *files[:2], "--test", files[2], *only])
    assert set(found) == {"harmful deviations", "member missing or leader change"}
    assert found["harmful deviations"]["events found"] == "3 of 3"
    assert found["harmful deviations"]["false alarms"] == 0
    assert found["harmful deviations"]["events with an alert"] == 3
    # the rule needs no training: it fires in exactly the labelled rows
    assert found["member missing or leader change"]["events found"] == "3 of 3"
    assert found["member missing or leader change"]["ROC AUC"] == 1.0
    assert found["member missing or leader change"]["quiet hours"] == pytest.approx((371 - 45) / 3600, rel=0.05)


def test_files_take_turns_also_as_another_cluster(files: list[str]) -> None:
    only = ["--only", "harmful deviations"]
    turned = rows(["--rotate", *files, *only])["harmful deviations"]
    assert turned["events found"] == "9 of 9"
    other = rows(["--rotate", *files, *only, "--scale", "3", "--members", "7"])["harmful deviations"]
    assert other["events found"] == "9 of 9"


def test_the_model_says_kinds_and_may_be_denied_one(files: list[str]) -> None:
    words = ["--train", *files[:2], "--test", files[2], "--only", "consensus model"]
    found = rows(words)["consensus model"]
    assert found["events found"] == "3 of 3"
    assert found["kinds"] == {"follower_lost": {"follower_lost": 3}}
    assert found["kinds right"] == found["right as an alert fires"] == "3 of 3"
    assert float(str(found["windows a second"])) > 1000
    denied = CliRunner().invoke(main, [*each_named(words), "--without", "follower_lost"])
    assert denied.exit_code == 1
    assert "no fault to learn from" in str(denied.exception)
    other = rows([*words[:5], "--only", "harmful deviations", "--without", "follower_lost"])
    assert other["harmful deviations"]["events found"] == "3 of 3"


def test_it_says_what_to_give() -> None:
    made = CliRunner().invoke(main, [])
    assert made.exit_code == 2
    assert "--rotate" in made.output


def test_the_frontier_holds_what_nothing_as_fast_outdoes(tmp_path: Path) -> None:
    def row(name: str, speed: float | None, precision: float) -> dict[str, object]:
        return {
            "detector": name,
            "windows a second": speed,
            "AP": precision,
            "events found": "1 of 1",
            "false alarms": 0,
            "ROC AUC": 0.9,
        }

    path, picture = tmp_path / "found.json", tmp_path / "frontier.png"
    rows = [row("slow", 10, 0.9), row("good", 100, 0.95), row("fast", 1000, 0.8), row("rule", None, 0.99)]
    path.write_text(json.dumps({"detectors": rows}))
    made = CliRunner().invoke(frontier_main, [str(path), "--out", str(picture)])
    assert made.exit_code == 0, made.output
    marked = {line.split("|")[1].strip(): "yes" in line for line in made.output.splitlines()[2:]}
    assert marked == {"slow": False, "good": True, "fast": True}
    assert picture.read_bytes().startswith(b"\x89PNG")

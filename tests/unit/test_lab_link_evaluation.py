"""The evaluation of the published link model: the champion through the commands, beside its peers."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from dwcp_stream.streams import load_stream
from lab.evaluations import links
from lab.links import simulate_links

ROOT = Path(__file__).parents[2]
STREAMS = ROOT / "config" / "streams"


@pytest.fixture(autouse=True)
def _streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DWCP_STREAMS_DIR", str(STREAMS))  # set back afterwards: the evaluation sets it


def test_a_task_per_target_with_the_stream_s_step_and_horizons() -> None:
    stream = load_stream(STREAMS / "link.toml")
    table = simulate_links(2, 0.1, 3)
    tasks = links.tasks_of(stream, "link-forecast", table)
    assert [task.target for task in tasks] == ["bandwidth_mbps", "latency_ms", "packet_loss", "jitter_ms"]
    assert all((task.horizons, task.step, task.season, task.seen) == ((1, 6, 12), 60.0, 1440, False) for task in tasks)
    assert all(len(task.train) == 0 and len(task.test) == len(table) for task in tasks)
    assert tasks[0].test["entity"].n_unique() == 2


def test_figures_come_from_the_champion_and_from_what_came(tmp_path: Path) -> None:
    table = simulate_links(2, 0.25, 3)
    results = links.evaluate(table, STREAMS, ROOT / "models", tmp_path, with_autoets=False)
    assert [result["task"] for result in results] == ["bandwidth_mbps", "latency_ms", "packet_loss", "jitter_ms"]
    for result in results:
        assert [h["horizon"] for h in result["horizons"]] == [1, 6, 12]
        for h in result["horizons"]:
            assert h["entities"] == 2
            assert 400 < h["rows"] < len(table)
            assert h["forecasts"]["persistence"]["skill"] == 0.0
            assert 0.5 < h["coverage"] < 0.97
    last = results[0]["horizons"][0]["forecasts"]
    one = table.filter(table["node_id"] == "node-000")["bandwidth_mbps"].fill_nan(None).drop_nulls().to_numpy()
    steps = np.abs(np.diff(one)).mean()
    assert last["persistence"]["mae"] < 3 * steps


def test_the_command_prints_figures_and_wants_statsforecast_for_autoets(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(links.peers, "has_autoets", lambda: False)
    runner = CliRunner()
    assert "statsforecast" in runner.invoke(links.main, ["--autoets"]).output
    words = ["--links", "1", "--days", "0.15", "--models", str(ROOT / "models"), "--json"]
    printed = runner.invoke(links.main, words, catch_exceptions=False)
    assert printed.exit_code == 0
    assert len(json.loads(printed.output)["results"]) == 4

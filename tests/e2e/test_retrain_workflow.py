"""The steps of .github/workflows/retrain.yml, run one after another as GitHub would."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from dwcp_stream.registry import ModelRepository
from dwcp_stream.registry.history import read_history
from lab.links import simulate_links

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = "dwcp-stream"


@pytest.fixture
def steps(tmp_path: Path):
    """Run the named steps of retrain.yml in an empty folder, with the program of this environment."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / PROGRAM
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m dwcp_stream "$@"\n')
    program.chmod(0o755)
    (job,) = yaml.safe_load((ROOT / ".github/workflows/retrain.yml").read_text())["jobs"].values()
    known = {step["name"]: step for step in job["steps"] if "name" in step}

    def run(*names: str, **variables: str) -> None:
        for name in names:
            own = {key: value for key, value in known[name].get("env", {}).items() if "${{" not in value}
            done = subprocess.run(
                ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", known[name]["run"]],
                cwd=tmp_path,
                env={
                    **os.environ,
                    "PYTHONPATH": str(ROOT),
                    "PATH": f"{program.parent}:{os.environ['PATH']}",
                    "DWCP_STREAMS_DIR": str(ROOT / "config/streams"),
                    "JUDGED": "",
                    **variables,
                    **own,
                },
                capture_output=True,
                text=True,
                timeout=240,
                check=False,
            )
            assert done.returncode == 0, f"{name}: {done.stdout}\n{done.stderr}"

    return run


@pytest.mark.full
def test_the_steps_train_judge_and_publish_a_shadow(steps, tmp_path: Path):
    simulate_links(4, 1, 5).write_parquet(tmp_path / "export.parquet")
    simulate_links(4, 1, 6).write_parquet(tmp_path / "later.parquet")
    given = {"STREAM": "link", "MODEL": "link-forecast", "TELEMETRY": "export.parquet", "JUDGED": "later.parquet"}
    steps("Fetch the telemetry", "Train", "Judge", **given)
    judged = json.loads((tmp_path / "judged.json").read_text())["models"][0]
    assert (judged["model"], judged["trained_on"]) == ("link-forecast", [])
    assert (tmp_path / "judged/link-forecast/report.md").is_file()

    models = str(tmp_path / "models")
    for run in ("7", "8"):
        known = {**given, "DWCP_MODELS_DIR": models, "GITHUB_RUN_ID": run}
        steps("Judge the champion on the same file", "Publish, and run as shadow", **known)
        assert (tmp_path / "champion.json").exists() == (run == "8"), "the first time there is none to judge"
    champion = json.loads((tmp_path / "champion.json").read_text())["models"][0]
    assert (champion["version"], champion["forecasts"]) == (1, judged["forecasts"]), "the same graph, the same figures"
    repository = ModelRepository(models)
    assert repository.versions("link-forecast") == [1, 2]
    assert repository.aliases("link-forecast") == {"champion": 1, "shadow": 2}
    assert [move.reason for move in read_history(models)] == ["retrain.yml, run 7", "retrain.yml, run 8"]

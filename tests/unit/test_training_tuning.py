"""Searching a trainer's parameters: by validation loss alone, repeatable, and to be gone on with."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from dwcp_stream.cli.main import run
from dwcp_stream.errors import ConfigError, PayloadError
from dwcp_stream.registry import ModelRepository
from dwcp_stream.streams import ModelBinding, load_streams
from dwcp_stream.training.job import Candidate, Job, Parameter
from dwcp_stream.training.trainers import TRAINERS, find_space
from dwcp_stream.training.tuning import tune
from lab.files import write_table
from lab.nodes import simulate_nodes

STREAMS = Path(__file__).parents[2] / "config" / "streams"
SPACE = {"x": Parameter(0.9, 0.0, 1.0), "size": Parameter(10, 1, 100, log=True, whole=True)}


class Trainer:
    """Loss smallest at x = 0.3; remembers what it was told."""

    def __init__(self, *, fails_at=None, blind=False):
        self.told, self.fails_at, self.blind = [], fails_at, blind

    def __call__(self, job: Job) -> Candidate:
        x, size = job.told(SPACE, "x"), job.told(SPACE, "size")
        assert isinstance(size, int)
        if self.fails_at == len(self.told):
            raise KeyboardInterrupt
        self.told.append((x, size))
        job.progress(1.0, "training")
        return Candidate(
            model=f"{x}".encode(), fields=(), window=1, reference={}, metrics={}, report="", licence="",
            validation=None if self.blind else (x - 0.3) ** 2,
        )  # fmt: skip


@pytest.fixture
def job(tmp_path):
    file = tmp_path / "data.csv"
    file.write_text("ts,x\n1,1\n")
    stream = load_streams(STREAMS)["node"]
    return Job(stream=stream, binding=ModelBinding(name="m", task="incident"), files=(file,), seed=4)


def test_the_trainers_own_parameters_come_first_and_the_best_trial_wins(job, tmp_path):
    trainer, said = Trainer(), []
    job = replace(job, progress=lambda share, what: said.append((share, what)))
    found, candidate = tune(job, trainer, SPACE, 12, tmp_path)
    assert trainer.told[0] == (0.9, 10)
    assert found.trials == len(trainer.told) == 12
    assert found.usual == pytest.approx(0.36)
    assert found.best == min((x - 0.3) ** 2 for x, _ in trainer.told) < 0.05
    assert candidate is not None
    assert float(candidate.model) == found.parameters["x"]
    assert said[-1] == (1.0, "trial 12 of 12: training")


def test_a_search_repeats_and_one_that_was_cut_off_goes_on(job, tmp_path):
    whole = Trainer()
    once, _ = tune(job, whole, SPACE, 9, tmp_path / "a")
    first = Trainer(fails_at=4)
    with pytest.raises(KeyboardInterrupt):
        tune(job, first, SPACE, 9, tmp_path / "b")
    second = Trainer()
    found, _ = tune(job, second, SPACE, 9, tmp_path / "b")
    assert (len(first.told), len(second.told), found.trials) == (4, 5, 9)
    assert first.told[:4] == whole.told[:4]
    again, untrained = tune(job, Trainer(fails_at=0), SPACE, 9, tmp_path / "b")
    assert again == found
    assert untrained is None, "nothing was trained this time"
    assert once.usual == found.usual
    other, _ = tune(replace(job, seed=5), Trainer(), SPACE, 2, tmp_path / "b")
    assert other.trials == 2, "another seed is another search"


def test_what_cannot_be_searched_is_said(job, tmp_path):
    with pytest.raises(ConfigError, match="nothing to search"):
        tune(job, Trainer(), {}, 3, tmp_path)
    with pytest.raises(PayloadError, match="no loss on validation rows"):
        tune(job, Trainer(blind=True), SPACE, 3, tmp_path)


def test_spaces_hold_what_is_usual():
    for stream, pattern, task, *_ in TRAINERS:
        space = find_space(ModelBinding(name=pattern.replace("*", "a"), task=task), stream.replace("*", "any"))
        for name, parameter in space.items():
            assert parameter.low <= parameter.usual <= parameter.high, (pattern, name)


def test_the_command_searches_publishes_and_goes_on(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("DWCP_STREAMS_DIR", str(STREAMS))
    file, out = tmp_path / "nodes.parquet", tmp_path / "models"
    write_table(simulate_nodes(8, 2, 5, incidents=4.0), file)
    command = [
        "train",
        "node",
        "--model",
        "node-gbt",
        "--epochs",
        "8",
        "--data",
        str(file),
        "--out",
        str(out),
        "--json",
    ]
    assert run([*command, "--trials", "2"]) == 0
    first = json.loads(capsys.readouterr().out)["trained"][0]
    assert first["metrics"]["tuning"]["trials"] == 2
    assert run([*command, "--trials", "3"]) == 0
    second = json.loads(capsys.readouterr().out)["trained"][0]
    tuning = second["metrics"]["tuning"]
    assert (second["version"], tuning["trials"]) == (2, 3)
    assert tuning["best"] <= first["metrics"]["tuning"]["best"] <= tuning["usual"]
    assert "Of 3 trials the best" in (out / "node-gbt" / "2" / "report.md").read_text()
    repository = ModelRepository(out)
    assert repository.names() == ["node-gbt"]
    assert "--trials 3" in repository.manifest("node-gbt", 2).command

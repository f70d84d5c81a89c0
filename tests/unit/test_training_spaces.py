"""What `train --trials` searches in the default trainers: usual values change nothing, others do, and it goes on."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from dwcp_stream.cli.main import run
from dwcp_stream.streams import load_stream
from dwcp_stream.training.anomaly.memory import Rates
from dwcp_stream.training.anomaly.surrogate import validation_loss, with_trouble
from dwcp_stream.training.dataset import load_grid
from dwcp_stream.training.job import Job
from dwcp_stream.training.trainers import find_space, find_trainer

pytestmark = pytest.mark.slow

OTHERS = {
    "anomaly": {"level_rows": 150.0, "mean_rows": 8.0},
    "forecast": {"hidden": 8, "rate": 0.01},
    "incident": {"max_depth": 2, "eta": 0.2},
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stream with a default model of each task, and half a day of two units."""
    (tmp_path / "streams").mkdir()
    monkeypatch.setenv("DWCP_STREAMS_DIR", str(tmp_path / "streams"))
    monkeypatch.setenv("DWCP_MODELS_DIR", str(tmp_path / "models"))
    models = "".join(f'[[models]]\nname = "plant-{t}"\ntask = "{t}"\nlabel = "bad"\n' for t in OTHERS)
    (tmp_path / "streams" / "plant.toml").write_text(
        'name = "plant"\ntopic = "t.plant"\nentity = ["unit"]\nstep = 60.0\nwindow = 10\n'
        f'[[fields]]\nname = "a"\n[[fields]]\nname = "b"\n{models}'
    )
    rng = np.random.default_rng(0)
    parts = []
    for unit in ("u", "v"):
        rows = 480
        bad = (np.arange(rows) % 80 >= 70).astype(int)
        a = np.cumsum(rng.normal(0, 0.2, rows)) + 10 + 6 * bad
        parts.append(pl.DataFrame({"ts": 1.7e9 + 60.0 * np.arange(rows), "unit": [unit] * rows, "a": a,
                                   "b": rng.normal(5, 1, rows), "bad": bad}))  # fmt: skip
    pl.concat(parts).write_csv(tmp_path / "rows.csv")
    return tmp_path


def job_of(folder: Path, task: str) -> Job:
    stream = load_stream(folder / "streams" / "plant.toml")
    binding = next(each for each in stream.models if each.task == task)
    return Job(stream=stream, binding=binding, files=(folder / "rows.csv",), seed=1, epochs=2)


@pytest.mark.parametrize("task", sorted(OTHERS))
def test_usual_values_make_the_usual_model_and_others_another(folder: Path, task: str) -> None:
    job = job_of(folder, task)
    trainer, space = find_trainer(job.binding, "plant"), find_space(job.binding, "plant")
    plain = trainer(job)
    usual = trainer(replace(job, parameters={name: each.usual for name, each in space.items()}))
    assert usual.model == plain.model
    other = trainer(replace(job, parameters=OTHERS[task]))
    assert other.model != plain.model
    assert usual.validation is not None
    assert other.validation is not None
    assert usual.validation != other.validation
    assert set(OTHERS[task]) <= set(space)


@pytest.mark.parametrize("task", sorted(OTHERS))
def test_the_command_searches_and_goes_on(folder: Path, task: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["train", "plant", "--model", f"plant-{task}", "--epochs", "1", "--json", "--data"]
    command.append(str(folder / "rows.csv"))
    found = []
    for trials in (2, 3):
        assert run([*command, "--trials", str(trials)]) == 0
        found.append(json.loads(capsys.readouterr().out)["trained"][0]["metrics"]["tuning"])
    assert [each["trials"] for each in found] == [2, 3]
    assert found[0]["usual"] == found[1]["usual"] >= found[1]["best"]
    assert found[0]["best"] >= found[1]["best"]


def test_a_training_repeats_to_the_byte(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    made = []
    for out in ("once", "twice"):
        command = ["train", "plant", "--model", "plant-anomaly", "--json", "--out", str(folder / out)]
        command += ["--licence", "CC0-1.0", "--data"]
        assert run([*command, str(folder / "rows.csv")]) == 0
        made.append({path.name: path.read_bytes() for path in (folder / out / "plant-anomaly" / "1").iterdir()})
    assert made[0] == made[1]
    digest = hashlib.sha256((folder / "rows.csv").read_bytes()).hexdigest()
    command_line = b"dwcp-stream train plant --model plant-anomaly --seed 0 --licence CC0-1.0 --data rows.csv"
    assert b"Licence of the data: CC0-1.0." in made[0]["card.md"]
    for name in ("report.md", "card.md"):
        assert f"| rows.csv | {digest} |".encode() in made[0][name]
        assert command_line in made[0][name]


def test_trouble_lies_where_it_is_said_and_labels_are_not_looked_at(folder: Path) -> None:
    job = job_of(folder, "anomaly")
    grid = load_grid(job.stream, job.files, extra=("bad",))
    rows = grid.ends()
    early, late = rows[:150], rows[150:]
    troubled, on = with_trouble(grid, early, late, 3)
    changed = (troubled.values != grid.values) & np.isfinite(grid.values)
    assert set(np.flatnonzero(changed.any(axis=1))) == set(late[on])
    assert 0 < on.mean() < 0.3
    loss = validation_loss(grid, rows, Rates(), 3)
    assert 0.0 < loss < 0.9  # random scores have one less the share of rows with trouble, over 0.9
    turned = replace(grid, columns={"bad": 1.0 - grid.columns["bad"]})
    assert validation_loss(turned, rows, Rates(), 3) == loss
    assert validation_loss(grid, rows[:30], Rates(), 3) is None

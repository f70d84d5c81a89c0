"""Tiny runs of the whole way: files in, published version out, the same again with the same seed."""

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from dwcp_stream.cli.main import run
from dwcp_stream.errors import PayloadError
from dwcp_stream.registry import ModelRepository
from dwcp_stream.streams import StreamDefinition, load_streams
from dwcp_stream.streams.definition import Field, ModelBinding
from dwcp_stream.training.consensus.trainer import train_consensus
from dwcp_stream.training.job import Job
from dwcp_stream.training.publish import histogram
from dwcp_stream.training.rules import membership, robust_z
from dwcp_stream.training.trainers import find_trainer
from lab.links import simulate_links

STREAMS = Path(__file__).parents[2] / "config" / "streams"


@pytest.fixture(scope="module")
def streams() -> dict[str, StreamDefinition]:
    return load_streams(STREAMS)


def consensus_run(seed: int, rows: int = 400, *, faults: bool = True) -> pl.DataFrame:
    """Make a run like those of the lab: steady noise, and faults of 15 s in which a member is lost."""
    rng = np.random.default_rng(seed)
    label = np.zeros(rows, int)
    if faults:
        for start in (120, 250, 330):
            label[start : start + 15] = 1
    slow = np.where(label, 30.0, 1.0)
    p50 = 3.0 * np.exp(rng.normal(0, 0.1, rows)) * slow
    return pl.DataFrame(
        {
            "ts": 1.7e9 + seed * 10_000 + np.arange(rows, dtype=float),
            "queue_depth": rng.poisson(2 * slow),
            "proposals_pending": rng.poisson(1 * slow),
            "proposals_committed": rng.poisson(80 / slow),
            "latency_p50": p50,
            "latency_p95": 2 * p50,
            "latency_p99": 3 * p50 * np.exp(rng.normal(0, 0.2, rows)),
            "leader_changes": label * (rng.random(rows) < 0.3),
            "quorum_size": 3,
            "active_nodes": 5 - label,
            "network_tier": "1",
            "dwcp_mode": "hybrid",
            "consensus_type": "raft",
            "label": label,
            "fault_type": np.where(label, "a", ""),
        }
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("runs")
    paths = []
    for seed in range(4):
        paths.append(folder / f"run{seed}.csv.gz")
        consensus_run(seed, faults=seed > 0).write_csv(paths[-1], compression="gzip")
    return paths


@pytest.mark.slow
def test_train_and_evaluate_consensus(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DWCP_MODELS_DIR", str(tmp_path))
    monkeypatch.setenv("DWCP_STREAMS_DIR", str(STREAMS))
    files = [str(path) for path in runs]
    assert run(["train", "consensus", "--epochs", "8", "--json", "--data", *files, "--out", str(tmp_path)]) == 0
    trained = json.loads(capsys.readouterr().out)["trained"][0]
    assert trained["champion"]
    held_out = trained["metrics"]["held_out"]
    model = held_out["model"]
    assert model["found"] == model["events"] == 9  # every run with faults was held out once
    assert model["roc_auc"] > 0.95
    assert set(held_out) > {"p99/p50 > 3", "member missing or leader change"}

    repository = ModelRepository(tmp_path)
    manifest = repository.manifest("consensus-kinds")
    assert manifest.command.startswith("dwcp-stream train consensus --model consensus-kinds --seed 0 --epochs 8")
    report = (tmp_path / "consensus-kinds" / "1" / "report.md").read_text()
    assert manifest.command in report
    assert "robust z over 120 s > 6" in report
    names = {path.name for path in (tmp_path / "consensus-kinds" / "1").iterdir()}
    assert names >= {
        "model.onnx",
        "explain.onnx",
        "golden.npz",
        "manifest.json",
        "report.md",
        "scores_run1.png",
        "card.md",
    }
    assert manifest.kinds[-1] == "unknown"
    assert manifest.state_size > 0
    assert "| follower_lost | " in report  # the confusion matrix
    card = repository.card("consensus-kinds")
    assert "1600 samples of 4 entities, 2023-11-14 22:13 to 2023-11-15 06:39 (UTC)" in card
    assert f"| run3.csv.gz | {hashlib.sha256(runs[3].read_bytes()).hexdigest()} |" in card

    folder = tmp_path / "judged"
    assert run(["evaluate", "consensus-kinds", "--json", "--report", str(folder), "--data", files[3]]) == 0
    judged = json.loads(capsys.readouterr().out)["models"][0]
    assert pictures(Path(judged["report"])) == {"score.png", "roc.png", "pr.png"}
    assert judged["detectors"]["consensus-kinds"]["found"] == 3
    # a rule learns nothing, so both commands must count alike
    rule = "member missing or leader change"
    assert judged["detectors"][rule]["events"] * 3 == held_out[rule]["events"]
    assert held_out[rule]["false_alarms"] == judged["detectors"][rule]["false_alarms"] == 0
    repeats_with_peers(tmp_path, files, capsys)


def repeats_with_peers(tmp_path: Path, files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """The same command on the same files writes the same report; it carries their hashes and the command."""
    texts = []
    for folder in ("once", "twice"):
        words = ["evaluate", "consensus", "--report", str(tmp_path / folder), "--peers", "--train", files[1]]
        assert run([*words, "--data", files[2], files[3], "--json"]) == 0
        judged = json.loads(capsys.readouterr().out)["models"][0]
        texts.append(Path(judged["report"]).read_bytes())
    assert texts[0] == texts[1]
    report = texts[0].decode()
    for path in files[1:4]:
        assert hashlib.sha256(Path(path).read_bytes()).hexdigest() in report
    command = "dwcp-stream evaluate consensus-kinds --seed 0 --peers --train run1.csv.gz --data run2.csv.gz run3.csv.gz"
    assert f"\n    {command}\n" in report
    detectors = judged["detectors"]
    assert set(detectors) > {"consensus-kinds", "p99/p50 > 3", "PCA + mean of 5", "River HalfSpaceTrees"}
    assert judged["peers"]["said"] == "fitted on run1.csv.gz"
    # a fault of 15 s that multiplies everything is found by looking at the distribution of the quiet rows
    assert detectors["PCA + mean of 5"]["found"] == detectors["PCA + mean of 5"]["events"] == 6
    low, high = detectors["PCA + mean of 5"]["intervals"]["found"]
    assert 0.5 < low < high == 1.0
    assert judged["comparison"]["with"] in detectors
    assert judged["comparison"]["average_precision"]["verdict"] in {"better", "worse", "no difference shown"}


def pictures(report: Path) -> set[str]:
    """Pictures that a report shows, which must be beside it and nothing else."""
    shown = set(re.findall(r"!\[.*?\]\((.*?)\)", report.read_text()))
    assert shown == {path.name for path in report.parent.iterdir()} - {"report.md"}
    assert all((report.parent / name).read_bytes().startswith(b"\x89PNG") for name in shown)
    return shown


@pytest.mark.slow
def test_a_seed_repeats_a_model(runs: list[Path], streams: dict[str, StreamDefinition]) -> None:
    stream = streams["consensus"]

    def train(seed: int) -> bytes:
        job = Job(stream=stream, binding=stream.models[0], files=tuple(runs[:2]), seed=seed, epochs=1)
        return train_consensus(job).model

    first = train(0)
    assert train(0) == first
    assert train(1) != first


def test_training_needs_labels(streams: dict[str, StreamDefinition], tmp_path: Path) -> None:
    path = tmp_path / "plain.csv"
    consensus_run(0).drop("label", "fault_type").write_csv(path)
    stream = streams["consensus"]
    with pytest.raises(PayloadError, match="no column 'label'"):
        train_consensus(Job(stream=stream, binding=stream.models[0], files=(path,)))


@pytest.mark.slow
def test_train_and_evaluate_link(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DWCP_MODELS_DIR", str(tmp_path / "models"))
    monkeypatch.setenv("DWCP_STREAMS_DIR", str(STREAMS))
    path = tmp_path / "links.parquet"
    simulate_links(5, 1.1, 3, incidents=4.0).write_parquet(path)
    assert run(["train", "link", "--epochs", "1", "--json", "--data", str(path)]) == 0
    trained = json.loads(capsys.readouterr().out)["trained"][0]
    result = trained["metrics"]["known_entities"]["bandwidth_mbps+12"]
    assert set(result["baselines"]) == {"persistence", "seasonal naive", "autoregression", "window mean"}
    assert 0.3 < result["coverage"] <= 1.0
    words = ["evaluate", "link", "--json", "--report", str(tmp_path / "judged"), "--peers", "--data", str(path)]
    assert run(words) == 0
    judged = json.loads(capsys.readouterr().out)["models"][0]
    assert len(pictures(Path(judged["report"]))) == 13  # 12 forecasts and the training curves
    forecasts = judged["forecasts"]
    assert {(f["horizon"], f["target"]) for f in forecasts} == {
        (h, t) for h in (1, 6, 12) for t in ("bandwidth_mbps", "latency_ms", "packet_loss", "jitter_ms")
    }
    assert all(np.isfinite(f["mae"]) for f in forecasts)
    assert set(forecasts[0]["peers"]) == {"AR(12)"}  # half a day is no three seasons
    for row in forecasts:
        errors = {**row["simple"], **row["peers"]}
        assert row["comparison"]["with"] in errors
        assert row["entities"]["count"] == 5
        assert (row["entities"]["worse"] > 0) == (row["entities"]["worst_skill"] < 0)
        assert row["intervals"]["mae"][0] < row["mae"] < row["intervals"]["mae"][1]
    assert "halves" in judged["peers"]["said"]
    assert judged["trained_on"] == ["links.parquet"]
    report = (tmp_path / "models" / "link-forecast" / "1" / "report.md").read_text()
    assert "Test time, new entities" in report
    assert "autoregression" in report


def test_commands_name_what_they_do_not_know(
    capsys: pytest.CaptureFixture[str], runs: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DWCP_STREAMS_DIR", str(STREAMS))
    assert run(["train", "absent", "--data", str(runs[0])]) == 1
    assert "there is no stream 'absent'" in capsys.readouterr().err
    assert run(["train", "link", "--model", "absent", "--data", str(runs[0])]) == 1
    assert "has no model 'absent'" in capsys.readouterr().err
    assert run(["evaluate", "absent", "--data", str(runs[0])]) == 1
    assert "no stream and no model" in capsys.readouterr().err


def test_trainers_fit_the_streams(streams: dict[str, StreamDefinition]) -> None:
    found = {b.name: find_trainer(b, s.name).__name__ for s in streams.values() for b in s.models}
    assert found == {
        "consensus-kinds": "train_consensus",
        "node-gbt": "train_incident",
        "node-iforest": "train_forest",
        "link-forecast": "train_forecast",
    }


@pytest.mark.parametrize("task", ["anomaly", "incident", "forecast"])
def test_other_streams_get_the_default_trainer_whatever_their_models_are_called(task: str) -> None:
    for name in ("anything", "some-iforest", "some-lstm-ae", "some-gbt", "some-lstm"):
        module = find_trainer(ModelBinding(name=name, task=task), "boiler").__module__
        assert module == f"dwcp_stream.training.{task}.trainer"


def test_rules_on_a_known_run(streams: dict[str, StreamDefinition], runs: list[Path]) -> None:
    from dwcp_stream.training.dataset import load_grid  # noqa: PLC0415

    grid = load_grid(streams["consensus"], [runs[1]], extra=("label",))
    label = np.nan_to_num(grid.columns["label"]) > 0
    assert (membership(grid) > 1).tolist() == label.tolist()
    z = robust_z(grid) > 1
    assert z[label].mean() > 0.5
    assert z[~label & grid.filled].mean() < 0.1


def test_histogram_cuts_and_shares() -> None:
    gauge = histogram(np.array([np.nan, *np.arange(100.0)]), Field(name="x"))
    assert len(gauge["share"]) == len(gauge["edges"]) + 1 == 10
    assert sum(gauge["share"]) == pytest.approx(1.0)
    assert max(gauge["share"]) <= 0.11
    coded = histogram(np.array([0.0, 2.0, 2.0, np.nan]), Field(name="w", vocabulary=("a", "b", "c")))
    assert coded == {"edges": [0.5, 1.5], "share": [pytest.approx(1 / 3), 0.0, pytest.approx(2 / 3)]}
    constant = histogram(np.full(5, 7.0), Field(name="x"))
    assert constant == {"edges": [], "share": [1.0]}
    assert histogram(np.array([np.nan]), Field(name="x")) == {"edges": [], "share": [1.0]}

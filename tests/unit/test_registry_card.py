"""Model cards: figures found whatever trainer wrote them, facts that are in the files, and who may hold a card."""

import hashlib
import json
from pathlib import Path

import pytest

from dwcp_stream.cli.main import run
from dwcp_stream.errors import ModelError
from dwcp_stream.registry import ModelRepository
from dwcp_stream.registry.card import TrainingData, count_parameters, measure, write_card
from dwcp_stream.registry.card_figures import figures, groups, misses
from dwcp_stream.registry.manifest import build_manifest
from tests.model_graphs import make_files, make_manifest

METRICS = {
    "average_precision": 0.5,
    "roc_auc": 0.7,
    "by_severity": {"low": {"recall": 0.2}, "high": {"recall": 0.9}},
    "baselines": {
        "rule": {
            "average_precision": 0.2,
            "roc_auc": 0.75,
            "by_severity": {"low": {"recall": 0}, "high": {"recall": 1}},
        },
        "logistic": {"average_precision": 0.4, "roc_auc": 0.6},
    },
}
REPORT = b"# Tiny\n\n## Result\n\nGood.\n\n## Where it loses\n\n- On Sundays.\n\n## Plots\n\nNone.\n"


def test_figures_of_every_shape() -> None:
    first, second = figures(METRICS)
    assert (first.name, first.own, first.rule, first.best, first.best_name) == (
        "average precision", 0.5, 0.2, 0.4, "logistic",
    )  # fmt: skip
    assert first.gain == pytest.approx(0.1 / 0.6)
    assert (second.best_name, second.gain) == ("rule", pytest.approx(-0.05 / 0.25))
    forecast = {"known": {"load+4": {"mae": 3.0, "baselines": {"persistence": 5.0, "AR": 4.0}, "coverage": 0.6}}}
    (found,) = figures(forecast)
    assert (found.where, found.rule, found.best, found.gain) == ("known, load +4", 5.0, 4.0, pytest.approx(0.25))
    assert misses(forecast) == ["known, load +4: the interval covers 60%, not 80%."]
    detectors = {"test": {"model": {"roc_auc": 0.9}, "rule": {"roc_auc": 0.8}}, "vus_pr": {"model": 0.4, "PCA": 0.5}}
    assert [(f.where, f.name, f.gain > 0) for f in figures(detectors)] == [
        ("test", "ROC AUC", True), ("test rows", "VUS-PR", False),
    ]  # fmt: skip
    traded = {"test": {"model": {"found": 3, "events": 4}, "rule": {"found": 4, "events": 4}}}
    (share,) = figures(traded)
    assert (share.own, share.best, share.gain) == (0.75, 1.0, None)
    assert figures({"threshold": 1.0, "over": {"model": 0.1, "rule": 0.2}}) == []


def test_groups_are_the_models_own() -> None:
    (found,) = groups(METRICS)
    assert (found.where, found.best, found.worst) == ("found, by severity", ("high", 0.9), ("low", 0.2))


def test_a_card_says_what_is_known() -> None:
    plain = {**make_manifest("anomaly"), "metrics": METRICS}
    files = make_files("anomaly", plain, report=REPORT)
    manifest, _ = build_manifest(plain, name=plain["name"], version=1, files=files, where="")
    data = TrainingData({"a.csv": "f" * 64}, rows=1234, entities=5, first=0.0, last=86_400.0)
    card = write_card(manifest, files, data, p99=7.5)
    assert "1234 samples of 5 entities, 1970-01-01 00:00 to 1970-01-02 00:00 (UTC)" in card
    assert f"| a.csv | {'f' * 64} |" in card
    for text in (manifest.licence, manifest.data_sha256, manifest.command, *manifest.field_names):
        assert text in card
    good, bad = card.split("## Good at")[1].split("## Bad at")
    assert "average precision 0.5, beside 0.4 of logistic" in good
    assert "most of high (90%)" in good
    bad, size = bad.split("## Size and speed")
    assert "ROC AUC 0.7 is no better than 0.75 of rule" in bad
    assert "least of low (20%)" in bad
    assert "hardly" not in bad
    near = {**plain, "metrics": {**METRICS, "average_precision": 0.41}}
    manifest_near, _ = build_manifest(near, name=plain["name"], version=1, files=files, where="")
    assert "average precision hardly better than logistic (1.7%)" in write_card(manifest_near, files, None, None)
    assert "- On Sundays." in bad
    assert "None." not in bad
    assert "7.50 ms, NOT under 5 ms" in size
    count, single = count_parameters(files["model.onnx"])
    assert f"{count} numbers in the graph, float32" in size
    assert single
    assert "not recorded" in write_card(manifest, files, None, None)
    assert "not measured" in write_card(manifest, files, None, None)


def test_a_window_is_timed() -> None:
    assert 0.0 < measure(make_files("stateful")) < 1000.0


def test_the_command_prints_what_is_held_or_makes_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DWCP_MODELS_DIR", str(tmp_path))
    repository, manifest = ModelRepository(tmp_path), make_manifest("anomaly")
    name = manifest["name"]
    repository.publish(name, make_files("anomaly"), manifest)
    held = {**make_files("anomaly"), "card.md": b"# What was published\n"}
    repository.publish(name, held, manifest)
    assert repository.manifest(name, 2).files["card.md"] == hashlib.sha256(held["card.md"]).hexdigest()
    assert repository.verify(name, 2).ok
    cards = []
    for version in ("1", "2"):
        assert run(["models", "card", name, version, "--json"]) == 0
        cards.append(json.loads(capsys.readouterr().out)["card"])
    assert cards[0].startswith(f"# {name}\n")
    assert "Rows, entities and span are not recorded for this version." in cards[0]
    assert cards[1] == "# What was published\n"
    (tmp_path / name / "2" / "card.md").write_text("# Better\n")
    assert not repository.verify(name, 2).ok
    with pytest.raises(ModelError, match="SHA-256"):
        repository.card(name, 2)

"""A candidate trained on spoilt data is refused, one trained on good data is published."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from dwcp_stream.events import Alert, rfc3339
from dwcp_stream.history.retrain import Retrained, retrain
from dwcp_stream.registry import ModelRepository
from dwcp_stream.settings import Settings
from dwcp_stream.streams import load_streams
from tests.unit.history_cases import ANOMALY, FORECAST, INCIDENT, alert, history, judged, missed, sites

pytestmark = pytest.mark.slow

DAYS = 30
DAY = 86_400.0
ROOT = Path(__file__).parents[2]


def attempt(folder: Path, model: str, table: pl.DataFrame, **given: Any) -> Retrained:
    settings, stream = sites(folder, model)
    return retrain(
        settings, stream, stream.models[0], table, given.pop("alerts", ()), given.pop("feedback", ()), epochs=5, **given
    )


def spoilt(table: pl.DataFrame, how: str) -> pl.DataFrame:
    """Change the load before the hold-out."""
    ts = table["ts"].to_numpy()
    early = ts < ts.max() - 0.2 * (ts.max() - ts.min())
    load = table["load"].to_numpy().copy()
    rng = np.random.default_rng(1)
    changed = {
        "shuffled": lambda: rng.permutation(load[early]),
        "scaled": lambda: load[early] * rng.choice([0.1, 10.0], early.sum()),
        "constant": lambda: np.full(early.sum(), 50.0),
    }
    load[early] = changed[how]()
    return table.with_columns(load=load)


def with_faults(table: pl.DataFrame) -> tuple[pl.DataFrame, list[Alert]]:
    """Make the load of each site three times as large for six hours of every third day; and the alerts of that."""
    rng = np.random.default_rng(3)
    alerts = []
    begins, load = float(table["ts"].min()), pl.col("load")  # type: ignore[arg-type]
    for site in table["site"].unique().sort():
        for day in range(2, DAYS - 1, 3):
            start = begins + day * DAY + 3600 * float(rng.integers(0, 20))
            alerts.append(alert(site, start, start + 6 * 3600, stream="sites"))
            inside = (pl.col("site") == site) & pl.col("ts").is_between(start, start + 6 * 3600)
            load = pl.when(inside).then(3 * pl.col("load")).otherwise(load)
    return table.with_columns(load.alias("load")), alerts


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a model serves that was trained on good data."""
    folder = tmp_path_factory.mktemp("served")
    first = attempt(folder, FORECAST, history(DAYS))
    assert first.version == 1
    assert first.champion
    assert first.comparison is not None
    assert first.comparison.champion is None
    return folder


def test_a_candidate_of_good_data_is_published_with_the_comparison(served: Path):
    told: list[float] = []
    found = attempt(served, FORECAST, history(DAYS, seed=1), progress=lambda share, _: told.append(share))
    assert found.reasons == ()
    assert found.version == 2
    assert not found.champion
    assert found.comparison is not None
    assert found.comparison.champion == 1
    assert found.comparison.relative < 1.05
    for line in found.comparison.forecasts:
        assert line.mae < line.persistence_mae
        assert line.n == line.champion_n > 300
        assert 0.6 < line.coverage < 0.95
    repository = ModelRepository(served / "models")
    assert repository.aliases("sites-any") == {"champion": 1}
    assert "## Hold-out" in (served / "models" / "sites-any" / "2" / "report.md").read_text()
    assert repository.manifest("sites-any", 2).metrics["holdout"]["acceptable"] is True
    assert told == sorted(told)
    assert told[-1] == 1.0


@pytest.mark.parametrize("how", ["shuffled", "scaled", "constant"])
def test_a_candidate_of_spoilt_data_is_refused(served: Path, how: str):
    before = ModelRepository(served / "models").versions("sites-any")
    found = attempt(served, FORECAST, spoilt(history(DAYS, seed=2), how))
    assert found.version is None
    assert found.reasons
    assert ModelRepository(served / "models").versions("sites-any") == before
    assert ModelRepository(served / "models").aliases("sites-any") == {"champion": 1}


def test_a_detector_of_spoilt_data_is_refused(tmp_path: Path):
    first = attempt(tmp_path, ANOMALY, history(DAYS, seed=2))
    assert first.version == 1
    assert first.comparison is not None
    assert first.comparison.champion == 0  # the detector that needs no training
    again = attempt(tmp_path, ANOMALY, history(DAYS, seed=2))
    assert again.version == 2
    assert again.comparison is not None
    assert again.comparison.made_up_found == again.comparison.made_up == 9
    deaf = attempt(tmp_path, ANOMALY, spoilt(history(DAYS, seed=2), "scaled"))
    assert deaf.version is None
    assert "made-up troubles" in deaf.reasons[0]
    for how in ("shuffled", "constant"):
        noisy = attempt(tmp_path, ANOMALY, spoilt(history(DAYS, seed=2), how))
        assert noisy.version is None
        assert "it fires at" in noisy.reasons[0]
    assert ModelRepository(tmp_path / "models").versions("sites-odd") == [1, 2]


def test_an_incident_model_learns_from_what_was_judged_and_wrong_labels_are_refused(tmp_path: Path):
    table, alerts = with_faults(history(DAYS, seed=3))
    said = [judged("true", about) for about in alerts]
    first = attempt(tmp_path, INCIDENT, table, alerts=alerts, feedback=said)
    assert first.version == 1
    assert first.comparison is not None
    assert first.comparison.alarms is not None
    assert first.comparison.alarms.average_precision > 0.9 > first.comparison.prevalence
    assert first.data["alerts"]["true"] == len(alerts)
    begins = float(table["ts"].min())  # type: ignore[arg-type]
    wrong = [judged("false" if about.starts_at < rfc3339(begins + 24 * DAY) else "true", about) for about in alerts]
    wrong += [missed(f"s{i % 3}", begins + DAY * (0.5 + 0.9 * i), stream="sites") for i in range(24)]
    second = attempt(tmp_path, INCIDENT, table, alerts=alerts, feedback=wrong)
    assert second.version is None
    assert any("average precision" in reason for reason in second.reasons)


@pytest.mark.slow
def test_the_consensus_model_learns_kinds_from_what_was_judged(tmp_path: Path):
    stream = load_streams(ROOT / "config" / "streams")["consensus"]
    parts, alerts = [], []
    for file in sorted((ROOT / "lab" / "recordings").glob("*.csv.gz")):
        run, name = pl.read_csv(file, infer_schema_length=None), file.name.split(".")[0]
        ts = run["ts"].to_numpy() - run["ts"][0] + 1_760_000_000.0  # side by side
        parts.append(run.select(pl.Series("ts", ts), pl.lit(name).alias("cluster_id"), *stream.field_names))
        words = run["label"].cast(pl.String).fill_null("").to_list()
        for word, rows in itertools.groupby(range(len(words)), key=words.__getitem__):
            if word not in {"", "0"}:
                first, *_, last = [*rows] * 2
                alerts.append(alert(name, float(ts[first]), float(ts[last]), stream="consensus", kind=word))
    table = pl.concat(parts, how="diagonal_relaxed").sort("ts")
    settings = Settings(models_dir=tmp_path / "models")
    said = [judged("true", about) for about in alerts]
    found = retrain(settings, stream, stream.models[0], table, alerts, said)
    assert found.version == 1, found.reasons
    assert found.comparison is not None
    assert found.comparison.alarms is not None
    assert found.comparison.alarms.found == found.comparison.troubles == 3
    report = (tmp_path / "models" / "consensus-kinds" / "1" / "report.md").read_text()
    assert "| quorum_lost | " in report


def test_an_incident_model_without_judged_alerts_is_not_published(tmp_path: Path):
    found = attempt(tmp_path, INCIDENT, history(DAYS))
    assert found.version is None
    assert "0 rows in an incident" in found.reasons[0]


def test_too_little_data_is_a_reason(tmp_path: Path):
    found = attempt(tmp_path, FORECAST, history(1))
    assert found.version is None
    assert "too few" in found.reasons[0]
    assert found.comparison is None
    assert found.plain()["data"]["rows"] > 0

"""A candidate trained on spoilt data is refused, one trained on good data is published."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from dwcp_stream.history.retrain import Retrained, retrain
from dwcp_stream.registry import ModelRepository
from tests.unit.history_cases import FORECAST, history, sites

DAYS = 30


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


def test_too_little_data_is_a_reason(tmp_path: Path):
    found = attempt(tmp_path, FORECAST, history(1))
    assert found.version is None
    assert "too few" in found.reasons[0]
    assert found.comparison is None
    assert found.plain()["data"]["rows"] > 0

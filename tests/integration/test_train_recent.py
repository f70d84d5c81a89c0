"""`dwcp-stream train --recent` on a real broker: from the topic, then from the archive; a spoilt history is refused."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from dwcp_stream.cli.main import run
from dwcp_stream.kafka.catalogue import catalogue
from dwcp_stream.kafka.replay import read_files, replay
from dwcp_stream.kafka.topics import admin_client, create_topics
from dwcp_stream.registry import ModelRepository
from dwcp_stream.streams import StreamDefinition
from tests.integration.harness import make_settings
from tests.unit.history_cases import FORECAST, history, sites

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

DAYS = 20


def to_now(table: pl.DataFrame) -> pl.DataFrame:
    """Move a history so that its last row is a minute ago."""
    return table.with_columns(pl.col("ts") - float(table["ts"].max()) + float(int(time.time()) - 60))  # type: ignore[arg-type]


@pytest.fixture
def site(kafka, topic_prefix: str, unique: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StreamDefinition:
    """A stream with its topics, and the environment that the commands read."""
    settings, stream = sites(tmp_path, FORECAST)
    for name, value in {
        "KAFKA__BOOTSTRAP_SERVERS": kafka.bootstrap,
        "TOPICS__PREFIX": topic_prefix,
        "APP_ID": unique,
        "STREAMS_DIR": str(settings.streams_dir),
        "MODELS_DIR": str(settings.models_dir),
        "ARCHIVE__DIR": str(tmp_path / "archive"),
    }.items():
        monkeypatch.setenv(f"DWCP_{name}", value)
    return stream


async def send(kafka: Any, prefix: str, stream: StreamDefinition, table: pl.DataFrame, folder: Path) -> None:
    """Create the topics that are missing, and send a table's samples with their own times."""
    settings = make_settings(kafka.bootstrap, topics={"prefix": prefix})
    async with admin_client(settings) as admin:
        await create_topics(admin, catalogue(prefix, 2, streams=[stream]))
    table.write_parquet(folder / "history.parquet")
    await replay(settings, stream, read_files([folder / "history.parquet"], stream))


def command(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> dict[str, Any]:
    capsys.readouterr()
    assert run([*words, "--json"]) == code
    printed: dict[str, Any] = json.loads(capsys.readouterr().out)
    return printed


def test_recent_telemetry_is_trained_on_and_a_spoilt_one_is_refused(
    kafka: Any, site: StreamDefinition, topic_prefix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = to_now(history(DAYS))
    asyncio.run(send(kafka, topic_prefix, site, table, tmp_path))
    first = command(capsys, "train", "sites", "--recent", "15d", "--epochs", "3")
    inside = len(table.filter(pl.col("ts") >= first["since"]))
    assert first["samples"] == inside < len(table)
    trained = first["trained"][0]
    assert (trained["version"], trained["champion"], trained["reasons"]) == (1, True, [])
    assert trained["data"]["rows"] + trained["data"]["holdout"] == inside
    line = trained["comparison"]["forecasts"][0]
    assert line["mae"] < line["persistence_mae"]
    repository = ModelRepository(tmp_path / "models")
    assert repository.manifest("sites-any").command.endswith("--recent 1296000s --source kafka")
    assert (Path(trained["folder"]) / "report.md").is_file()

    archived = command(capsys, "archive", "sites", "--once")
    assert (archived["samples"], archived["invalid"]) == (len(table), 0)
    again = command(capsys, "train", "sites", "--recent", "15d", "--source", "archive", "--epochs", "3", "--seed", "1")
    assert again["samples"] == pytest.approx(inside, abs=6)  # an hour a row, three sites: the clock has gone on
    assert again["trained"][0]["version"] == 2
    assert repository.aliases("sites-any") == {"champion": 1}

    # the same again from another prefix's topic, with values that have nothing to do with each other but at the end
    ts = table["ts"].to_numpy()
    early = ts < ts.max() - 4 * 86_400.0
    load = table["load"].to_numpy().copy()
    load[early] = np.random.default_rng(0).permutation(load[early])
    other = f"{topic_prefix}x."
    asyncio.run(send(kafka, other, site, table.with_columns(load=load), tmp_path))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DWCP_TOPICS__PREFIX", other)
        spoilt = command(capsys, "train", "sites", "--recent", "15d", "--epochs", "3", code=1)
    assert spoilt["trained"][0]["version"] is None
    assert "its mean error is" in spoilt["trained"][0]["reasons"][0]
    assert repository.versions("sites-any") == [1, 2]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train", "sites"], "either --data FILE or --recent TIME"),
        (["train", "sites", "--recent", "soon"], "no length of time"),
        (["train", "sites", "--recent", "1d", "--entity", "x"], "go with --data"),
    ],
)
def test_wrong_use_is_said(
    words: list[str], said: str, site: StreamDefinition, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words) == 2
    assert said in capsys.readouterr().err

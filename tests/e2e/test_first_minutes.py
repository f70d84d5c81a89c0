"""From a CSV to alerts in three commands, as typed in an empty folder; before a model is trained, too."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.integration.harness import make_settings, read_topic, wait_until

pytestmark = pytest.mark.kafka

PROJECT = Path(__file__).resolve().parents[2]
PATIENCE = 120.0
STEP = 300
ROWS = 1500
METRICS = 19


def server(rows, begin, seed):
    """Metrics of a server with a daily rhythm, between 0 and 1 as those of a monitoring system that scales them."""
    rng = np.random.default_rng(seed)
    ts = begin + STEP * np.arange(rows)
    day = np.sin(2 * np.pi * (ts % 86400) / 86400)[:, None]
    load = 0.5 + 0.2 * day * rng.uniform(0.3, 1.0, METRICS) + 0.02 * rng.standard_normal((rows, METRICS))
    return pl.DataFrame({"timestamp": ts, **{f"m{i + 1}": load[:, i].clip(0, 1) for i in range(METRICS)}})


@pytest.fixture
def site(kafka, tmp_path, topic_prefix):
    """An empty folder but for the CSV, and how to run commands there."""
    begin = int(time.time()) // STEP * STEP - STEP * (ROWS + 200)
    server(ROWS, begin, 1).write_csv(tmp_path / "web-1.csv")
    live = server(150, begin + STEP * ROWS, 2)
    spoilt = live.with_row_index().with_columns(
        pl.when(pl.col("index") >= 100).then(pl.lit(0.99)).otherwise(pl.col(f"m{i}")).alias(f"m{i}") for i in (2, 3, 5)
    )
    (tmp_path / "live").mkdir()
    spoilt.drop("index").write_csv(tmp_path / "live" / "web-1.csv")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("DWCP_")} | {
        "DWCP_KAFKA__BOOTSTRAP_SERVERS": kafka.bootstrap,
        "DWCP_TOPICS__PREFIX": topic_prefix,
        "DWCP_APP_ID": f"{topic_prefix}app",
        "DWCP_TOPICS__PARTITIONS": "1",
        "DWCP_HTTP__PORT": "0",
        "COLUMNS": "200",
        "PYTHONPATH": str(PROJECT),
    }

    def command(*words):
        done = subprocess.run(
            [sys.executable, "-m", "dwcp_stream", *words],
            cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    @contextlib.contextmanager
    def worker():
        log = tmp_path / "worker.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "dwcp_stream", "worker"], cwd=tmp_path, env=environment, stdout=out, stderr=out
            )
        try:
            yield process, log
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0, log.read_text()[-3000:]

    command.worker = worker
    command.folder = tmp_path
    command.settings = make_settings(kafka.bootstrap, topics={"prefix": topic_prefix})
    return command


def started(process, log):
    """Wait until the worker has made its topics and says that it starts."""

    def said():
        assert process.poll() is None, log.read_text()[-3000:]
        return "worker starting" in log.read_text()

    asyncio.run(wait_until(said, lambda: log.read_text()[-3000:], PATIENCE, every=0.1))


def alerts(site, process, log):
    """Wait for the first alert; returns all that there are."""
    topic = f"{site.settings.topics.prefix}anomalies"

    async def there():
        assert process.poll() is None, log.read_text()[-3000:]
        return await read_topic(site.settings, topic)

    found = asyncio.run(wait_until(there, lambda: log.read_text()[-3000:], PATIENCE))
    return [json.loads(record.value) for record in found]


@pytest.mark.slow
@pytest.mark.parametrize("trained", [True, False], ids=["trained", "untrained"])
def test_three_commands(site, trained):
    shown = site("streams", "infer", "web-1.csv")
    assert "median of 1499 gaps is 300 s" in shown
    if trained:
        assert "web-1-anomaly version 1 (champion)" in site("train", "web-1", "--data", "web-1.csv")
    with site.worker() as (process, log):
        started(process, log)
        site("replay", "web-1", "--data", "live/web-1.csv", "--speed", "max")
        first = alerts(site, process, log)[0]
    assert first["labels"]["stream"] == "web-1"
    assert first["labels"]["entity"] == "web-1"
    assert first["labels"]["model"] == "web-1-anomaly"
    text = json.dumps(first)
    assert ('"degraded"' in text) is not trained

"""accuracy and feedback as a user types them, on what a worker's pipeline has published to Kafka."""

import asyncio
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from dwcp_stream.backtest import backtest
from dwcp_stream.events import Output
from dwcp_stream.kafka.clients import producer_client
from dwcp_stream.kafka.topics import admin_client, create_topics, expected_topics
from dwcp_stream.loading import bound_models
from dwcp_stream.pipeline import Pipeline
from dwcp_stream.settings import Settings
from dwcp_stream.streams import load_streams
from dwcp_stream.streams.files import read_table, rows_to_records
from lab.links import simulate_links
from tests.integration.harness import make_settings

pytestmark = [pytest.mark.kafka, pytest.mark.slow]
ROOT = Path(__file__).resolve().parents[2]


def made(name: str, path: Path, entity: str | None = None) -> list[Output]:
    """What a shipped stream makes of a file."""
    stream = load_streams(ROOT / "config/streams")[name]
    pipeline = Pipeline(stream, bound_models(Settings(models_dir=ROOT / "models"), stream), check_ahead=False)
    records = rows_to_records(read_table(path, stream, entity), stream)
    return [output for result in backtest(pipeline, records) for output in result.outputs]


async def publish(settings: Settings, outputs: list[Output]) -> None:
    async with admin_client(settings) as admin:
        await create_topics(admin, expected_topics(settings))
    async with producer_client(settings) as producer:
        for output in outputs:
            topic = settings.topics.prefix + output.topic
            await producer.send(topic, output.value, output.key, headers=output.headers)
        await producer.flush()


def bodies_of(outputs: list[Output]) -> bytes:
    """A good payload of realised errors, to be sent without its id."""
    return next(output.value for output in outputs if output.topic == "accuracy")


def alert_of(outputs: list[Output]) -> bytes:
    """A good payload of an alert."""
    return next(output.value for output in outputs if output.topic == "anomalies")


@pytest.fixture
def cli(kafka, topic_prefix):
    """Run `dwcp-stream` against the broker."""
    environment = os.environ | {
        "DWCP_KAFKA__BOOTSTRAP_SERVERS": kafka.bootstrap, "DWCP_TOPICS__PREFIX": topic_prefix, "COLUMNS": "220",
    }  # fmt: skip

    def run(*arguments: str, code: int = 0, **more: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "dwcp_stream", *arguments], cwd=ROOT, env=environment | more, capture_output=True,
            text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout if code == 0 else done.stderr

    return run


def test_errors_and_judgements_become_figures(cli, kafka, topic_prefix, tmp_path):
    settings = make_settings(kafka.bootstrap, topics={"prefix": topic_prefix, "partitions": 2})
    assert "topics create" in cli("accuracy", code=1)
    simulate_links(4, 2, 5).write_parquet(tmp_path / "links.parquet")
    outputs = [o for o in made("link", tmp_path / "links.parquet") if o.topic == "accuracy"]
    outputs += [o for o in made("consensus", ROOT / "tests/data/etcd/dev_r3.csv.gz", "lab") if o.topic == "anomalies"]
    bodies = [json.loads(o.value) for o in outputs if o.topic == "accuracy"]
    firing = [json.loads(o.value) for o in outputs if o.topic == "anomalies"]
    firing = [body for body in firing if body["action"] == "firing"]
    assert bodies
    assert len(firing) >= 3
    # twice: what a crash repeats counts once
    asyncio.run(publish(settings, outputs * 2))

    first, *_, last = firing
    said = json.loads(cli("feedback", "true", first["fingerprint"], "--at", first["startsAt"], "--json"))
    assert (said["verdict"], said["entity"], said["startsAt"][:19]) == ("true", first["entity"], first["startsAt"][:19])
    assert "a false alarm" in cli("feedback", "false", last["fingerprint"][:20], "--note", "maintenance")
    assert "was missing" in cli("feedback", "missed", "consensus", "lab", "--at", first["startsAt"])
    assert "there is no alert 'zz'" in cli("feedback", "true", "zz", code=1)
    assert "there is no alert" in cli("feedback", "true", "", "--at", "2020-01-01T00:00Z", code=1)
    assert "there is no stream" in cli("feedback", "missed", "linc", "x", "--at", first["startsAt"], code=1)

    junk = [("accuracy", bodies_of(outputs)), ("accuracy", b"{"), ("anomalies", b"[" * 100_000), ("feedback", b"{}")]
    junk.append(("anomalies", re.sub(rb'"startsAt":"[^"]*"', b'"startsAt":"soon"', alert_of(outputs))))
    asyncio.run(publish(settings, [Output(topic, b"", value, []) for topic, value in junk]))
    found = json.loads(cli("accuracy", "--hours", "1000", "--hours", "1", "--json"))
    whole = {(r["horizon"], r["target"]): r for r in found["forecasts"] if r["hours"] == 1000}
    for (horizon, target), row in whole.items():
        mine = [b for b in bodies if (b["horizon"], b["target"]) == (horizon, target)]
        assert row["n"] == sum(b["n"] for b in mine)
        assert row["mae"] == pytest.approx(sum(b["abs_error"] for b in mine) / row["n"])
        assert row["coverage"] == pytest.approx(sum(b["covered"] for b in mine) / row["n"])
    assert {b["horizon"] for b in bodies} == {horizon for horizon, _ in whole}
    hour = [r for r in found["forecasts"] if r["hours"] == 1]
    assert hour
    assert max(r["n"] for r in hour) <= 4 * 60
    (row,) = found["alerts"]
    counts = {name: row[name] for name in ("alerts", "true", "false", "missed")}
    assert counts == {"alerts": len(firing), "true": 1, "false": 1, "missed": 1}
    assert (row["precision"], row["recall"]) == (0.5, 0.5)
    assert (found["feedback_without_alert"], found["unreadable"]) == (0, 5)
    shown = cli("accuracy", "consensus")
    assert "judgements that do not count" not in shown
    assert "0.50 (0.09 to 0.91)" in shown
    assert json.loads(cli("accuracy", "node", "--json"))["forecasts"] == []

    # from here on the settings name a key, and only what it has signed counts
    keys = []
    for name in ("alice", "mallory"):
        made_key = json.loads(cli("control", "keygen", str(tmp_path / f"{name}.key"), "--json"))
        keys.append(made_key["public"])
    strict = {"DWCP_FEEDBACK__KEYS": json.dumps({"alice": keys[0]})}
    judge = ["feedback", "false", first["fingerprint"], "--at", first["startsAt"]]
    cli(*judge, "--key", str(tmp_path / "alice.key"), **strict)
    cli(*judge, "--key", str(tmp_path / "mallory.key"), "--as", "alice", **strict)
    cli(*judge, "--key", str(tmp_path / "mallory.key"), **strict)
    found = json.loads(cli("accuracy", "--json", **strict))
    (row,) = found["alerts"]
    assert (row["true"], row["false"], row["missed"], row["precision"]) == (0, 1, 0, 0.0)
    assert found["feedback_refused"] == {"unsigned": 4, "unknown_key": 1, "bad_signature": 1}
    assert "none of feedback.keys has signed them: 1 bad_signature, 1 unknown_key, 4 unsigned" in cli(
        "accuracy", **strict
    )

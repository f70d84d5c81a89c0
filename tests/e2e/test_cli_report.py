"""The card of a week, as a user asks for it, of what pipelines and people have written to Kafka."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from dwcp_stream.backtest import backtest
from dwcp_stream.events import ModelDecision, ModelEvent, Output, rfc3339
from dwcp_stream.kafka.clients import producer_client
from dwcp_stream.kafka.topics import admin_client, create_topics, expected_topics
from dwcp_stream.loading import bound_models
from dwcp_stream.pipeline import Pipeline
from dwcp_stream.registry import ModelRepository
from dwcp_stream.registry.payload import build_decision, build_model_event
from dwcp_stream.registry.promotion import promote, rollback
from dwcp_stream.settings import Settings
from dwcp_stream.streams import load_streams
from dwcp_stream.streams.files import read_table, rows_to_records
from lab.links import simulate_links
from tests.integration.harness import make_settings
from tests.model_graphs import publish_twice

pytestmark = [pytest.mark.kafka, pytest.mark.slow]
ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "models"


def made(name: str, path: Path, topic: str, entity: str | None = None) -> list[Output]:
    """What a shipped stream publishes of a file."""
    stream = load_streams(ROOT / "config/streams")[name]
    pipeline = Pipeline(stream, bound_models(Settings(models_dir=SHIPPED), stream), check_ahead=False)
    records = rows_to_records(read_table(path, stream, entity), stream)
    return [o for result in backtest(pipeline, records) for o in result.outputs if o.topic == topic]


async def publish(settings: Settings, outputs: list[Output]) -> None:
    async with admin_client(settings) as admin:
        await create_topics(admin, expected_topics(settings))
    async with producer_client(settings) as producer:
        for output in outputs:
            topic = settings.topics.prefix + output.topic
            await producer.send(topic, output.value, output.key, headers=output.headers)
        await producer.flush()


def test_a_week_that_was_written_to_kafka(kafka, topic_prefix, tmp_path):
    models = ModelRepository(tmp_path / "models")
    publish_twice(ModelRepository(SHIPPED), models, "link-forecast")
    promote(models, "link-forecast", 2, by="trainer", reason="better on a day")
    rollback(models, "link-forecast", by="alice", reason="worse at night")
    environment = os.environ | {
        "DWCP_KAFKA__BOOTSTRAP_SERVERS": kafka.bootstrap, "DWCP_TOPICS__PREFIX": topic_prefix,
        "DWCP_MODELS_DIR": str(tmp_path / "models"), "DWCP_STREAMS_DIR": str(ROOT / "config/streams"),
        "PYTHONPATH": str(ROOT),
    }  # fmt: skip

    def cli(*arguments: str, code: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "dwcp_stream", *arguments], cwd=tmp_path, env=environment, capture_output=True,
            text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout if code == 0 else done.stderr

    assert "topics create" in cli("report", code=1)
    simulate_links(4, 2, 5).write_parquet(tmp_path / "links.parquet")
    errors = made("link", tmp_path / "links.parquet", "accuracy")
    alerts = made("consensus", ROOT / "tests/data/etcd/dev_r3.csv.gz", "anomalies", "lab")
    time = rfc3339(1.7e9)
    told = ModelEvent(
        stream="link", model="link-forecast", alias="champion", version=2, action="loaded", reason="", serving=2,
        event_time=time,
    )  # fmt: skip
    decided = ModelDecision(
        stream="link", model="link-forecast", decision="promoted", version=2, champion=2, reason="better on a day",
        numbers={"skill": 0.3}, event_time=time,
    )  # fmt: skip
    settings = make_settings(kafka.bootstrap, topics={"prefix": topic_prefix, "partitions": 2})
    outputs = [*errors, *alerts, build_model_event(told), build_decision(decided)]
    asyncio.run(publish(settings, [*outputs, *outputs, Output("models", b"", b"{", [])]))
    firing = [body for body in (msgspec.json.decode(o.value) for o in alerts) if body["action"] == "firing"]
    cli("feedback", "true", firing[0]["fingerprint"], "--at", firing[0]["startsAt"])

    found = json.loads(cli("report", "--json"))
    (row,) = found["alerts"]
    assert (row["alerts"], row["true"], row["false"], row["precision"]) == (len(firing), 1, 0, 1.0)
    assert sum(day["alerts"] for day in found["alerts_per_day"]) == len(firing)
    bodies = [msgspec.json.decode(o.value) for o in errors]
    assert sum(line["n"] for line in found["forecasts"]) == sum(body["n"] for body in bodies)
    assert sum(day["n"] for day in found["coverage_per_day"]) == sum(body["n"] for body in bodies)
    worse = {(line["horizon"], line["target"]) for line in found["forecasts"] if (line["skill"] or 0) < 0}
    assert {(line["horizon"], line["target"]) for line in found["worse_than_repeating"]} == worse
    assert [(e["action"], e["version"]) for e in found["versions"]] == [("loaded", 2)]
    assert [(d["decision"], d["numbers"]) for d in found["decisions"]] == [("promoted", {"skill": 0.3})]
    assert [(c["what"], c["version"], c["by"]) for c in found["champions"][-2:]] == [
        ("promotion", 2, "trainer"),
        ("rollback", 1, "alice"),
    ]
    assert found["unreadable"] == 1

    assert "wrote week.md and week.png" in cli("report", "link", "--out", "week.md")
    text = (tmp_path / "week.md").read_text()
    assert "![alerts and coverage by day](week.png)" in text
    assert "worse at night" in text
    assert "No alert was raised" in text, "of the stream link"
    assert (tmp_path / "week.png").read_bytes().startswith(b"\x89PNG")
    assert "consensus-kinds" in cli("report")
    assert "there is no stream 'linc'" in cli("report", "linc", code=1)
    assert "cannot be written" in cli("report", "--out", "nowhere/week.md", code=1)

"""Alerts explained from the records in a real broker: the score again, bit for bit, for models of three kinds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from dwcp_stream.backtest import Record, read_records
from dwcp_stream.chunk import Chunk
from dwcp_stream.demo.scenario import liveliest
from dwcp_stream.events import Alert, rfc3339
from dwcp_stream.explanation import explain
from dwcp_stream.explanation.picture import draw
from dwcp_stream.kafka.batches import write_rows
from dwcp_stream.kafka.catalogue import catalogue
from dwcp_stream.kafka.clients import producer_client
from dwcp_stream.kafka.inspection import source_topic
from dwcp_stream.kafka.producer import key_hash
from dwcp_stream.kafka.rerun import Rerun, find_alert, rerun
from dwcp_stream.kafka.topics import admin_client, create_topics
from dwcp_stream.loading import BoundModels, find_stream
from dwcp_stream.pipeline import Pipeline
from dwcp_stream.settings import Settings
from dwcp_stream.streams import load_stream
from dwcp_stream.streams.files import rows_to_records
from lab.nodes import simulate_nodes
from tests.integration import probe
from tests.integration.harness import make_settings

pytestmark = pytest.mark.kafka

ROOT = Path(__file__).parents[2]
PARTITIONS = 3
KEPT = 90
"""Newest records that are still in the topic: enough for the windows of the last alert, not for what is remembered."""


async def site(kafka: Any, unique: str, tmp_path: Path, name: str) -> Settings:
    """Settings and topics for one of the streams that ship, or the probe."""
    streams = tmp_path / "streams"
    models: Path = ROOT / "models"
    if name == probe.STREAM:
        models = tmp_path / "models"
        probe.publish_model(models, probe.write_definition(streams, "probe"))
    else:
        streams.mkdir()
        (streams / f"{name}.toml").write_text((ROOT / f"config/streams/{name}.toml").read_text())
    settings = make_settings(
        kafka.bootstrap, topics={"prefix": f"{unique}."}, app_id=unique, streams_dir=streams, models_dir=str(models)
    )
    async with admin_client(settings) as admin:
        await create_topics(admin, catalogue(f"{unique}.", PARTITIONS, streams=[load_stream(streams / f"{name}.toml")]))
    return settings


async def history(settings: Settings, name: str, records: Iterable[Record], lost: int = 0) -> list[tuple[str, Alert]]:
    """Write records and the alerts that a worker makes of them, which it takes in larger chunks; return the alerts.

    The first `lost` records of each partition are not in the topic any more.
    """
    stream = find_stream(settings, name)
    pipeline = Pipeline(stream, BoundModels(settings, stream).first())
    rows: dict[int, list[Any]] = defaultdict(list)
    for key, value, stamp in records:
        rows[key_hash(key) % PARTITIONS].append((key, value, [], stamp))
    found = []
    async with producer_client(settings) as producer:
        await write_rows(producer, source_topic(settings, stream), {p: held[lost:] for p, held in rows.items()})
        out: dict[int, list[Any]] = defaultdict(list)
        for partition, held in rows.items():
            keys, values, stamps = [r[0] for r in held], [r[1] for r in held], [r[3] for r in held]
            offsets = np.arange(len(held), dtype=np.int64)
            chunk = Chunk(stream.topic, partition, offsets, np.array(stamps, np.int64), keys, values)
            for message in pipeline.process(chunk).outputs:
                if message.topic == "anomalies":
                    stamp = stamps[-1]
                    out[key_hash(message.key) % PARTITIONS].append((message.key, message.value, message.headers, stamp))
                    ce_id = dict(message.headers)["ce_id"].decode()
                    found.append((ce_id, msgspec.json.decode(message.value, type=Alert)))
        await write_rows(producer, f"{settings.topics.prefix}anomalies", dict(out))
    return found


async def again(settings: Settings, alert_id: str) -> tuple[Alert, Rerun, Any]:
    alert = await find_alert(settings, alert_id)
    stream = find_stream(settings, alert.stream)
    model = BoundModels(settings, stream).load(alert.model, alert.model_version)
    at = datetime.fromisoformat(alert.event_time).timestamp()
    found = await rerun(settings, stream, model, alert.entity, at, alert.score)
    assert found is not None
    why = explain(model, stream, alert.entity, found.seen, told=alert.score, trail=found.trail)
    return alert, found, why


def cli(settings: Settings, *words: str) -> Any:
    environment = {
        **os.environ,
        "DWCP_KAFKA__BOOTSTRAP_SERVERS": settings.kafka.bootstrap_servers,
        "DWCP_TOPICS__PREFIX": settings.topics.prefix,
        "DWCP_STREAMS_DIR": str(settings.streams_dir),
        "DWCP_MODELS_DIR": str(settings.models_dir),
    }
    done = subprocess.run(
        [sys.executable, "-m", "dwcp_stream", *words, "--json"],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


async def test_a_threshold_model_from_the_last_windows_alone(kafka, unique: str, tmp_path: Path) -> None:
    settings = await site(kafka, unique, tmp_path, probe.STREAM)
    telemetry = probe.Telemetry(6, 120)
    records = [
        (probe.entity_name(entity).encode(), telemetry.payload(entity, step), round((probe.EPOCH + step) * 1000))
        for entity, step in telemetry.samples()
    ]
    alerts = await history(settings, probe.STREAM, records)
    firing = [(ce_id, alert) for ce_id, alert in alerts if alert.action != "resolved"]
    assert firing
    for ce_id, alert in (firing[0], firing[-1]):
        told, found, why = await again(settings, ce_id)
        assert told == alert
        assert why.exact
        assert not found.whole, "the last windows were enough"
        assert why.score == alert.score
        value = next(change for change in why.changes if change.field == "value")
        assert value.enough
        assert value.needed is not None
        assert value.needed < 1.0 < (value.value or 0.0), "the score is the value, and the threshold is 1"
    newest = [alert for _, alert in firing if alert.fingerprint == firing[0][1].fingerprint][-1]
    result = cli(settings, "explain", newest.fingerprint[:16], "--plot", str(tmp_path / "why.svg"))
    assert result["reproduced"]["exact"] is True
    assert result["at"] == newest.event_time
    assert (tmp_path / "why.svg").read_text().lstrip().startswith("<?xml")


async def test_a_model_that_ships(kafka, unique: str, tmp_path: Path) -> None:
    settings = await site(kafka, unique, tmp_path, "node")
    table = liveliest(simulate_nodes(10, 3, 5))
    records = list(rows_to_records(table, find_stream(settings, "node")))
    alerts = [(c, a) for c, a in await history(settings, "node", records) if a.action != "resolved"]
    by_model = {alert.model: (ce_id, alert) for ce_id, alert in alerts}
    assert by_model
    for ce_id, alert in by_model.values():
        _, _, why = await again(settings, ce_id)
        assert why.exact, (alert.model, why.score, alert.score)
        assert why.changes, "what would have been enough, or how far each field alone gets"


async def test_a_model_with_a_state(kafka, unique: str, tmp_path: Path) -> None:
    settings = await site(kafka, unique, tmp_path, "consensus")
    stream = find_stream(settings, "consensus")
    records = list(read_records([ROOT / "tests/data/etcd/dev_r1.csv.gz"], stream, "etcd-lab"))
    alerts = [(c, a) for c, a in await history(settings, "consensus", records) if a.action != "resolved"]
    assert alerts
    ce_id, alert = alerts[-1]
    _, found, why = await again(settings, ce_id)
    assert why.exact
    assert found.whole, "what the model remembers begins at the first sample"
    assert set(why.expected) | set(why.contribution)
    assert draw(why, stream).startswith(b"\x89PNG")
    # without the beginning the state is another one, and so is the score: this is said
    assert {name for name, _ in why.window.items()} == set(BoundModels(settings, stream).first()[0].fields)
    assert alert.score == float(found.seen.score)


async def test_what_cannot_be_made_again_exactly_is_said(kafka, unique: str, tmp_path: Path) -> None:
    settings = await site(kafka, unique, tmp_path, "consensus")
    stream = find_stream(settings, "consensus")
    records = list(read_records([ROOT / "tests/data/etcd/dev_r1.csv.gz"], stream, "etcd-lab"))
    alerts = [
        (c, a) for c, a in await history(settings, "consensus", records, len(records) - KEPT) if a.action != "resolved"
    ]
    ce_id, alert = alerts[-1]
    _, found, why = await again(settings, ce_id)
    assert found.whole
    assert found.records <= KEPT
    assert not why.exact, "the model remembers what is not in the topic any more"
    assert why.plain()["reproduced"]["difference"] == why.score - (alert.score or 0.0) != 0.0


async def test_a_file_instead_of_kafka(tmp_path: Path) -> None:
    table = simulate_nodes(1, 0.3, 5)
    path = tmp_path / "nodes.parquet"
    table.write_parquet(path)
    entity = "/".join(str(table[part][0]) for part in ("cluster_id", "node_id"))
    settings = Settings(streams_dir=ROOT / "config/streams", models_dir=str(ROOT / "models"))
    at = rfc3339(float(table["ts"][-1]))
    result = cli(settings, "explain", "--stream", "node", "--data", str(path), "--entity", entity, "--at", at)
    assert result["reproduced"]["exact"] is None
    assert result["at"] == at
    assert {len(result["times"])} == {len(values) for values in result["window"].values()}
    assert bool(result["changes"]) == (result["score"] >= 1.0)


async def test_what_another_policy_would_change_and_what_a_budget_costs(kafka, unique: str, tmp_path: Path) -> None:
    settings = await site(kafka, unique, tmp_path, "consensus")
    stream = find_stream(settings, "consensus")
    records = list(read_records([ROOT / "tests/data/etcd/dev_r1.csv.gz"], stream, "etcd-lab"))
    firing = [alert for _, alert in await history(settings, "consensus", records) if alert.action == "firing"]
    policy = tmp_path / "new.toml"
    policy.write_text("[alert]\nthreshold = 1000000.0\n")
    words = ("backtest", "consensus", "--since", "36500d", "--diff")
    gone = cli(settings, *words, "--policy", str(policy))["diff"]
    assert gone["counts"] == {"appears": 0, "vanishes": len(firing), "same": 0, "severity": 0}
    assert sum(day["before"] for day in gone["days"].values()) == len(firing)
    same = cli(settings, *words, "--model", "consensus-kinds:2")["diff"]
    assert same["counts"] == {"appears": 0, "vanishes": 0, "same": len(firing), "severity": 0}
    found = cli(settings, "budget", "consensus", "--per-day", "100", "--since", "36500d")
    chosen = [row for row in found["parts"] if (row["part"], row["policy"]) == ("chosen on", "then")]
    assert chosen[0]["per_day"] <= 100 < len(firing) / sum(row["days"] for row in found["parts"][::2])
    assert found["recall_of"] == "made-up trouble"
    assert chosen[0]["troubles"] > 0
    policy.write_text(found["policy_toml"])
    after = cli(settings, *words, "--policy", str(policy))
    assert after["diff"]["counts"] == found["diff"]["counts"]
    assert after["policy"] == found["policy"]

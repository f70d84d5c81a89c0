"""The examples on real Kafka: both print each alert once, the same lines; and the schemas hold for what is there."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from jsonschema import Draft7Validator

from dwcp_stream.kafka.batches import write_rows
from dwcp_stream.kafka.catalogue import catalogue
from dwcp_stream.kafka.clients import producer_client
from dwcp_stream.kafka.topics import admin_client, create_topics
from dwcp_stream.pipeline import Pipeline
from dwcp_stream.registry import ModelRepository
from tests.integration import probe
from tests.integration.harness import make_settings, read_topic
from tests.unit.test_pipeline import chunk_of, records

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def printed(*command: str, cwd: Path = EXAMPLES) -> list[str]:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.fixture
def published(kafka, tmp_path, unique):
    """Alerts of a pipeline on a topic, all of them twice; the prefix, and how many there are."""
    stream = probe.write_definition(tmp_path / "streams", f"{unique}.t")
    probe.publish_model(tmp_path / "models", stream)
    model = ModelRepository(tmp_path / "models").load(probe.MODEL).bind(stream)
    _, found = records(6, 90)
    result = Pipeline(stream, [model]).process(chunk_of(found, 0, len(found)))
    alerts = [output for output in result.outputs if output.topic == "anomalies"]
    settings = make_settings(kafka.bootstrap, topics={"prefix": f"{unique}."})

    async def write() -> None:
        async with admin_client(settings) as admin:
            await create_topics(admin, catalogue(f"{unique}.", 1))
        async with producer_client(settings) as producer:
            rows = [(o.key, o.value, o.headers, None) for o in [*alerts, *alerts]]
            await write_rows(producer, f"{unique}.anomalies", {0: rows})

    asyncio.run(write())
    return settings, f"{unique}.", len(alerts)


@pytest.mark.kafka
@pytest.mark.slow
def test_both_examples_print_each_alert_once(published):
    settings, prefix, count = published
    options = (f"--prefix={prefix}", f"--count={count}")
    bootstrap = settings.kafka.bootstrap_servers
    lines = printed(sys.executable, "python/alerts.py", bootstrap, *options)
    assert len(set(lines)) == count > 10
    assert {line.split()[1] for line in lines} == {"firing", "escalated", "resolved"}
    assert printed("go", "run", ".", *options, bootstrap, cwd=EXAMPLES / "go") == lines


@pytest.mark.kafka
def test_messages_fit_the_schemas_that_the_command_writes(published, tmp_path):
    settings, prefix, count = published
    command = (sys.executable, "-m", "dwcp_stream", "topics", "schema")
    written = json.loads(printed(*command, "--out", str(tmp_path / "schemas"), "--json")[0])["written"]
    schemas = {Path(path).name.removesuffix(".schema.json"): json.loads(Path(path).read_text()) for path in written}
    assert {"Alert", "Prediction", "ModelDecision", "linkSample", "linkFrame"} <= set(schemas)
    for schema in schemas.values():
        Draft7Validator.check_schema(schema)
    checker = Draft7Validator(schemas["Alert"])
    found = asyncio.run(read_topic(settings, f"{prefix}anomalies"))
    assert len(found) == 2 * count
    for record in found[:100]:
        assert not list(checker.iter_errors(msgspec.json.decode(record.value)))
    body = msgspec.json.decode(found[0].value)
    assert list(checker.iter_errors({**body, "fields": [{"value": 1}]})), "references are resolved"


def test_a_schema_that_is_not_there():
    command = (sys.executable, "-m", "dwcp_stream", "topics", "schema", "Alarm")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "there is no payload 'Alarm'" in done.stderr
    assert "Alert" in done.stderr

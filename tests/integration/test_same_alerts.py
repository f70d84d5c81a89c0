"""One pipeline, three drivers: a file through Kafka and the same file in a backtest give the same alerts."""

import asyncio
import csv
import json
import os
import sys

import msgspec
import pytest

from tests.integration.probe import STREAM, Telemetry, entity_name

pytestmark = pytest.mark.kafka


async def command(environment, *arguments):
    """Run a command of the program and return what it printed as JSON."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "dwcp_stream", *arguments, "--json",
        env={**os.environ, **environment}, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return json.loads(out)


def write_csv(path, telemetry):
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "ts", "value", "requests", "ignored"])
        for entity, step in telemetry.samples():
            sample = msgspec.json.decode(telemetry.payload(entity, step))
            writer.writerow([entity_name(entity), sample["ts"], sample["value"], sample["requests"], "x"])


async def test_a_file_through_kafka_and_in_a_backtest_give_the_same_alerts_with_the_same_ids(site, tmp_path):
    telemetry = Telemetry(30, 120)
    file = tmp_path / "probe.csv"
    write_csv(file, telemetry)
    await site.create()
    run = await site.run()
    sent = await command(run.environment, "replay", STREAM, "--data", str(file), "--speed", "max")
    assert sent["sent"] == sum(1 for _ in telemetry.samples())
    worker = run.start()
    await run.caught_up()
    assert await worker.terminate() == 0
    through_kafka = await run.final()
    report = await command(run.environment, "backtest", STREAM, "--data", str(file))
    backtested = {alert.pop("id"): alert for alert in report["alerts"]}
    assert backtested == through_kafka.alerts
    assert through_kafka.transitions == telemetry.transitions()
    assert sum(report["accounted"].values()) == report["samples_in"] == sent["sent"]


async def test_the_scores_file_has_a_row_for_every_verdict(site, tmp_path):
    telemetry = Telemetry(5, 60)
    file, scores = tmp_path / "probe.csv", tmp_path / "scores.csv"
    write_csv(file, telemetry)
    run = await site.run()
    report = await command(run.environment, "backtest", str(file), "--stream", STREAM, "--scores", str(scores))
    rows = list(csv.DictReader(scores.read_text().splitlines()))
    late_fills = report["accounted"]["scored"] - len(rows)
    assert 0 <= late_fills <= sum(1 for e, s in telemetry.samples()) - len({(r["entity"], r["ts"]) for r in rows})
    assert {r["model"] for r in rows} == {"probe-threshold"}
    firing = {(r["entity"], float(r["ts"])) for r in rows if r["state"] == "firing"}
    over = {(r["entity"], float(r["ts"])) for r in rows if float(r["score"]) > 1}
    assert firing == over, "min_duration is 0 and calm is below resolve_below"

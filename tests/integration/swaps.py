"""What tests of changing versions share: schedules as they were written, and the run that nothing disturbs."""

import asyncio
from collections import defaultdict

import msgspec
import numpy as np

from dwcp_stream.activations import Activation, Schedule, decode_schedule, schedule_of
from dwcp_stream.backtest import published
from dwcp_stream.chunk import Chunk
from dwcp_stream.kafka.generations import VERSIONS_KEY, split_key
from dwcp_stream.loading import BoundModels
from dwcp_stream.pipeline import Pipeline
from dwcp_stream.settings import Settings
from dwcp_stream.windows.snapshot import SnapshotCodec
from tests.integration import probe
from tests.integration.harness import consumer_partitions, read_topic
from tests.integration.workers import Run, Site


async def schedules_written(run: Run) -> dict[int, list[Schedule]]:
    """By partition, every schedule that was ever written, in order; none while there is no topic for them."""
    found: dict[int, list[Schedule]] = defaultdict(list)
    if not await consumer_partitions(run.settings, run.changelog):
        return found
    for record in await read_topic(run.settings, run.changelog):
        if record.value is not None and split_key(record.key)[0] == VERSIONS_KEY:
            found[record.partition].append(decode_schedule(record.value).activations)
    return found


def activations(schedules: list[Schedule]) -> dict[tuple[int, str], Activation]:
    """By offset and line, what was in effect once: what a later schedule leaves out at its end was taken back."""
    found: dict[tuple[int, str], Activation] = {}
    for schedule in schedules:
        kept = {at: a for at, a in found.items() if at[0] <= schedule[-1].offset}
        found = kept | {(a.offset, a.model): a for a in schedule}
    return found


async def alerts(run: Run) -> list[dict]:
    return [msgspec.json.decode(record.value) for record in await read_topic(run.settings, run.topic("anomalies"))]


async def undisturbed(site: Site, run: Run) -> tuple[dict[str, dict], dict[str, bytes]]:
    """Alerts by id and snapshots of one pipeline that reads the source once, with the activations that the run had."""
    models = BoundModels(Settings(models_dir=site.directory / "models"), site.stream)
    pipeline = Pipeline(site.stream, [models.load(probe.MODEL, 1)])
    by_partition = defaultdict(list)
    for record in await read_topic(site.settings, site.source):
        by_partition[record.partition].append(record)
    held, found, snapshots = [], {}, {}
    for partition, schedules in (await schedules_written(run)).items():
        schedule = schedule_of(activations(schedules).values())
        known = {a: models.load(a.base, a.version) for a in schedule if a.scores}
        held.append(known)
        pipeline.restore(partition, None, {}, schedule, known)
        records = by_partition[partition]
        stamps = np.array([r.timestamp for r in records], np.int64)
        offsets = np.array([r.offset for r in records], np.int64)
        keys, values = [r.key for r in records], [r.value for r in records]
        result = await asyncio.to_thread(pipeline.process, Chunk(site.source, partition, offsets, stamps, keys, values))
        for alert in (published(o) for o in result.outputs if o.topic == "anomalies"):
            found[alert.pop("id")] = alert
        snapshots |= dict(pipeline.partitions[partition].copy().snapshots())
    return found, snapshots


async def assert_as_undisturbed(site: Site, run: Run) -> None:
    final = await run.final()
    wanted, snapshots = await undisturbed(site, run)
    codec = SnapshotCodec(site.stream)
    states = {entity: codec.decode(data) for entity, data in snapshots.items()}
    lost, extra = wanted.keys() - final.alerts.keys(), final.alerts.keys() - wanted.keys()
    assert not lost, f"{len(lost)} of {len(wanted)} alerts lost, such as {wanted[min(lost)]}"
    assert not extra, f"{len(extra)} alerts that should not be, such as {final.alerts[min(extra)]}"
    assert final.alerts == wanted
    assert final.windows == {entity: msgspec.msgpack.encode(s.state) for entity, s in states.items()}
    assert final.parts == {entity: msgspec.msgpack.encode(s.parts) for entity, s in states.items()}


def publish(site: Site, **how) -> int:
    return probe.publish_model(site.directory / "models", site.stream, **how)

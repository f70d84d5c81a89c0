"""The pipeline on real topics without Faust: what a worker writes, in steps that a test can stop between."""

from collections import Counter
from contextlib import contextmanager

import msgspec
from faust.types import TP

from dwcp_stream.events import Output
from dwcp_stream.kafka.batches import write_records
from dwcp_stream.kafka.clients import producer_client
from dwcp_stream.kafka.generations import PARTITION_KEY, make_key
from dwcp_stream.kafka.processor import to_chunk
from dwcp_stream.kafka.recovering import Recovering
from dwcp_stream.loading import bound_models
from dwcp_stream.pipeline import Pipeline
from dwcp_stream.settings import Settings
from dwcp_stream.windows.snapshot import SnapshotCodec
from tests.integration.harness import read_topic
from tests.integration.workers import Run


@contextmanager
def quiet(_what, _total):
    """Show no step of a migration."""
    yield lambda _amount: None


class Driver:
    """The pipeline on a real topic and a real changelog, driven step by step instead of by Faust."""

    def __init__(self, run: Run) -> None:
        self.run, self.models = run, bound_models(Settings(models_dir=run.directory / "models"), run.stream)
        self.pipeline = Pipeline(run.stream, self.models)
        self.outputs: list[Output] = []
        self.replayed = 0

    async def process(self) -> None:
        """Process all that the topic has from the positions on."""
        records: dict[int, list] = {}
        for record in await read_topic(self.run.settings, self.run.source):
            records.setdefault(record.partition, []).append(record)
        for number, mine in records.items():
            state = self.pipeline.partitions.get(number)
            fresh = [r for r in mine if state is None or state.position is None or r.offset >= state.position]
            if fresh:
                result = self.pipeline.process(to_chunk(TP(self.run.source, number), fresh))
                self.outputs += result.outputs
                self.replayed += result.replayed

    async def checkpoint(self, generation: int, *, whole: bool = True) -> None:
        """Write a checkpoint, or all of it but the partition records that end it."""
        async with producer_client(self.run.settings) as producer:
            for copy in filter(None, map(self.pipeline.copy, sorted(self.pipeline.partitions))):
                records = [(copy.partition, make_key(e, generation), value) for e, value in copy.snapshots()]
                if whole:
                    records.append((copy.partition, make_key(PARTITION_KEY, generation), copy.record()))
                await write_records(producer, self.run.changelog, records)

    async def recover(self) -> None:
        """Begin anew from what the changelog holds."""
        self.pipeline, decode, found = Pipeline(self.run.stream, self.models), SnapshotCodec(self.run.stream).decode, {}
        for r in await read_topic(self.run.settings, self.run.changelog):
            found.setdefault(r.partition, Recovering()).apply(r.key, r.value, decode)
        for number, recovering in found.items():
            settled = recovering.settle()
            assert self.pipeline.restore(number, settled.record, settled.snapshots) == []

    def state(self) -> dict[str, tuple]:
        """Window, but for the offset applied, and parts of every entity."""
        found = {}
        for partition in self.pipeline.partitions.values():
            partition.touched = set(partition.windows.slots.values())
            copy = partition.copy()
            for i, entity in enumerate(copy.windows.entities):
                window = msgspec.structs.replace(copy.windows.core(i), applied=0)
                found[entity] = window, {name: taken.plain(i) for name, taken in copy.parts.items()}
        return found

    def alerts(self) -> Counter:
        """How often each alert was published, by id and content."""
        return Counter((dict(o.headers)["ce_id"], bytes(o.value)) for o in self.outputs if o.topic == "anomalies")

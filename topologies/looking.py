"""Answers what a worker is asked about its entities."""

import asyncio
from dataclasses import dataclass

from dwcp_stream.kafka.locks import PartitionLocks
from dwcp_stream.pipeline import Pipeline
from dwcp_stream.web.looks import EntityList, EntityLook, Glimpse, entity_list, entity_look, glimpse, look


@dataclass(frozen=True, slots=True)
class PipelineLooks:
    """Looks at a pipeline's partitions, each between two chunks; what costs time happens in a thread, on copies."""

    pipeline: Pipeline
    locks: PartitionLocks

    async def entities(self, like: str, limit: int) -> EntityList:
        """List entities."""
        parts: list[Glimpse] = []
        for number in sorted(self.pipeline.partitions):
            async with self.locks[number]:
                state = self.pipeline.partitions.get(number)
                if state is not None:
                    parts.append(glimpse(state))
        champions = {model.name: model for model in self.pipeline.models}
        for state in self.pipeline.partitions.values():
            champions |= state.models
        return await asyncio.to_thread(
            entity_list, self.pipeline.stream, list(champions.values()), parts, like=like, limit=limit
        )

    async def entity(self, name: str) -> EntityLook | None:
        """Show one entity; None if no partition of this worker has it.

        Raises
        ------
        ModelError
            If a graph fails on its window.
        """
        for number in sorted(self.pipeline.partitions):
            async with self.locks[number]:
                state = self.pipeline.partitions.get(number)
                found = None if state is None or name not in state.windows.slots else look(state, name)
            if found is not None:
                return await asyncio.to_thread(entity_look, self.pipeline.stream, found)
        return None

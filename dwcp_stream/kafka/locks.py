"""One lock per partition: chunks of different partitions are processed at the same time."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager


class PartitionLocks(defaultdict[int, asyncio.Lock]):
    """`locks[partition]` is held while a chunk changes the partition's state, or while the state is copied."""

    def __init__(self) -> None:
        super().__init__(asyncio.Lock)

    @asynccontextmanager
    async def all(self, partitions: Iterable[int]) -> AsyncIterator[None]:
        """Hold the locks of some partitions at once; taken in ascending order, so that no two callers block."""
        async with AsyncExitStack() as held:
            for partition in sorted(partitions):
                await held.enter_async_context(self[partition])
            yield

"""One lock per partition: chunks of different partitions are processed at the same time."""

import asyncio
from collections import defaultdict


class PartitionLocks(defaultdict[int, asyncio.Lock]):
    """`locks[partition]` is held while a chunk changes the partition's state, or while the state is copied."""

    def __init__(self) -> None:
        super().__init__(asyncio.Lock)

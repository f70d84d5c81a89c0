"""Fetched records as aiokafka's parser made them, without the class that aiokafka puts around each.

Building `ConsumerRecord` for each record costs about as much as all the rest of reading it; the parsed record has what
the lane needs: `offset`, `timestamp`, `key`, `value`. What aiokafka does besides (checks sums, skips control batches,
keeps the position) stays as it is.
"""

from collections import OrderedDict
from collections.abc import Collection
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.consumer.fetcher import FetchResult


class FetchedRecords(OrderedDict[TopicPartition, Any]):
    """The buffer of a fetcher, of partition to what has been fetched; records of some topics stay bare.

    Parameters
    ----------
    topics
        The topics whose records stay as they were parsed.
    """

    def __init__(self, topics: Collection[str]) -> None:
        super().__init__()
        self._topics = topics

    def __setitem__(self, tp: TopicPartition, fetched: Any) -> None:
        if tp.topic in self._topics and isinstance(fetched, FetchResult):  # else it is an error
            fetched._partition_records._consumer_record = _bare
        super().__setitem__(tp, fetched)


def keep_bare(consumer: AIOKafkaConsumer, topics: Collection[str]) -> None:
    """Let a consumer that has started, and has fetched nothing yet, return bare records of some topics."""
    consumer._fetcher._records = FetchedRecords(topics)


def _bare(tp: TopicPartition, record: Any) -> Any:  # noqa: ARG001  aiokafka's signature
    return record

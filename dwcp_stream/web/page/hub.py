"""Server-sent events to any number of browsers; one that does not keep up is let go, and comes back by itself."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import msgspec

MOST_WAITING = 200
"""Events that may wait for a browser."""
MOST_BROWSERS = 100


class Hub:
    """Hands each event to all browsers."""

    def __init__(self) -> None:
        self._queues: set[asyncio.Queue[bytes | None]] = set()

    def __len__(self) -> int:
        return len(self._queues)

    def send(self, event: str, data: object) -> None:
        """Hand an event to all; it is encoded once."""
        if not self._queues:
            return
        encoded = encode(event, data)
        for queue in list(self._queues):
            if queue.qsize() >= MOST_WAITING:
                self._queues.discard(queue)
                queue.put_nowait(None)
            else:
                queue.put_nowait(encoded)

    def close(self) -> None:
        """End all."""
        for queue in self._queues:
            queue.put_nowait(None)
        self._queues.clear()

    @contextmanager
    def joined(self) -> Iterator[AsyncIterator[bytes]]:
        """Yield the events from now on; they end when this reader is too slow or the hub is closed."""
        queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._queues.add(queue)
        try:
            yield _events(queue)
        finally:
            self._queues.discard(queue)


async def _events(queue: asyncio.Queue[bytes | None]) -> AsyncIterator[bytes]:
    while (encoded := await queue.get()) is not None:
        yield encoded


def encode(event: str, data: object) -> bytes:
    """Return a server-sent event (WHATWG HTML, section 9.2); JSON has no line breaks of its own."""
    return b"event: " + event.encode() + b"\ndata: " + msgspec.json.encode(data) + b"\n\n"

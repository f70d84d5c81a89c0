"""A TCP proxy before a member's peer port, which can delay, lose, block and reset what goes through."""

import asyncio
import random
import re
from collections import deque
from dataclasses import dataclass
from typing import Final, cast

RETRANSMIT: Final = 0.2  # seconds until Linux's TCP sends a lost segment again, at least; doubled each time
MOST_WAITING: Final = 4 << 20  # bytes held back in one direction before the sender is no longer read
SENDER: Final = re.compile(rb"X-Server-From: ([0-9a-f]+)")


@dataclass(frozen=True)
class Shape:
    """What a connection does to what it carries.

    Attributes
    ----------
    delay_ms, jitter_ms
        Added to each piece, one way: the delay, and a uniform share of the jitter. Order is kept.
    loss
        Probability that a piece is lost and comes only with a retransmission.
    blocked
        Hold everything back, in silence, as where a cable was cut.
    """

    delay_ms: float = 0.0
    jitter_ms: float = 0.0
    loss: float = 0.0
    blocked: bool = False

    def seconds(self, chance: random.Random) -> float:
        """Draw the delay of one piece, in seconds."""
        delay = (self.delay_ms + self.jitter_ms * chance.random()) / 1000
        again = RETRANSMIT
        while self.loss and chance.random() < self.loss and again < 4:
            delay, again = delay + again, 2 * again
        return delay


PLAIN: Final = Shape()


class Pipe(asyncio.Protocol):
    """One end of a connection through the proxy; what it receives leaves at the other end, `far`."""

    def __init__(self, connection: "Connection") -> None:
        self.connection = connection
        self.transport: asyncio.Transport | None = None
        self.far: Pipe
        self._waiting: deque[tuple[float, bytes]] = deque()
        self._size = 0
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin (asyncio calls this)."""
        self.transport = cast("asyncio.Transport", transport)
        self.connection.opened(self)

    def data_received(self, data: bytes) -> None:
        """Take a piece: pass it on, or hold it until it is due."""
        self.connection.seen(data)
        shape, proxy = self.connection.shape, self.connection.proxy
        if shape is PLAIN and not self._waiting and self.far.transport is not None:
            self.far.transport.write(data)
            return
        due = asyncio.get_running_loop().time() + shape.seconds(proxy.chance)
        if self._waiting:
            due = max(due, self._waiting[-1][0])
        self._waiting.append((due, data))
        self._size += len(data)
        if self._size > MOST_WAITING and self.transport is not None:
            self.transport.pause_reading()
        self.pump()

    def pump(self) -> None:
        """Send what is due, and come back for the rest."""
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.connection.shape.blocked or self.far.transport is None:
            return  # called again when it is unblocked, or connected
        while self._waiting and self._waiting[0][0] <= loop.time() + 0.0005:
            data = self._waiting.popleft()[1]
            self._size -= len(data)
            self.far.transport.write(data)
        if self._waiting:
            self._timer = loop.call_at(self._waiting[0][0], self.pump)
        if self._size <= MOST_WAITING and self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()

    def pause_writing(self) -> None:
        """Read no more at the other end while this one cannot send."""
        if self.far.transport is not None:
            self.far.transport.pause_reading()

    def resume_writing(self) -> None:
        """Read again at the other end."""
        if self.far.transport is not None and not self.far.transport.is_closing():
            self.far.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio gives it
        """End both ends (asyncio calls this)."""
        if self._timer is not None:
            self._timer.cancel()
        self.connection.close()


class Connection:
    """A peer's connection to the member behind the proxy: two pipes and their common shape."""

    def __init__(self, proxy: "Proxy") -> None:
        self.proxy, self.shape, self.sender = proxy, PLAIN, 0
        self.near, self.distant = Pipe(self), Pipe(self)
        self.near.far, self.distant.far = self.distant, self.near
        self._known = False
        self._dialling: asyncio.Task[None] | None = None

    @property
    def source(self) -> int:
        """Position of the member that dialled, -1 if it is not known."""
        return self.proxy.names.get(self.sender, -1)

    def opened(self, pipe: Pipe) -> None:
        """Dial the member when the peer has come; send what came meanwhile when both are there."""
        if pipe is self.near:
            self.proxy.connections.add(self)
            self.reshape()
            self._dialling = asyncio.get_running_loop().create_task(self._dial())
        else:
            self.near.pump()

    async def _dial(self) -> None:
        try:
            await asyncio.get_running_loop().create_connection(lambda: self.distant, "127.0.0.1", self.proxy.target)
        except OSError:
            self.close()  # the member is down

    def seen(self, data: bytes) -> None:
        """Learn from etcd's first request who the peer is: all of them come from the same address."""
        if not self._known:
            self._known = True
            found = SENDER.search(data)
            self.sender = int(found[1], 16) if found else 0
            self.reshape()

    def reshape(self) -> None:
        """Take the shape that holds now for the two members."""
        self.shape = self.proxy.shape_of(self.source)
        self.near.pump()
        self.distant.pump()

    def close(self, *, reset: bool = False) -> None:
        """End it; `reset` throws away what has not been sent yet."""
        self.proxy.connections.discard(self)
        for pipe in (self.near, self.distant):
            if pipe.transport is not None and not pipe.transport.is_closing():
                if reset:
                    pipe.transport.abort()
                else:
                    pipe.transport.close()


class Proxy:
    """Listens for the peers of one member.

    Parameters
    ----------
    index
        The member's position in the cluster.
    target
        Port on the loopback it really listens on.
    seed
        Of the jitter and the losses.
    """

    def __init__(self, index: int, target: int, seed: int = 0) -> None:
        self.index, self.target = index, target
        self.names: dict[int, int] = {}
        self.shapes: dict[int, Shape] = {}
        self.connections: set[Connection] = set()
        self.chance = random.Random(f"{seed}/{index}")
        self._server: asyncio.Server | None = None

    async def listen(self, port: int = 0) -> int:
        """Begin to listen; return the port."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Connection(self).near, "127.0.0.1", port)
        return int(self._server.sockets[0].getsockname()[1])

    def shape_of(self, source: int) -> Shape:
        """Return the shape between two members: that of either one that is impaired, the listening one first."""
        return self.shapes.get(self.index) or self.shapes.get(source) or PLAIN

    def impair(self, shapes: dict[int, Shape]) -> None:
        """Set the shape of each impaired member's connections; an empty mapping heals all."""
        self.shapes = {member: shape for member, shape in shapes.items() if shape != PLAIN}
        for connection in list(self.connections):
            connection.reshape()

    def reset(self, members: set[int]) -> int:
        """Reset the connections from or to these members; return how many."""
        hit = [c for c in self.connections if self.index in members or c.source in members]
        for connection in hit:
            connection.close(reset=True)
        return len(hit)

    async def close(self) -> None:
        """Stop listening and end all connections."""
        if self._server is not None:
            self._server.close()
        for connection in list(self.connections):
            connection.close(reset=True)
        if self._server is not None:
            await self._server.wait_closed()

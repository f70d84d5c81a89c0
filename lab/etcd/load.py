"""An open-loop load: requests go out when they are planned, whatever became of those before.

A latency is counted from the planned time. A closed loop would wait for a stalled cluster, send nothing during the
stall, and count one slow request where a thousand users had one (coordinated omission).
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Protocol, Self

import aiohttp

from lab.etcd.api import Api
from lab.etcd.arrivals import Arrivals, Operation
from lab.etcd.errors import RequestError
from lab.etcd.rotation import Rotation
from lab.etcd.shapes import Shape

TIMEOUT: Final = 3.0  # seconds from the planned time
MOST_IN_FLIGHT: Final = 1500


class Target(Protocol):
    """What takes the requests."""

    async def perform(self, operation: Operation, left: float) -> None:
        """Do it within `left` seconds; raises TimeoutError if it takes longer, RequestError if it is refused."""


@dataclass
class Window:
    """What a load did since the last look.

    Attributes
    ----------
    rate
        Rate that is set now, requests per second.
    in_flight
        Puts without an answer now.
    offered, completed, errors, timeouts, rejected
        Puts that were begun; answered; refused; not answered in time; not begun since too many were in flight.
    latencies, get_latencies
        Of the puts and of the gets that were answered, in ms from their planned time.
    late
        How long after its planned time each request was begun, in ms: the generator's own delay.
    """

    rate: float = 0.0
    in_flight: int = 0
    offered: int = 0
    completed: int = 0
    errors: int = 0
    timeouts: int = 0
    rejected: int = 0
    latencies: list[float] = field(default_factory=list)
    get_latencies: list[float] = field(default_factory=list)
    late: list[float] = field(default_factory=list)


class EtcdTarget:
    """The members in turn; a request that nobody takes goes to the next one."""

    def __init__(self, apis: Sequence[Api]) -> None:
        self._apis, self._rotation = apis, Rotation(len(apis))

    async def perform(self, operation: Operation, left: float) -> None:
        """Send it. A member that does not answer costs the whole time, as for any client."""
        clock = asyncio.get_running_loop().time
        end = clock() + left
        for member in self._rotation.order(clock()):
            api, remaining = self._apis[member], max(end - clock(), 0.001)
            try:
                if operation.kind == "get":
                    await api.get(operation.key, remaining)
                else:
                    await api.put(operation.key, bytes(operation.size), remaining)
            except (TimeoutError, RequestError):
                self._rotation.failed(member, clock())
                raise
            except aiohttp.ClientError:
                self._rotation.failed(member, clock())
            else:
                self._rotation.worked(member)
                return
        raise RequestError("no member takes connections")


class Load:
    """The generator, as an asynchronous context manager: it runs inside.

    Parameters
    ----------
    target
        Takes the requests.
    base
        Requests per second where the shape is 1.
    shape
        Rate relative to the base over time; see `lab.etcd.shapes`.
    seed
        Of the requests.
    gets
        Share of the requests that read; their latencies are apart, as only puts are commits.
    clock, sleep
        Seconds, and how to wait for them; tests bring their own.

    Attributes
    ----------
    factor
        Multiplies the rate; a burst sets it.
    """

    def __init__(
        self,
        target: Target,
        base: float,
        shape: Shape,
        *,
        seed: int = 0,
        gets: float = 0.1,
        clock: Callable[[], float] | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.factor = 1.0
        self._target, self._base, self._shape = target, base, shape
        self._arrivals = Arrivals(seed, self.rate, gets)
        self._clock, self._sleep = clock, sleep
        self._window, self._puts = Window(), 0
        self._flying: set[asyncio.Task[None]] = set()
        self._loop: asyncio.Task[None] | None = None
        self._begun = 0.0

    def rate(self, t: float) -> float:
        """Return the rate in requests per second at t seconds after the start."""
        return self._base * self._shape(t) * self.factor

    async def __aenter__(self) -> Self:
        self._clock = self._clock or asyncio.get_running_loop().time
        self._begun = self._clock()
        self._loop = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        tasks = [task for task in (self._loop, *self._flying) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def take(self) -> Window:
        """Return what was done since the last call, and begin anew."""
        taken, self._window = self._window, Window()
        taken.rate, taken.in_flight = self.rate(self._now()), self._puts
        return taken

    def check(self) -> None:
        """Raise what ended the generator, if something did."""
        if self._loop is not None and self._loop.done() and not self._loop.cancelled():
            self._loop.result()

    def _now(self) -> float:
        return self._clock() - self._begun if self._clock is not None else 0.0

    async def _run(self) -> None:
        while True:
            operation = self._arrivals.next()
            wait = operation.planned - self._now()
            if wait > 0:
                await self._sleep(wait)
            if len(self._flying) >= MOST_IN_FLIGHT:
                self._window.rejected += operation.kind == "put"
                await asyncio.sleep(0)  # nothing else in this loop lets an answer in when it is behind
                continue
            task = asyncio.create_task(self._one(operation))
            self._flying.add(task)
            task.add_done_callback(self._flying.discard)

    async def _one(self, operation: Operation) -> None:
        put = operation.kind == "put"
        self._window.offered += put
        self._puts += put
        lateness = self._now() - operation.planned
        self._window.late.append(lateness * 1000)
        try:
            await self._target.perform(operation, max(TIMEOUT - lateness, 0.001))
        except TimeoutError:
            self._window.timeouts += put
        except RequestError:
            self._window.errors += put
        else:
            took = (self._now() - operation.planned) * 1000
            (self._window.latencies if put else self._window.get_latencies).append(took)
            self._window.completed += put
        finally:
            self._puts -= put

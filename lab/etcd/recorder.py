"""A recording: cluster, load and scheduled events, looked at once a second."""

import asyncio
import contextlib
import itertools
import math
import os
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from lab.etcd.api import Api
from lab.etcd.cluster import Cluster
from lab.etcd.faults import MISSED, inject
from lab.etcd.fields import Deriver, Row
from lab.etcd.happenings import Happening, Happenings
from lab.etcd.load import EtcdTarget, Load
from lab.etcd.machine import Machine
from lab.etcd.negatives import perform
from lab.etcd.schedule import SETTLE, Event
from lab.etcd.scrape import Scrape, parse
from lab.etcd.shapes import SHAPES

STEP: Final = 1.0  # seconds between rows
APART: Final = 1.2 * SETTLE  # seconds between two events, also when one took longer than planned
STEADY: Final = 3.0  # seconds of load before the first row


@dataclass(frozen=True)
class Options:
    """What to record.

    Attributes
    ----------
    seed, seconds, members
        Of the schedule and the load; length in seconds; size of the cluster.
    shape, base
        Name of the load's shape, and requests per second where it is 1.
    gets
        Share of the requests that read.
    parent
        Where the cluster's folder is made; None for the system's temporary folder.
    """

    seed: int = 7
    seconds: float = 600.0
    members: int = 3
    shape: str = "sine"
    base: float = 90.0
    gets: float = 0.1
    parent: Path | None = None


@dataclass
class Recording:
    """What was recorded so far; it is filled while the recording runs, so that an interrupted one can be kept."""

    rows: list[Row] = field(default_factory=list)
    happenings: list[Happening] = field(default_factory=list)
    data_on: str = ""
    complete: bool = False


Say = Callable[[Row, list[Event]], None]
"""Called after each row with the events that are still to come."""


async def record(options: Options, schedule: list[Event], into: Recording, say: Say) -> None:
    """Record; returns when the time is over and everything is stopped.

    Raises
    ------
    LabError
        If the cluster cannot be started, or a member ends by itself.
    """
    rate = SHAPES[options.shape](options.seed)
    async with (
        Cluster(options.members, parent=options.parent, seed=options.seed) as cluster,
        Load(EtcdTarget(cluster.apis), options.base, rate, seed=options.seed, gets=options.gets) as load,
    ):
        into.data_on = cluster.data_on
        await asyncio.sleep(STEADY)
        happenings = Happenings(time.time())
        into.happenings = happenings.all
        sampler = Sampler(cluster, load, happenings)
        left = list(schedule)
        async with _beside(_play(cluster, load, happenings, left)) as player:
            async for row in sampler.rows(options.seconds):
                into.rows.append(row)
                say(row, left)
                cluster.check()
                load.check()
                if player.done():
                    player.result()
    into.complete = True


class Sampler:
    """Looks at members, load and machine every second.

    Parameters
    ----------
    cluster, load
        That run.
    happenings
        Says what a row is labelled with.
    """

    def __init__(self, cluster: Cluster, load: Load, happenings: Happenings) -> None:
        self._cluster, self._load, self._happenings = cluster, load, happenings
        self._deriver, self._machine = Deriver(cluster.size), Machine()

    async def rows(self, seconds: float = math.inf) -> AsyncIterator[Row]:
        """Yield a row a second, for so many seconds; without end if none are given."""
        clock = asyncio.get_running_loop().time
        self._load.take()
        self._machine.read((*self._cluster.pids, os.getpid()))
        begun = before = clock()
        for number in itertools.count(1):
            if number * STEP > seconds + STEP / 2:
                return
            await asyncio.sleep(max(begun + number * STEP - clock(), 0.0))
            now = clock()
            yield await self._row(now - before)
            before = now

    async def _row(self, dt: float) -> Row:
        ts = time.time()
        window = self._load.take()
        usage = self._machine.read((*self._cluster.pids, os.getpid()))
        looks = await asyncio.gather(*(_look(api) for api in self._cluster.apis))
        scrapes, healthy = [scrape for scrape, _ in looks], [well for _, well in looks]
        # Also what began while the members were looked at: it is in what they said, or kept them from saying it.
        said = self._happenings.columns(ts - dt, time.time())
        return {
            "ts": round(ts, 3),
            **self._deriver.row(scrapes, healthy, window, dt),
            "x_loadavg": usage.loadavg,
            "x_cpu_busy": usage.busy,
            "x_cpu_steal": usage.stolen,
            "x_cpu_iowait": usage.waiting,
            "x_cpu_own_cores": usage.own_cores,
            "x_cpu_others": usage.others,
            "x_dt": round(dt, 3),
            **said,
            "disturbed": int(usage.disturbed(dt, STEP)),
        }


async def _look(api: Api) -> tuple[Scrape | None, bool]:
    page, well = await asyncio.gather(api.metrics(), api.healthy())
    return (None if page is None else parse(page)), well


async def _play(cluster: Cluster, load: Load, happenings: Happenings, left: list[Event]) -> None:
    """Do the scheduled events one after another."""
    clock = asyncio.get_running_loop().time
    begun, free = clock(), 0.0
    while left:
        event = left[0]
        await asyncio.sleep(max(max(begun + event.start, free) - clock(), 0.0))
        left.pop(0)
        async with happenings.note(event) as happening:
            try:
                await _do(cluster, load, event, happening)
            except MISSED as error:
                # The members are as they were, or on their way back; the file says that it did not work.
                happening.info["error"] = str(error)[:200]
        free = clock() + APART


async def _do(cluster: Cluster, load: Load, event: Event, happening: Happening) -> None:
    entered = (
        inject(cluster, event.kind, how=event.how, **event.params)
        if event.fault
        else perform(cluster, load, event.kind, **event.params)
    )
    async with entered as info:
        happening.info = info
        await asyncio.sleep(event.duration)


@contextlib.asynccontextmanager
async def _beside(work: Any) -> AsyncIterator[asyncio.Task[None]]:
    """Run a coroutine as a task that ends with the block."""
    task: asyncio.Task[None] = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

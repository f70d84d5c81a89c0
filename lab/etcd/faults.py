"""Faults: each does its harm on entering, and puts it right on leaving, also when it is cancelled or fails.

async with Cluster(3) as cluster:
    async with inject(cluster, "leader_lost", how="pause") as info:
        ...
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any, Final

import aiohttp

from lab.etcd.cluster import Cluster
from lab.etcd.errors import LabError
from lab.etcd.kinds import FAULTS, Params
from lab.etcd.proxy import Shape

Info = dict[str, Any]
"""What was really done: the members that were hit, counts."""

Fault = Callable[[Cluster, str, Params], AbstractAsyncContextManager[Info]]
MISSED: Final = (LabError, TimeoutError, aiohttp.ClientError)


def inject(
    cluster: Cluster, kind: str, *, how: str | None = None, seed: int = 0, **params: Any
) -> AbstractAsyncContextManager[Info]:
    """Return a fault to enter.

    Parameters
    ----------
    cluster
        That runs.
    kind
        A key of `lab.etcd.kinds.FAULTS`.
    how
        Which way; default as drawn.
    seed
        Of what is not given.
    **params
        Strength and aim instead of the drawn ones, such as delay_ms=40 or scope="leader".

    Raises
    ------
    LabError
        If there is no such kind.
    """
    if kind not in FAULTS:
        raise LabError(f"there is no fault {kind!r}", remedy=f"Choose from: {', '.join(FAULTS)}")
    drawn = FAULTS[kind](random.Random(f"{seed}/{kind}"), cluster.size)
    return _MAKERS[kind](cluster, how or drawn.how, {**drawn.params, **params})


async def aim(cluster: Cluster, params: Params) -> list[int]:
    """Return the members that a scope means now: the leader, one follower, or all."""
    if params.get("scope") == "all":
        return list(range(cluster.size))
    leader = await cluster.need_leader()
    return [leader] if params.get("scope") == "leader" else followers(cluster, leader, params)[:1]


def followers(cluster: Cluster, leader: int, params: Params) -> list[int]:
    """Return the followers, from the drawn one on."""
    others = [i for i in range(cluster.size) if i != leader]
    first = int(params.get("which", 0)) % len(others)
    return others[first:] + others[:first]


@asynccontextmanager
async def _gone(cluster: Cluster, members: Sequence[int], how: str) -> AsyncIterator[Info]:
    """Pause or kill members; it ends when a paused one goes on, or when all are healthy after a kill."""
    hit = [cluster.members[i] for i in members]
    if how not in {"pause", "kill"}:
        raise LabError(f"members cannot be lost by {how!r}", where="how", remedy="Choose from: pause, kill")
    try:
        for member in hit:
            if how == "pause":
                member.pause()
            else:
                await member.kill()
        yield {"members": list(members)}
    finally:
        for member in hit:
            if how == "pause":
                member.resume()
            else:
                member.start()
    if how == "kill":
        await cluster.ready()


@asynccontextmanager
async def _leader_lost(cluster: Cluster, how: str, _params: Params) -> AsyncIterator[Info]:
    async with _gone(cluster, [await cluster.need_leader()], how) as info:
        yield info


@asynccontextmanager
async def _follower_lost(cluster: Cluster, how: str, params: Params) -> AsyncIterator[Info]:
    leader = await cluster.need_leader()
    async with _gone(cluster, followers(cluster, leader, params)[: params["count"]], how) as info:
        yield info


@asynccontextmanager
async def _quorum_lost(cluster: Cluster, how: str, params: Params) -> AsyncIterator[Info]:
    leader = await cluster.need_leader()
    others = followers(cluster, leader, params)
    members = ([leader, *others] if params["with_leader"] else others)[: params["count"]]
    async with _gone(cluster, members, how) as info:
        yield info


@asynccontextmanager
async def _slow_disk(cluster: Cluster, _how: str, params: Params) -> AsyncIterator[Info]:
    members = await aim(cluster, params)
    try:
        for i in members:
            cluster.members[i].slow_disk(params["delay_ms"], params["jitter_ms"])
        yield {"members": members}
    finally:
        for i in members:
            cluster.members[i].slow_disk(0)


@asynccontextmanager
async def _slow_network(cluster: Cluster, how: str, params: Params) -> AsyncIterator[Info]:
    members = await aim(cluster, params)
    info: Info = {"members": members}
    shape = Shape(params.get("delay_ms", 0.0), params.get("jitter_ms", 0.0), params.get("loss", 0.0))

    async def stall() -> None:
        await cluster.links.impair(members, Shape(blocked=True))
        try:
            await asyncio.sleep(params["stall_s"])
        finally:
            await cluster.links.heal()

    async def reset() -> None:
        info["reset"] = info.get("reset", 0) + await cluster.links.reset(members)

    try:
        if how in {"stall", "reset"}:
            async with _again_and_again(stall if how == "stall" else reset, params["every_s"], info):
                yield info
        else:
            await cluster.links.impair(members, shape)
            yield info
    finally:
        await cluster.links.heal()


@asynccontextmanager
async def _starved_cpu(cluster: Cluster, _how: str, params: Params) -> AsyncIterator[Info]:
    """Stop members for a share of every tenth of a second: they get that much less of a processor."""
    hit = [cluster.members[i] for i in await aim(cluster, params)]
    period, share = params["period_ms"] / 1000, params["stopped"]
    info: Info = {"members": [member.index for member in hit]}

    async def turn() -> None:
        for member in hit:
            member.pause()
        try:
            await asyncio.sleep(period * share)
        finally:
            for member in hit:
                member.resume()

    async with _again_and_again(turn, period * (1 - share), info):
        yield info


@asynccontextmanager
async def _flapping(cluster: Cluster, how: str, params: Params) -> AsyncIterator[Info]:
    """Change the leader again and again: by handing over, or by pausing each one until there is another."""
    info: Info = {}

    async def transfer() -> None:
        await cluster.transfer()

    async def pause() -> None:
        member = cluster.members[await cluster.need_leader()]
        member.pause()
        try:
            await asyncio.sleep(params["pause_s"])
        finally:
            member.resume()

    async with _again_and_again(transfer if how == "transfer" else pause, params["every_s"], info):
        yield info


@asynccontextmanager
async def _again_and_again(
    action: Callable[[], Awaitable[None]], every: float, info: Info
) -> AsyncIterator[asyncio.Task[None]]:
    """Do something, wait, and so on until left; `info` counts the times, and those that did not work."""
    info |= {"times": 0, "missed": 0}

    async def run() -> None:
        while True:
            try:
                await action()
                info["times"] += 1
            except MISSED:
                info["missed"] += 1  # no leader just now, say; that is what a fault brings
            await asyncio.sleep(every)

    task = asyncio.create_task(run())
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


_MAKERS: Final[dict[str, Fault]] = {
    "leader_lost": _leader_lost,
    "follower_lost": _follower_lost,
    "quorum_lost": _quorum_lost,
    "slow_disk": _slow_disk,
    "slow_network": _slow_network,
    "starved_cpu": _starved_cpu,
    "flapping": _flapping,
}

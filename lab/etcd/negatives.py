"""Hard negatives: what an operator or the users do, that changes the telemetry while nothing is wrong."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final, Protocol

from lab.etcd.cluster import Cluster
from lab.etcd.errors import LabError
from lab.etcd.faults import Info, aim
from lab.etcd.kinds import Params


class Scalable(Protocol):
    """A load whose rate can be multiplied."""

    factor: float


Negative = Callable[[Cluster, Scalable, Params], AbstractAsyncContextManager[Info]]


def perform(cluster: Cluster, load: Scalable, kind: str, **params: Any) -> AbstractAsyncContextManager[Info]:
    """Return a hard negative to enter; it is held until left.

    Parameters
    ----------
    cluster, load
        That run.
    kind
        A key of `lab.etcd.kinds.NEGATIVES`.
    **params
        As `lab.etcd.kinds` draws them: factor; scope and which; down_s.

    Raises
    ------
    LabError
        If there is no such kind.
    """
    if kind not in _MAKERS:
        raise LabError(f"there is no hard negative {kind!r}", remedy=f"Choose from: {', '.join(_MAKERS)}")
    return _MAKERS[kind](cluster, load, params)


@asynccontextmanager
async def _scaled(_cluster: Cluster, load: Scalable, params: Params) -> AsyncIterator[Info]:
    load.factor = params["factor"]
    try:
        yield {}
    finally:
        load.factor = 1.0


@asynccontextmanager
async def _planned_transfer(cluster: Cluster, _load: Scalable, _params: Params) -> AsyncIterator[Info]:
    before, after = await cluster.transfer()
    yield {"from": before, "to": after}


@asynccontextmanager
async def _planned_restart(cluster: Cluster, _load: Scalable, params: Params) -> AsyncIterator[Info]:
    member = cluster.members[(await aim(cluster, params))[0]]
    try:
        await member.stop()
        await asyncio.sleep(params["down_s"])
    finally:
        member.start()
    await cluster.ready()
    yield {"member": member.index}


@asynccontextmanager
async def _compaction_defrag(cluster: Cluster, _load: Scalable, params: Params) -> AsyncIterator[Info]:
    index = (await aim(cluster, params))[0]
    revision = (await cluster.apis[index].status()).revision
    await cluster.apis[index].compact(revision)
    await cluster.apis[index].defragment()
    yield {"member": index, "revision": revision}


_MAKERS: Final[dict[str, Negative]] = {
    "burst": _scaled,
    "quiet": _scaled,
    "planned_transfer": _planned_transfer,
    "planned_restart": _planned_restart,
    "compaction_defrag": _compaction_defrag,
}

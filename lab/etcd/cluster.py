"""A real etcd cluster on the loopback, every link between its members through a proxy."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import aiohttp

from lab.etcd.api import Api, Status, open_session
from lab.etcd.errors import LabError
from lab.etcd.links import Links
from lab.etcd.member import Member
from lab.etcd.tools import build_slowdisk, file_system, find_etcd, free_ports, make_directory

READY: Final = 60.0  # seconds until all members must be healthy
LOOK: Final = 0.05  # seconds between two looks at what is waited for


class Cluster:
    """etcd with its defaults (heartbeat 100 ms, election 1 s), as an asynchronous context manager.

    Parameters
    ----------
    members
        How many, usually 3 or 5.
    parent
        Where to make the folder of data and logs; default the system's temporary folder. It is removed at the end.
    seed
        Of the links' jitter and losses.
    disk
        Whether disks can be slowed; needs a C compiler, and Linux 5.5.

    Attributes
    ----------
    members
        The processes, by position.
    apis
        Their HTTP side, by position.
    links
        What can be done to the network between them.
    directory, data_on
        Its folder, and the kind of file system that is on.
    """

    def __init__(self, members: int = 3, *, parent: Path | None = None, seed: int = 0, disk: bool = True) -> None:
        self.size, self.quorum = members, members // 2 + 1
        self.members: list[Member] = []
        self.apis: list[Api] = []
        self.links = Links()
        self.ids: list[int] = []
        self.directory, self.data_on = Path(), ""
        self._parent, self._seed, self._disk = parent, seed, disk
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        program = find_etcd()
        self.directory = make_directory(self._parent)
        try:
            self.data_on = file_system(self.directory)
            launcher = build_slowdisk(self.directory) if self._disk else None
            await self._start(program, launcher)
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end()

    async def _start(self, program: str, launcher: Path | None) -> None:
        ports = free_ports(2 * self.size)
        client, peer = ports[: self.size], ports[self.size :]
        advertised = await self.links.start(peer, self._seed)
        names = ",".join(f"m{i}=http://127.0.0.1:{port}" for i, port in enumerate(advertised))
        self._session = open_session()
        for i in range(self.size):
            url = f"http://127.0.0.1:{client[i]}"
            arguments = [
                program,
                *("--name", f"m{i}", "--data-dir", str(self.directory / f"m{i}")),
                *("--listen-client-urls", url, "--advertise-client-urls", url),
                *("--listen-peer-urls", f"http://127.0.0.1:{peer[i]}"),
                *("--initial-advertise-peer-urls", f"http://127.0.0.1:{advertised[i]}"),
                *("--initial-cluster", names, "--initial-cluster-token", self.directory.name),
            ]
            self.members.append(Member(i, arguments, self.directory, launcher, url))
            self.apis.append(Api(self._session, url))
        for member in self.members:
            member.start()
        await self.ready()
        self.ids = [(await api.status(READY)).member for api in self.apis]
        await self.links.name({member: i for i, member in enumerate(self.ids)})

    async def _end(self) -> None:
        # Not in good order: the data is thrown away, and a member without a quorum would take its time.
        for member in self.members:
            member.resume()
        await asyncio.gather(*(member.kill() for member in self.members), return_exceptions=True)
        await self.links.stop()
        if self._session is not None:
            await self._session.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def pids(self) -> list[int]:
        """Ids of the members' and the proxies' processes that run."""
        return [pid for pid in (*(member.pid for member in self.members), self.links.pid) if pid is not None]

    def check(self) -> None:
        """Raise `LabError` if a member ended by itself."""
        for member in self.members:
            member.check()

    async def ready(self) -> None:
        """Wait until every member is healthy.

        Raises
        ------
        LabError
            If one is not after a minute, or ended.
        """
        await self.until(self._all_healthy, "all members healthy", READY)

    async def _all_healthy(self) -> bool:
        return all(await asyncio.gather(*(api.healthy(1.0) for api in self.apis)))

    async def statuses(self) -> list[Status | None]:
        """Ask every member; None for those that do not answer."""
        said = await asyncio.gather(*(api.status() for api in self.apis), return_exceptions=True)
        return [one if isinstance(one, Status) else None for one in said]

    async def leader(self) -> int | None:
        """Return the position of the leader: whom the members with the highest term follow; None without one."""
        said = [one for one in await self.statuses() if one is not None and one.leader]
        if not said:
            return None
        leader = max(said, key=lambda one: one.term).leader
        return self.ids.index(leader) if leader in self.ids else None

    async def need_leader(self) -> int:
        """Wait for a leader and return its position; raises `LabError` if there is none within ten seconds."""
        found = -1

        async def there() -> bool:
            nonlocal found
            leader = await self.leader()
            found = -1 if leader is None else leader
            return leader is not None

        await self.until(there, "a leader", 10.0)
        return found

    async def transfer(self, to: int | None = None) -> tuple[int, int]:
        """Hand the leadership over, to the next healthy member or to a given one; return both positions."""
        leader = await self.need_leader()
        answers = await self.statuses()
        others = [(leader + step) % self.size for step in range(1, self.size)]
        if to is None:
            to = next((i for i in others if answers[i] is not None), None)
        if to is None or to == leader:
            raise LabError("there is nobody to hand the leadership to", where=f"m{leader}")
        await self.apis[leader].transfer(self.ids[to])
        return leader, to

    async def until(self, condition: Callable[[], Awaitable[bool]], what: str, seconds: float) -> None:
        """Wait for a condition.

        Raises
        ------
        LabError
            If it does not come about in time, or a member ends by itself.
        """
        try:
            async with asyncio.timeout(seconds):
                while not await condition():
                    self.check()
                    await asyncio.sleep(LOOK)
        except TimeoutError:
            words = "; ".join(f"{member.name}: {member.last_words()[-150:]}" for member in self.members)
            raise LabError(f"no {what} within {seconds:g} s; {words}", where=str(self.directory)) from None

"""etcd's HTTP side: the v3 JSON gateway, health and metrics of one member."""

import base64
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
import msgspec

from lab.etcd.errors import RequestError

PROBE: Final = 0.3  # seconds a member has to answer a look at it
COMMAND: Final = 10.0  # seconds for what takes its time, such as a defragmentation


@dataclass(frozen=True)
class Status:
    """What a member says of itself.

    Attributes
    ----------
    member, leader
        Ids; the leader's is 0 if it knows none.
    term, revision
        Raft's term, and the store's revision.
    """

    member: int
    leader: int
    term: int
    revision: int


class Api:
    """Requests to one member.

    Parameters
    ----------
    session
        Shared by all members.
    url
        The member's client URL.
    """

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session, self._url = session, url

    async def put(self, key: str, value: bytes, seconds: float) -> None:
        """Write a value; returns when a quorum has it.

        Raises
        ------
        TimeoutError, aiohttp.ClientError, RequestError
            If it took longer than `seconds`, if nobody is there, if etcd refuses.
        """
        await self._post("kv/put", {"key": _text(key.encode()), "value": _text(value)}, seconds)

    async def get(self, key: str, seconds: float) -> None:
        """Read a value, linearisable: a quorum must agree who leads. Raises as `put` does."""
        await self._post("kv/range", {"key": _text(key.encode())}, seconds)

    async def status(self, seconds: float = PROBE) -> Status:
        """Ask for term, leader and revision. Raises as `put` does."""
        said = await self._post("maintenance/status", {}, seconds)
        header = said["header"]
        return Status(
            member=int(header["member_id"]),
            leader=int(said.get("leader", 0)),
            term=int(said.get("raftTerm", 0)),
            revision=int(header.get("revision", 0)),
        )

    async def transfer(self, target: int) -> None:
        """Hand the leadership to the member with this id; only the leader can. Raises as `put` does."""
        await self._post("maintenance/transfer-leadership", {"targetID": str(target)}, COMMAND)

    async def compact(self, revision: int) -> None:
        """Forget what was overwritten before a revision. Raises as `put` does."""
        await self._post("kv/compaction", {"revision": str(revision)}, COMMAND)

    async def defragment(self) -> None:
        """Write the member's store anew; it answers nothing meanwhile. Raises as `put` does."""
        await self._post("maintenance/defragment", {}, COMMAND)

    async def healthy(self, seconds: float = PROBE) -> bool:
        """Whether /health says so in time; etcd 3.4 commits a proposal for it, so it needs a leader and a quorum."""
        text = await self._look("/health", seconds)
        return text is not None and '"true"' in text

    async def metrics(self, seconds: float = PROBE) -> str | None:
        """Return the Prometheus page, None if it did not come in time."""
        return await self._look("/metrics", seconds)

    async def _look(self, path: str, seconds: float) -> str | None:
        try:
            async with self._session.get(self._url + path, timeout=aiohttp.ClientTimeout(seconds)) as answer:
                return (await answer.read()).decode() if answer.status == 200 else None
        except (TimeoutError, aiohttp.ClientError):
            return None

    async def _post(self, path: str, body: dict[str, str], seconds: float) -> dict[str, Any]:
        url = f"{self._url}/v3/{path}"
        async with self._session.post(
            url, data=msgspec.json.encode(body), timeout=aiohttp.ClientTimeout(seconds)
        ) as answer:
            content = await answer.read()
            if answer.status != 200:
                raise RequestError(f"{answer.status} {content[:200].decode(errors='replace')}", where=url)
            said: dict[str, Any] = msgspec.json.decode(content)
            return said


def open_session() -> aiohttp.ClientSession:
    """Return a session without a limit of connections: an open-loop load must not wait for one."""
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))


def _text(value: bytes) -> str:
    return base64.b64encode(value).decode()

"""Asks the workers of all streams, once a second: their entities and their metrics."""

import asyncio
import ipaddress
import socket
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import quote, urlsplit

import aiohttp
import msgspec
from structlog import get_logger

from dwcp_stream.errors import UNREADABLE
from dwcp_stream.web.page.scrape import stream_numbers

log = get_logger(__name__)

LISTED = 1000
"""Entities of a worker that are listed; what fires and what scores highest comes first."""
ASK_SECONDS = 5.0
RESOLVE_SECONDS = 10.0
"""Time after which names are looked up again: workers come and go."""

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Gives the IP addresses of a host; OSError if there is none."""


async def resolve(host: str, port: int) -> Sequence[str]:
    """Look a name up as the system does."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return sorted({str(where[0]) for *_, where in found})


async def spread(address: str, looked_up: Resolve) -> list[str]:
    """Return the addresses behind one: each that its name stands for, itself where that is one or none.

    A worker's certificate names no IP address, so with https an address is one worker.
    """
    parts = urlsplit(address)
    host, port = str(parts.hostname), int(parts.port or 80)
    try:
        ipaddress.ip_address(host)
    except ValueError:
        if parts.scheme == "http" and host != "localhost":
            try:
                found = await looked_up(host, port)
            except OSError:
                return [address]  # asking it will say why
            if len(found) > 1:
                return [f"http://[{ip}]:{port}" if ":" in ip else f"http://{ip}:{port}" for ip in found]
    return [address]


@dataclass(slots=True)
class Answers:
    """What the workers of one stream said last.

    Attributes
    ----------
    numbers
        See `scrape.stream_numbers`.
    lists
        Lists of entities, one of each worker.
    silent
        Why a worker does not answer, by its address.
    """

    numbers: dict[str, Any] = field(default_factory=dict)
    lists: list[dict[str, Any]] = field(default_factory=list)
    silent: dict[str, str] = field(default_factory=dict)


class Workers:
    """The workers at some addresses; an async context manager.

    Parameters
    ----------
    addresses
        Of workers, such as http://127.0.0.1:9470; where the stream is known beforehand it is given, else empty: the
        worker says. A name that stands for several addresses is all of them.
    token
        What each worker wants as bearer token.
    looked_up
        Looks names up.
    """

    def __init__(self, addresses: Mapping[str, str], token: str | None, looked_up: Resolve = resolve) -> None:
        self._given, self._looked_up, self._next = dict(addresses), looked_up, 0.0
        self._streams = dict(addresses)
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        timeout = aiohttp.ClientTimeout(total=ASK_SECONDS)
        self._session = aiohttp.ClientSession(headers=self._headers, timeout=timeout, trust_env=False)
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def ask(self) -> dict[str, Answers]:
        """Ask all of them; returns answers by stream, also of streams whose workers are silent."""
        await self._look_up()
        asked = list(self._streams)
        said = await asyncio.gather(*(self._one(address) for address in asked))
        found: dict[str, Answers] = defaultdict(Answers)
        texts: dict[str, list[str]] = defaultdict(list)
        for address, answer in zip(asked, said, strict=True):
            if isinstance(answer, str):
                found[self._streams[address]].silent[address] = answer
                continue
            listed, text = answer
            stream = self._streams[address] = listed["stream"]
            found[stream].lists.append(listed)
            texts[stream].append(text)
        for stream, of_stream in texts.items():
            try:
                found[stream].numbers = await asyncio.to_thread(stream_numbers, of_stream)
            except ValueError as error:
                log.warning("metrics cannot be read", stream=stream, error=str(error), error_type="payload")
        return dict(found)

    async def _look_up(self) -> None:
        if time.monotonic() < self._next:
            return
        given = await asyncio.gather(*(spread(address, self._looked_up) for address in self._given))
        known = self._streams
        self._streams = {
            address: known.get(address) or stream
            for stream, several in zip(self._given.values(), given, strict=True)
            for address in several
        }
        self._next = time.monotonic() + RESOLVE_SECONDS

    async def _one(self, address: str) -> tuple[dict[str, Any], str] | str:
        try:
            listed = msgspec.json.decode(await self._get(address, f"/entities?limit={LISTED}"))
            if not isinstance(listed, dict) or not {"stream", "models", "entities"} <= listed.keys():
                return "what answers there is not a worker"
            return listed, (await self._get(address, "/metrics")).decode()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return str(error) or type(error).__name__
        except UNREADABLE:
            return "what answers there is not a worker"

    async def entity(self, stream: str, name: str) -> dict[str, Any] | None:
        """Return what a worker of a stream shows of an entity; None if none has it."""
        for address in self._of(stream):
            try:
                answer = await self._get(address, f"/entities/{quote(name, safe='')}")
                found: dict[str, Any] = msgspec.json.decode(answer)
            except (aiohttp.ClientError, TimeoutError, OSError, *UNREADABLE):
                continue
            return found
        return None

    async def search(self, stream: str, like: str, limit: int) -> list[dict[str, Any]]:
        """Return lists of the entities of a stream whose names have `like` in them, one of each worker."""
        found = []
        for address in self._of(stream):
            try:
                found.append(
                    msgspec.json.decode(await self._get(address, f"/entities?limit={limit}&like={quote(like)}"))
                )
            except (aiohttp.ClientError, TimeoutError, OSError, *UNREADABLE):
                continue
        return found

    def _of(self, stream: str) -> Sequence[str]:
        return [address for address, its in self._streams.items() if its == stream]

    async def _get(self, address: str, path: str) -> bytes:
        if self._session is None:
            raise RuntimeError("use `async with`")
        async with self._session.get(address + path) as answer:
            if answer.status != 200:
                raise aiohttp.ClientError(
                    f"answers {answer.status}" + (": another token" if answer.status == 401 else "")
                )
            return await answer.read()

"""The page's HTTP server: files, server-sent events, and what is asked for one by one."""

import contextlib
from importlib.resources import files
from pathlib import Path
from typing import Any, Protocol

import msgspec
from aiohttp import web

from dwcp_stream.web.listening import listen
from dwcp_stream.web.page.access import POLICY, Guard, local_names, strict
from dwcp_stream.web.page.hub import MOST_BROWSERS, Hub, encode

STATIC = Path(str(files("dwcp_stream.web.page"))) / "static"


class Source(Protocol):
    """Where what the page shows comes from."""

    hub: Hub

    def snapshot(self) -> dict[str, Any]:
        """Return all that a browser needs to begin with."""

    async def entity(self, stream: str, name: str) -> dict[str, Any] | None:
        """Return one entity in full; None if there is no such entity."""

    async def search(self, stream: str, like: str) -> list[list[Any]]:
        """Return rows of the entities of a stream whose names have `like` in them."""


class PageServer:
    """Serves the page from inside a running event loop.

    Parameters
    ----------
    source
        What is shown.
    host, port
        Where to listen; port 0 takes a free one.
    token
        What browsers have to bring; None only on loopback.
    """

    def __init__(self, source: Source, host: str, port: int, token: str | None) -> None:
        self._source, self._host, self._port = source, host, port
        self._guard = Guard(token) if token else None
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """Base address once started."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    def app(self) -> web.Application:
        """Return the application."""
        guards = [strict, self._guard.middleware() if self._guard else local_names]
        app = web.Application(middlewares=guards)
        app.add_routes(
            [
                web.get("/", _file("index.html")),
                web.get("/events", self._events),
                web.get("/api/entities/{stream}", self._search),
                web.get("/api/entities/{stream}/{name:.+}", self._entity),
                web.static("/static", STATIC),
            ]
        )
        if self._guard:
            app.add_routes([web.get("/login", _file("login.html")), web.post("/login", self._guard.login)])
        return app

    async def start(self) -> None:
        """Start listening.

        Raises
        ------
        ConfigError
            The address cannot be listened on.
        """
        self._runner, self._port = await listen(self.app(), self._host, self._port, "page.port")

    async def stop(self) -> None:
        """Stop listening."""
        self._source.hub.close()
        if self._runner:
            await self._runner.cleanup()

    async def _events(self, request: web.Request) -> web.StreamResponse:
        if len(self._source.hub) >= MOST_BROWSERS:
            raise web.HTTPServiceUnavailable(text="too many browsers\n")
        headers = {**POLICY, "Content-Type": "text/event-stream", "X-Accel-Buffering": "no"}
        answer = web.StreamResponse(headers=headers)
        await answer.prepare(request)
        with self._source.hub.joined() as events, contextlib.suppress(ConnectionError):
            await answer.write(b"retry: 1000\n" + encode("snapshot", self._source.snapshot()))
            async for event in events:
                await answer.write(event)
        return answer

    async def _entity(self, request: web.Request) -> web.StreamResponse:
        stream, name = request.match_info["stream"], request.match_info["name"]
        return _json(await self._source.entity(stream, name))

    async def _search(self, request: web.Request) -> web.StreamResponse:
        return _json(await self._source.search(request.match_info["stream"], request.query.get("like", "")))


def _json(found: object) -> web.Response:
    if found is None:
        return web.Response(body=b'{"error":"not found"}', status=404, content_type="application/json")
    return web.Response(body=msgspec.json.encode(found), content_type="application/json")


def _file(name: str) -> Any:
    async def answer(_request: web.Request) -> web.StreamResponse:
        return web.FileResponse(STATIC / name)

    return answer

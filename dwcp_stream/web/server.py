"""The HTTP server of a worker: /metrics, /health/live, /health/ready, /entities and /entities/NAME."""

import hmac
from collections.abc import Callable
from typing import Protocol

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from dwcp_stream.errors import ModelError
from dwcp_stream.telemetry.health import Report
from dwcp_stream.web.listening import listen
from dwcp_stream.web.looks import EntityList, EntityLook

MOST_ENTITIES = 5000
"""Longest list of entities that one answer gives."""


class Looks(Protocol):
    """Answers questions about entities."""

    async def entities(self, like: str, limit: int) -> EntityList:
        """List those whose names have `like` in them, what fires first."""

    async def entity(self, name: str) -> EntityLook | None:
        """Show one; None if there is no such entity. ModelError if a model fails on it."""


def bearer(token: str) -> Middleware:
    """Return a middleware that answers 401 to requests without the token (RFC 6750), whatever they ask for."""
    expected = token.encode()

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        # how long a comparison takes must not tell how much of a guess is right
        right = hmac.compare_digest(given.strip().encode("utf-8", "surrogateescape"), expected)
        if scheme.lower() != "bearer" or not right:
            return web.Response(status=401, text="a bearer token is needed\n", headers={"WWW-Authenticate": "Bearer"})
        return await handler(request)

    return guard


class HttpServer:
    """Serves metrics and health from inside a running event loop.

    Parameters
    ----------
    registry
        Metrics to show.
    live, ready
        Give the answers of the two health questions; called for each request, so they must be quick.
    looks
        Answers questions about entities; None: none are answered.
    host, port
        Where to listen; port 0 takes a free one.
    token
        Every request must bring it as `Authorization: Bearer TOKEN`; None: no request needs one.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        live: Callable[[], Report],
        ready: Callable[[], Report],
        looks: Looks | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        token: str | None = None,
    ) -> None:
        self._registry, self._live, self._ready, self._looks = registry, live, ready, looks
        self._host, self._port, self._token = host, port, token
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """Base address once started, for example http://127.0.0.1:9470."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    def app(self) -> web.Application:
        """Return the application, for a server of one's own or a test client."""
        app = web.Application(middlewares=[bearer(self._token)] if self._token else [])
        app.add_routes(
            [
                web.get("/metrics", self._metrics),
                web.get("/health/live", self._health(self._live)),
                web.get("/health/ready", self._health(self._ready)),
            ]
        )
        if self._looks is not None:
            app.add_routes(
                [
                    web.get("/entities", self._entities(self._looks)),
                    web.get("/entities/{name:.+}", self._entity(self._looks)),
                ]
            )
        return app

    async def start(self) -> int:
        """Start listening and return the port.

        Raises
        ------
        ConfigError
            The address cannot be listened on.
        """
        self._runner, self._port = await listen(self.app(), self._host, self._port, "http.port")
        return self._port

    async def stop(self) -> None:
        """Stop listening; does nothing when not started."""
        runner, self._runner = self._runner, None
        if runner:
            await runner.cleanup()

    async def _metrics(self, request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(self._registry), headers={"Content-Type": content_type})

    @staticmethod
    def _entities(looks: Looks) -> Handler:
        async def answer(request: web.Request) -> web.StreamResponse:
            limit = request.query.get("limit", "1000")
            if not limit.isascii() or not limit.isdigit() or not 1 <= int(limit) <= MOST_ENTITIES:
                return _json({"error": f"limit must be 1 to {MOST_ENTITIES}"}, 400)
            return _json(await looks.entities(request.query.get("like", ""), int(limit)))

        return answer

    @staticmethod
    def _entity(looks: Looks) -> Handler:
        async def answer(request: web.Request) -> web.StreamResponse:
            name = request.match_info["name"]
            try:
                found = await looks.entity(name)
            except ModelError as error:
                return _json({"error": str(error)}, 500)
            if found is None:
                return _json({"error": f"no partition of this worker has an entity {name}"}, 404)
            return _json(found)

        return answer

    @staticmethod
    def _health(question: Callable[[], Report]) -> Handler:
        async def answer(_request: web.Request) -> web.StreamResponse:
            report = question()
            return _json(report, 200 if report.ok else 503)

        return answer


def _json(obj: object, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(obj), status=status, content_type="application/json")

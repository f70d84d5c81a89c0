"""The HTTP server of a worker: /metrics, /health/live and /health/ready."""

import hmac
from collections.abc import Callable

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from dwcp_stream.errors import ConfigError
from dwcp_stream.telemetry.health import Report


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
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        token: str | None = None,
    ) -> None:
        self._registry, self._live, self._ready = registry, live, ready
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
        return app

    async def start(self) -> int:
        """Start listening and return the port.

        Raises
        ------
        ConfigError
            The address cannot be listened on.
        """
        runner = web.AppRunner(self.app(), access_log=None, handle_signals=False, shutdown_timeout=1.0)
        await runner.setup()
        try:
            await web.TCPSite(runner, self._host, self._port).start()
        except OSError as error:
            await runner.cleanup()
            raise ConfigError(
                f"cannot listen there: {error.strerror or error}",
                where=f"{self._host}:{self._port}",
                remedy="Choose another http.port (DWCP_HTTP__PORT), or 0 for any free one",
            ) from error
        self._runner = runner
        self._port = int(runner.addresses[0][1])
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
    def _health(question: Callable[[], Report]) -> Handler:
        async def answer(_request: web.Request) -> web.StreamResponse:
            report = question()
            return web.Response(
                body=msgspec.json.encode(report),
                status=200 if report.ok else 503,
                content_type="application/json",
            )

        return answer

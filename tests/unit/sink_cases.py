"""Alerts made for the tests of sinks, and a server that plays the other side."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Any, Self

import msgspec
from aiohttp import web

from dwcp_stream.alerts.identity import fingerprint
from dwcp_stream.events import Alert, AlertField, rfc3339

BEGIN = 1_700_000_000.0


def alert(action: str = "firing", entity: str = "eu-1/n1", at: float = 0.0, since: float = 0.0, **more: Any) -> Alert:
    """An alert of the node stream; times in seconds after BEGIN."""
    severity = more.pop("severity", "critical" if action == "escalated" else "warning")
    given: dict[str, Any] = {
        "labels": {"alertname": "Hot", "stream": "node", "entity": entity, "model": "gbt", "severity": severity},
        "annotations": {"summary": f"Hot on node {entity} is {severity}: cpu <95> & rising."},
        "starts_at": rfc3339(BEGIN + since),
        "ends_at": rfc3339(BEGIN + at) if action == "resolved" else msgspec.UNSET,
        "generator_url": "https://wiki.example/hot",
        "fingerprint": fingerprint("Hot", "node", entity, "gbt"),
        "action": action,
        "reason": "score",
        "severity": severity,
        "score": 1.7,
        "kind": "cpu",
        "state": "scored",
        "fields": [AlertField("cpu", 95.0, 40.0, 0.9, "%")],
        "stream": "node",
        "entity": entity,
        "model": "gbt",
        "model_version": 3,
        "event_time": rfc3339(BEGIN + at),
    }
    return Alert(**{**given, **more})


class Receiver:
    """A real HTTP server that notes what it gets and answers as it is told: `answers` first, then 200."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.tls = tls
        self.requests: list[tuple[dict[str, str], Any]] = []
        self.answers: list[Callable[[], web.StreamResponse] | int] = []
        self.hang = asyncio.Event()
        self.url = ""

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.add_routes([web.post("/{path:.*}", self._take)])
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self.tls).start()
        self.url = f"{'https' if self.tls else 'http'}://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self.hang.set()
        await self._runner.cleanup()

    async def _take(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((dict(request.headers), msgspec.json.decode(await request.read())))
        answer = self.answers.pop(0) if self.answers else 200
        if answer == 0:  # no answer at all
            await self.hang.wait()
        return web.Response(status=answer or 200, text="told so") if isinstance(answer, int) else answer()

    @property
    def bodies(self) -> list[Any]:
        """What it got, in order."""
        return [body for _, body in self.requests]

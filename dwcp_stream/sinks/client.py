"""One request to a sink, and what to make of the answer."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Final, Literal, NamedTuple

import aiohttp

from dwcp_stream.errors import ConfigError
from dwcp_stream.sinks.sink import Message, Sink

REFUSALS: Final = frozenset({400, 413, 422})
"""Answers that say that this message will never be taken. Others, such as 401 or 404, may be put right by people."""
SHOWN: Final = 200


class Answer(NamedTuple):
    """What became of a request.

    Attributes
    ----------
    word
        `taken`; `refused`, for good; or `failed`, to be tried again.
    reason
        Status and the beginning of the answer, or what went wrong on the way. Never the address.
    asked
        Seconds that the server asks to wait.
    """

    word: Literal["taken", "refused", "failed"]
    reason: str
    asked: float | None = None


@asynccontextmanager
async def http_session(timeout: float, cafile: Path | None = None) -> AsyncIterator[aiohttp.ClientSession]:  # noqa: ASYNC109  aiohttp's own, per request
    """Yield a session whose requests end after `timeout` seconds.

    Raises
    ------
    ConfigError
        The file of authorities cannot be used.
    """
    try:
        trusted = ssl.create_default_context(cafile=str(cafile) if cafile else None)
    except OSError as error:
        raise ConfigError(
            f"cannot be used: {error.strerror or error}", where="sinks.ssl_cafile", remedy="Give a PEM file"
        ) from error
    connector, cookies = aiohttp.TCPConnector(ssl=trusted), aiohttp.DummyCookieJar()
    limits = aiohttp.ClientTimeout(total=timeout)
    async with aiohttp.ClientSession(connector=connector, timeout=limits, cookie_jar=cookies) as session:
        yield session


async def post(session: aiohttp.ClientSession, sink: Sink, message: Message) -> Answer:
    """Send one message; no failure of the other side is raised."""
    headers = {"Content-Type": "application/json", "User-Agent": "dwcp-stream", **sink.headers}
    try:
        async with session.post(sink.url, data=message.body, headers=headers, allow_redirects=False) as response:
            if 200 <= response.status < 300:
                return Answer("taken", str(response.status))
            body = (await response.content.read(SHOWN)).decode("utf-8", "replace")
            reason = f"{response.status} {' '.join(body.split())}".strip()
            if response.status in REFUSALS:
                return Answer("refused", reason)
            return Answer("failed", reason, retry_after(response.headers.get("Retry-After"), datetime.now(UTC)))
    except TimeoutError:
        return Answer("failed", "no answer in time")
    except (aiohttp.ClientError, OSError) as error:
        return Answer("failed", _said(error))


def retry_after(header: str | None, now: datetime) -> float | None:
    """Return the seconds that a Retry-After header asks for (RFC 9110, section 10.2.3); None if it asks for nothing."""
    if header is None:
        return None
    if header.strip().isdecimal():
        return float(header)
    try:
        until = parsedate_to_datetime(header)
    except ValueError:
        return None
    return ((until if until.tzinfo else until.replace(tzinfo=UTC)) - now).total_seconds()


def _said(error: Exception) -> str:
    """Name an error of the way: its text could repeat the address, so only the system's words are taken."""
    cause = getattr(error, "os_error", error)
    text = getattr(cause, "strerror", None)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__

"""Getting pages: one look at each address, its outcome counted, its failure logged and not raised."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import urlsplit
from zlib import crc32

import aiohttp
from structlog import get_logger

from dwcp_stream.collect import Mapper, Page, parse_page
from dwcp_stream.errors import ConfigError, PayloadError
from dwcp_stream.telemetry.metrics import Metrics

log = get_logger(__name__)

ACCEPT: Final = "text/plain;version=0.0.4"
MOST_BYTES: Final = 64 << 20
SPREAD: Final = 0.1
"""Share of a step over which the looks at several addresses are spread."""


def page_address(text: str) -> str:
    """Return the address of a page: one without a path means /metrics.

    Raises
    ------
    ConfigError
        If it is no http address.

    Examples
    --------
    >>> page_address("http://etcd-1:2379"), page_address("localhost:9100")
    ('http://etcd-1:2379/metrics', 'http://localhost:9100/metrics')
    """
    whole = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(whole)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        good = False
    if not good:
        raise ConfigError(
            "is no address of a page",
            where=text,
            remedy="Write http://HOST:PORT of an exporter, or http://HOST:9090/federate of a Prometheus server",
        )
    return f"{whole.rstrip('/')}/metrics" if parts.path in ("", "/") and not parts.query else whole


class Scraper:
    """Asks all addresses for their pages.

    Parameters
    ----------
    urls
        Addresses; of a federation's only what the map needs is asked for.
    mapper
        Says which series are kept.
    job
        Label `job` of series that have none.
    stream
        Label of the metrics.
    seconds
        Most time for one page.
    spread
        Seconds over which the looks are spread, each address at a place of its own.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        urls: Sequence[str],
        mapper: Mapper,
        metrics: Metrics,
        *,
        job: str,
        stream: str,
        seconds: float,
        spread: float = 0.0,
    ) -> None:
        self._session, self._mapper, self._metrics = session, mapper, metrics
        self._urls, self._job, self._stream = tuple(urls), job, stream
        self._timeout, self._spread = aiohttp.ClientTimeout(seconds), spread
        self.last_failure = ""

    async def look(self) -> list[Page]:
        """Return the pages of those addresses that answered."""
        pages = await asyncio.gather(*map(self._page, self._urls))
        return [page for page in pages if page is not None]

    async def _page(self, url: str) -> Page | None:
        await asyncio.sleep(self._spread * (crc32(url.encode()) % 1000) / 1000)
        begun = time.monotonic()
        try:
            text = await self._text(url)
            # a page of a thousand lines takes tens of milliseconds: not in the loop that also sends
            page = await asyncio.to_thread(parse_page, text, url, time.time(), self._labels(url), self._mapper.wanted)
        except aiohttp.ClientResponseError as error:
            self._failed(url, "refused", f"it answers {error.status} {error.message}")
        except (PayloadError, UnicodeDecodeError) as error:
            self._failed(url, "malformed", str(error))
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            self._failed(url, "unreachable", str(error) or "it did not answer in time")
        else:
            self._metrics.count("dwcp_scrapes_total", 1, self._stream, "read")
            self._metrics.observe("dwcp_scrape_duration_seconds", time.monotonic() - begun, self._stream)
            return page
        return None

    async def _text(self, url: str) -> str:
        federation = urlsplit(url).path.endswith("/federate")
        asked = [("match[]", selector) for selector in self._mapper.selectors] if federation else None
        async with self._session.get(
            url, params=asked, timeout=self._timeout, headers={"Accept": ACCEPT}, raise_for_status=True
        ) as answer:
            content = await answer.content.read(MOST_BYTES)
            while len(content) < MOST_BYTES and (more := await answer.content.read(MOST_BYTES - len(content))):
                content += more
            return content.decode()

    def _labels(self, url: str) -> Mapping[str, str]:
        if urlsplit(url).path.endswith("/federate"):
            return {}  # its series have labels of their own
        return {"job": self._job, "instance": urlsplit(url).netloc.rpartition("@")[2]}

    def _failed(self, url: str, outcome: str, why: str) -> None:
        self._metrics.count("dwcp_scrapes_total", 1, self._stream, outcome)
        where = urlsplit(url)
        shown = f"{where.scheme}://{where.netloc.rpartition('@')[2]}{where.path}"
        self.last_failure = f"{shown}: {why}"
        log.warning("no page", url=shown, reason=why, stream=self._stream, error_type=outcome, stage="receiving")

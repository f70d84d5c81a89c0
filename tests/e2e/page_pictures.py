"""Makes the pictures of docs/page.md: `python -m tests.e2e.page_pictures docs/images`; needs Chromium, no Kafka."""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.async_api import Page, async_playwright

from dwcp_stream.kafka.embedded import EmbeddedBroker
from tests.e2e.page_site import PageSite

MINUTES = 30
SIZE = {"width": 1440, "height": 1060}


async def pictures(site: PageSite, tab: Page, folder: Path) -> None:
    """Take the pictures of docs/page.md, after half a minute of telemetry with two faults."""
    await tab.goto(site.url)
    for number in range(MINUTES):
        await site.step(faulty=[3, 17] if number in range(8, 14) else [41] if number > 24 else [])
        await asyncio.sleep(1)  # so that the lines on the cards have points
    node = f"#/node/{site.node(41).replace('/', '%2F')}"
    await tab.click("#stream-tabs button[data-name=link]")
    await tab.wait_for_selector("#entities a.entity")
    link = await tab.get_attribute("#entities a.entity", "href")
    await tab.click("#stream-tabs button[data-name=node]")
    for name, theme, address in (
        ("page-dark", "dark", "#/"),
        ("page-light", "light", "#/"),
        ("page-entity-light", "light", node),
        ("page-forecast-dark", "dark", link),
    ):
        await tab.emulate_media(color_scheme=theme)
        await tab.evaluate("address => { location.hash = address; }", address)
        await tab.wait_for_selector("#heat .cell" if address == "#/" else "#entity .multiples canvas")
        await asyncio.sleep(2)
        png = await tab.screenshot()
        # a palette makes it a third of the size
        picture = (
            Image.open(BytesIO(png)).convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        )
        picture.save(folder / f"{name}.png", optimize=True)


async def main(folder: Path) -> None:
    """Run a site on the embedded broker, and take the pictures."""
    with tempfile.TemporaryDirectory() as name:
        broker = EmbeddedBroker(log_file=Path(name) / "broker.txt")
        await broker.start()
        site = PageSite(broker.bootstrap, Path(name), nodes=160, links=60, ahead=MINUTES)
        async with site, async_playwright() as playwright:
            browser = await playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
            )
            tab = await browser.new_page(viewport=SIZE)  # type: ignore[arg-type]
            tab.set_default_timeout(120_000)
            await pictures(site, tab, folder)
            await browser.close()
        await broker.stop()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))

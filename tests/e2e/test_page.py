"""The live page as people see it: Chromium, real workers and real Kafka, a fault, the keyboard, a thousand entities.

The pictures of docs/page.md are made by `page_pictures`.
"""

from __future__ import annotations

import re
import shutil
import time

import msgspec
import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, async_playwright

from dwcp_stream.settings import Settings
from dwcp_stream.streams import load_streams
from dwcp_stream.web.page.process import Page as PageState
from dwcp_stream.web.page.server import PageServer
from dwcp_stream.web.page.workers import Answers
from tests.e2e.page_site import CHALLENGED, SHADOWED, PageSite
from tests.integration.harness import read_topic, wait_until
from tests.unit.test_page_views import alert

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

SEEN = """
window.seen = {};
new MutationObserver(() => {
  for (const row of document.querySelectorAll("#alerts tbody tr")) window.seen[row.dataset.key] ??= Date.now() / 1000;
}).observe(document, { childList: true, subtree: true });
window.longest = 0;
new PerformanceObserver((list) => {
  for (const task of list.getEntries()) window.longest = Math.max(window.longest, task.duration);
}).observe({ type: "longtask" });
"""
"""When each alert's row was there, and how long the longest task took, ms."""

UNNAMED = """() => {
  const kinds = "a, button, input, [role=img], [role=option], [role=listbox], table, section";
  const named = (node) => node.getAttribute("aria-label") || node.textContent.trim() || node.labels?.[0]?.textContent
    || document.getElementById(node.getAttribute("aria-labelledby"));
  const nodes = [...document.querySelectorAll(kinds)];
  return nodes.filter((node) => node.checkVisibility() && !named(node)).map((node) => node.outerHTML.slice(0, 120));
}"""
"""What a screen reader would have no name for."""


COLOURS = """(selector) => {
  const canvas = document.querySelector(selector);
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  return new Set(new Uint32Array(data.buffer)).size;
}"""


class Watched:
    """A tab, and what must not happen in it: errors, and requests that leave the machine."""

    def __init__(self, tab: Page) -> None:
        self.tab = tab
        self.errors: list[str] = []
        self.foreign: list[str] = []
        tab.on(
            "console",
            lambda message: self.errors.append(message.text) if message.type in ("error", "warning") else None,
        )
        tab.on("pageerror", lambda error: self.errors.append(str(error)))
        tab.on("request", self._asked)

    def _asked(self, request) -> None:
        if not re.match(r"http://127\.0\.0\.1:\d+/", request.url):
            self.foreign.append(request.url)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def browser():
    chromium = shutil.which("chromium")
    assert chromium, "chromium is missing; type: scripts/system-packages browser"
    async with async_playwright() as playwright:
        # root, as CI is, cannot have Chromium's sandbox; it opens nothing but this page
        browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def site(kafka, tmp_path_factory):
    async with PageSite(kafka.bootstrap, tmp_path_factory.mktemp("page"), nodes=12, links=6, minutes=40) as site:
        yield site


@pytest_asyncio.fixture(loop_scope="module")
async def watched(browser: Browser):
    context = await browser.new_context(viewport={"width": 1440, "height": 900}, color_scheme="dark")
    watched = Watched(await context.new_page())
    watched.tab.set_default_timeout(60_000)
    await watched.tab.add_init_script(SEEN)
    yield watched
    await context.close()
    assert watched.errors == []
    assert watched.foreign == []


@pytest.mark.kafka
@pytest.mark.timeout(300)
async def test_a_fault_appears_within_two_seconds_and_its_entity_explains_it(site: PageSite, watched: Watched, capsys):
    tab = watched.tab
    await tab.goto(site.url)
    await tab.wait_for_selector("#streams .chip.good")
    await tab.click("#stream-tabs button[data-name=node]")
    await tab.wait_for_selector("#heat .cell:nth-child(12)")
    sent = time.time()
    await site.step(faulty=[3])
    entity = site.node(3)
    await tab.wait_for_selector(f"#alerts a[data-entity='{entity}']")
    seen = await tab.evaluate("window.seen")
    published = {}
    for record in await read_topic(site.settings, site.prefix + "anomalies"):
        body = msgspec.json.decode(record.value)
        if body["entity"] == entity and body["action"] == "firing" and record.timestamp / 1000 > sent:
            published[f"{body['fingerprint']}@{body['startsAt']}"] = record.timestamp / 1000
    assert published
    shown = {key: seen[key] for key in published if key in seen}
    assert shown
    first = min(shown.values()) - sent
    after = max(at - published[key] for key, at in shown.items())
    with capsys.disabled():
        say = f"\nalert row {after:.3f} s after it was published, {first:.3f} s after the fault was sent"
        print(say)  # noqa: T201
    assert after < 2.0

    await tab.wait_for_selector(f"#heat .cell[data-entity='{entity}']:is(.warning, .critical, .emergency)")
    await tab.click(f"#alerts a[data-entity='{entity}']")
    await tab.wait_for_selector("#entity .multiples .chart canvas")
    assert await tab.evaluate("document.activeElement.id") == "h-entity"
    assert re.search(r"Score: .*node-.* [1-9].*, threshold 1", await tab.get_attribute("#entity .chart", "aria-label"))
    rows = await tab.locator("#entity table tbody tr").all_inner_texts()
    assert any(row.startswith("connection_failures") and "90" in row for row in rows), rows
    assert await tab.locator("#entity .bar100").count() > 0
    field = await tab.get_attribute("#entity .multiples [aria-label^='cpu_usage']", "aria-label")
    assert "99 now" in field
    assert await tab.evaluate(UNNAMED) == []


@pytest.mark.kafka
async def test_a_link_shows_its_forecast_and_what_came(site: PageSite, watched: Watched):
    tab = watched.tab
    await tab.goto(site.url)
    await tab.click("#stream-tabs button[data-name=link]")
    await tab.wait_for_selector("#entities a.entity")
    await tab.click("#entities a.entity")
    await tab.wait_for_selector("[aria-label^='Forecast of latency_ms'] canvas")
    assert await tab.locator("[aria-label^='Forecast of']").count() == 4
    await tab.wait_for_selector("[aria-label^='Forecast of latency_ms'][aria-label*=' expected at ']")
    colours = await tab.evaluate(COLOURS, "[aria-label^='Forecast of latency_ms'] canvas")
    assert colours > 5  # lines, band, grid and text are drawn
    await tab.wait_for_selector("#accuracy tbody tr", state="attached")
    assert await tab.evaluate(UNNAMED) == []


@pytest.mark.kafka
async def test_what_runs_beside_a_champion_is_shown_with_how_it_compares(site: PageSite, watched: Watched):
    tab = watched.tab
    await tab.goto(site.url)
    for model, arm in ((SHADOWED, "shadow"), (CHALLENGED, "challenger")):
        await tab.wait_for_selector(f"#models tbody tr:has-text('{model}'):has-text('{arm}'):has-text('loaded')")
    for _ in range(16):  # they begin with what comes after they were loaded, and are compared by five minutes
        await site.step()
    for model, arm in ((SHADOWED, "shadow"), (CHALLENGED, "challenger")):
        row = tab.locator(f"#models tbody tr:has-text('{model}'):has-text('{arm}')")
        await row.filter(has_text=" / ").wait_for()  # windows that both scored, and alarms of both and of either
        cells = await row.locator("td, th").all_inner_texts()
        compared, alarms = int(cells[4].replace(",", "")), [int(part) for part in cells[5].split(" / ")]
        assert compared > 0
        assert alarms[1:] == [0, 0], "it is the champion published again"
        assert (
            cells[3]
            != await tab.locator(f"#models tbody tr:has-text('{model}'):has-text('champion')")
            .locator("td, th")
            .nth(3)
            .inner_text()
        )
    shadowed, more = tab.locator("#accuracy tbody tr:has-text('shadow')"), tab.locator("#accuracy button").last

    async def shown() -> bool:
        if await more.is_enabled():
            await more.click()
        return await shadowed.count() > 0

    await wait_until(shown, site.logs, 30)


@pytest.mark.kafka
async def test_it_can_be_used_without_a_mouse(site: PageSite, watched: Watched):
    tab = watched.tab
    await tab.goto(site.url)
    await tab.wait_for_selector("#heat .cell")
    reached = []
    for _ in range(40):
        await tab.keyboard.press("Tab")
        reached.append(
            await tab.evaluate(
                "document.activeElement.id || document.activeElement.className || document.activeElement.dataset.name"
            )
        )
        if reached[-1] == "cells":
            break
    assert reached[0] == "skip"
    assert "theme" in reached
    assert reached[-1] == "cells", reached
    await tab.keyboard.press("ArrowRight")
    second = await tab.get_attribute("#heat .cell:nth-child(2)", "data-entity")
    active = await tab.evaluate(
        "document.getElementById(document.querySelector('.cells').getAttribute('aria-activedescendant')).dataset.entity"
    )
    assert active == second
    await tab.keyboard.press("Enter")
    await tab.wait_for_selector("#entity .chart canvas")
    assert await tab.inner_text("#h-entity") == second
    await tab.go_back()
    await tab.wait_for_selector("#overview:visible")
    assert await tab.evaluate("document.activeElement.className") == "cells"
    assert await tab.evaluate(UNNAMED) == []
    await tab.fill("#search", site.node(5) if "node-" in second else second)
    await tab.wait_for_selector("#entities tbody tr:only-child")


@pytest.mark.kafka
async def test_dark_and_light(site: PageSite, watched: Watched):
    tab = watched.tab
    background = "getComputedStyle(document.body).backgroundColor"
    await tab.goto(site.url)
    dark = await tab.evaluate(background)
    await tab.emulate_media(color_scheme="light")
    light = await tab.evaluate(background)
    assert dark != light
    await tab.click("#theme")
    assert await tab.evaluate(background) == dark
    await tab.reload()
    assert await tab.evaluate(background) == dark  # it is remembered
    await tab.click("#theme")
    assert await tab.evaluate(background) == light


@pytest.mark.kafka
async def test_a_worker_that_is_gone_is_said_and_what_was_known_stays(site: PageSite, watched: Watched):
    tab = watched.tab
    await tab.goto(site.url)
    await tab.wait_for_selector("#streams article[aria-label='stream link'] .chip.good")
    await site.stop("link")
    await tab.wait_for_selector("#streams article[aria-label='stream link'] .chip:text('no answer')")
    assert f"no answer from http://127.0.0.1:{site.ports['link']}" in await tab.inner_text("#status")
    assert await tab.inner_text("#stream-tabs button[data-name=link]") == "link 6"
    await tab.wait_for_selector("#streams article[aria-label='stream node'] .chip.good")


@pytest_asyncio.fixture(loop_scope="module")
async def crowded():
    """The page with a thousand entities and a hundred alerts, half of which fire; returns it with its server."""
    page = PageState(Settings(), load_streams(Settings().streams_dir))
    for number in range(100):
        page.board.take(
            "anomalies", alert(number=number, severity=("warning", "critical", "emergency")[number % 3]), {}
        )
        if number % 2:
            page.board.take("anomalies", alert("resolved", number=number, second=30), {})
    note(page, 0)
    server = PageServer(page, "127.0.0.1", 0, None)
    await server.start()
    yield page, server
    await server.stop()


def note(page: PageState, moment: int) -> None:
    """Let all entities have new scores."""
    model = {
        "name": "m",
        "version": 1,
        "task": "anomaly",
        "degraded": False,
        "severity": [1, 2, 5],
        "resolve_below": 0.8,
        "targets": [],
        "horizons": [],
    }
    entities = [
        {
            "entity": f"c{i // 50}/e{i}",
            "time": moment,
            "scores": [(i * 7 + moment * 13) % 120 / 100],
            "severities": ["warning" if i < 50 else None],
        }
        for i in range(1000)
    ]
    listed = {"stream": "node", "description": "", "step": 60.0, "count": 1000, "models": [model], "entities": entities}
    page._answers["node"] = Answers(lists=[listed])
    page._note("node", page._answers["node"])


async def test_a_thousand_entities_and_a_hundred_alerts_do_not_stutter(crowded, watched: Watched, capsys):
    page, server = crowded
    tab = watched.tab
    await tab.goto(server.url + "/")
    await tab.wait_for_selector("#heat .cell:nth-child(1000)", state="attached")
    assert await tab.locator("#alerts tbody tr").count() == 8
    await tab.evaluate("window.longest = 0")
    session = await tab.context.new_cdp_session(tab)
    await session.send("Performance.enable", {"timeDomain": "threadTicks"})
    before = await busy(session)
    updates = 15
    for moment in range(1, updates + 1):
        note(page, moment)
        row = page.board.take("anomalies", alert("escalated", number=moment * 2, second=moment), {})
        page.hub.send("alert", row)
        page.hub.send("streams", page._streams())
        await wait_until(lambda moment=moment: score_of(tab, "c0/e0", moment), f"update {moment}", 30)
    spent = (await busy(session) - before) / updates
    longest = await tab.evaluate("window.longest")
    with capsys.disabled():
        say = (
            f"\n1,000 entities, 100 alerts: {1000 * spent:.0f} ms of processor an update, longest task {longest:.0f} ms"
        )
        print(say)  # noqa: T201
    assert spent < 0.1
    await tab.click("#alerts button[aria-label='Alerts: next page']")
    assert await tab.locator("#alerts tbody tr").count() == 8


async def score_of(tab: Page, entity: str, moment: int) -> bool:
    wanted = moment * 13 % 120 / 100
    label = await tab.get_attribute(f"#heat .cell[data-entity='{entity}']", "aria-label")
    return float(re.search(r"score (\S+)$", label)[1]) == pytest.approx(wanted)


async def busy(session) -> float:
    """Processor seconds of the tab's main thread so far."""
    found = await session.send("Performance.getMetrics")
    return next(metric["value"] for metric in found["metrics"] if metric["name"] == "TaskDuration")

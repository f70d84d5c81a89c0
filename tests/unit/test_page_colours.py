"""The page's colours can be told from what is behind them, in both themes (WCAG 2.2, 1.4.3 and 1.4.11)."""

import re

import pytest

from dwcp_stream.web.page.server import STATIC

COLOURS = {
    name: {"light": light, "dark": dark}
    for name, light, dark in re.findall(
        r"--([\w-]+): light-dark\(#([0-9a-f]{6}), #([0-9a-f]{6})\)", (STATIC / "page.css").read_text()
    )
}


def luminance(colour: str) -> float:
    """Relative luminance of an sRGB colour."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """Contrast ratio, 1 to 21."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("behind", ["panel", "hover", "back"])
@pytest.mark.parametrize("name", ["text", "dim", "good", "warning", "critical", "emergency", "second", "accent"])
def test_text_can_be_read(name, behind, theme):
    assert contrast(COLOURS[name][theme], COLOURS[behind][theme]) >= 4.5


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", ["warning", "critical", "emergency"])
def test_cells_that_fire_stand_out(name, theme):
    assert contrast(COLOURS[name][theme], COLOURS["panel"][theme]) >= 3.0
    assert contrast(COLOURS[name][theme], COLOURS["s0"][theme]) >= 3.0


def test_nothing_of_the_page_is_from_elsewhere_or_inside_the_document():
    for path in STATIC.rglob("*"):
        if path.suffix in (".html", ".css", ".js", ".svg") and "vendor" not in path.parts:
            text = path.read_text().replace("http://www.w3.org/2000/svg", "")
            assert not re.search(
                r"https?://|url\(|@import|innerHTML|insertAdjacentHTML|document\.write|eval\(", text
            ), path
            assert not re.search(r"<script>|<style|\sstyle=|\son\w+=", text), path

"""What the documentation's pages are made of: fenced blocks with their marks, links, headings, tables.

A mark is a comment on the line before a fence, such as `<!-- kafka -->`. Readers do not see it; it says how a
block is run: `kafka` (needs a broker), `serve` (runs until it is told to stop), `dry` (make prints instead of
running), `full` (long: only in `make full`), or `schema NAME` (a JSON example of that schema).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
RUN = ("sh", "python")
SHOWN = ("toml", "json", "text", "")
COMMANDS = ("dwcp-stream", "make", "python", "pip", "docker", "kafka-", "$")
MARKS = {"kafka", "serve", "dry", "full"}

FENCE = re.compile(
    r"^(?:<!-- (?P<marks>[^\n]*?) -->\n)?```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
LINK = re.compile(r"!?\[[^\]]*\]\((?P<target>[^)\s]+)\)")
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    page: Path
    line: int
    language: str
    text: str
    marks: tuple[str, ...]

    def __str__(self) -> str:
        return f"{name_of(self.page)}:{self.line}"


def name_of(page: Path) -> str:
    """A page's name in messages and test ids."""
    return str(page.relative_to(ROOT))


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    text = page.read_text()
    return [
        Block(page, text[: m.start()].count("\n") + 1, m["language"], m["text"], tuple((m["marks"] or "").split()))
        for m in FENCE.finditer(text)
    ]


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return FENCE.sub("", page.read_text())


def links(page: Path) -> list[str]:
    """Targets of all links and pictures."""
    return [m["target"] for m in LINK.finditer(prose(page))]


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in HEADING.findall(prose(page))}


def table(page: Path, *, below: str) -> list[list[str]]:
    """Cells of the first table after a text, without header and rule."""
    text = page.read_text()
    lines = text[text.index(below) + len(below) :].splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("|"))
    rows = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows[2:]


def code(cell: str) -> list[str]:
    """The words in backquotes of a table's cell."""
    return re.findall(r"`([^`]*)`", cell)

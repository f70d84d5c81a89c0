"""Turns docs/ into a site: the README as first page, decisions in order, links that leave docs/ as names."""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
OUTSIDE = re.compile(r"\[([^\]]+)\]\((?:\.\./)+([^)#]+)(?:#[^)]*)?\)")
"""A link to a file of the project that is no page of the site."""
ELSEWHERE = re.compile(r"\[([^\]]+)\]\(((?:[A-Z]+(?:\.md)?|lab/README\.md|decisions/?))\)")
"""The same in the README."""


def on_config(config: Any) -> Any:
    """List the decisions in the navigation, oldest first."""
    decisions = sorted(path.relative_to(config["docs_dir"]) for path in Path(config["docs_dir"]).glob("decisions/*.md"))
    for section in config["nav"]:
        for pages in section.values():
            for page in pages if isinstance(pages, list) else []:
                if page.get("Decisions"):
                    page["Decisions"] = [str(path) for path in decisions]
    return config


def on_files(files: Files, config: Any) -> Files:
    """Make the README the first page."""
    text = (ROOT / "README.md").read_text(encoding="utf-8").replace("](docs/", "](")
    text = ELSEWHERE.sub(r"\1 (`\2`)", text)
    files.append(File.generated(config, "index.md", content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Name what lies outside docs/ where a page links to it: the site does not hold it."""
    depth = page.file.src_uri.count("/")

    def named(found: re.Match[str]) -> str:
        if found[0].count("../") <= depth:
            return found[0]
        return f"{found[1]} (`{found[2]}`)"

    text = OUTSIDE.sub(named, markdown)
    return re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)

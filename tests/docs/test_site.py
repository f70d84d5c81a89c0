"""The pages as a site: built strictly, complete, and with nothing that a browser would fetch from elsewhere."""

import os
import re
import subprocess
import sys

import pytest

from tests.docs.pages import PAGES, ROOT

FETCHED = re.compile(r"""<(?:script|img|iframe|link)\b[^>]*?\b(?:src|href)=["']?(https?://[^"' >]+)""")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder],
        cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


def test_every_page_is_there(site):
    for page in PAGES:
        path = page.relative_to(ROOT / "docs") if page.is_relative_to(ROOT / "docs") else None
        if path is not None:
            assert (site / path.with_suffix(".html")).is_file(), page
    assert (site / "index.html").is_file()


def test_nothing_is_fetched_from_elsewhere(site):
    for page in site.rglob("*.html"):
        found = [url for url in FETCHED.findall(page.read_text(encoding="utf-8")) if "canonical" not in url]
        assert not found, page

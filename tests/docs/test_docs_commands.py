"""Every `sh` and `python` block of the documentation is run, page by page, in order."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from tests.docs.pages import COMMANDS, MARKS, PAGES, RUN, SHOWN, Block, blocks, name_of
from tests.docs.session import Session

NO_BROKER = "127.0.0.1:1"
SHORT_SECONDS, LONG_SECONDS = 120.0, 900.0


def runnable(page: Path) -> list[Block]:
    return [block for block in blocks(page) if block.language in RUN]


def parameters(*, long: bool) -> list[object]:
    """Pages with something to run: without their long blocks, or (again) with them if they have some."""
    found = []
    for page in PAGES:
        chosen = [b for b in runnable(page) if long or "full" not in b.marks]
        if not chosen or (long and not any("full" in b.marks for b in chosen)):
            continue
        marks = [pytest.mark.kafka] if any("kafka" in b.marks for b in chosen) else []
        found.append(pytest.param(page, chosen, id=name_of(page), marks=marks))
    return found


def go_through(chosen: list[Block], folder: Path, name: str, request: pytest.FixtureRequest, seconds: float) -> None:
    needs_broker = any("kafka" in block.marks for block in chosen)
    bootstrap = request.getfixturevalue("kafka").bootstrap if needs_broker else NO_BROKER
    with contextlib.ExitStack() as stack:
        session = Session(folder, bootstrap, name)
        stack.callback(session.stop)
        for block in chosen:
            if "serve" in block.marks:
                session.serve(block)
            else:
                session.run(block, seconds)


@pytest.mark.slow
@pytest.mark.parametrize(("page", "chosen"), parameters(long=False))
def test_every_command_of_a_page_works(page, chosen, tmp_path, unique, request):
    go_through(chosen, tmp_path, unique, request, SHORT_SECONDS)


@pytest.mark.full
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("page", "chosen"), parameters(long=True))
def test_the_long_commands_of_a_page_work_too(page, chosen, tmp_path, unique, request):
    go_through(chosen, tmp_path, unique, request, LONG_SECONDS)


def test_no_block_escapes_by_its_language_or_by_a_misspelt_mark():
    for page in PAGES:
        for block in blocks(page):
            assert block.language in (*RUN, *SHOWN), f"{block}: language {block.language!r}"
            if block.language in RUN:
                assert set(block.marks) <= MARKS, f"{block}: marks {block.marks}"
            else:
                hidden = [line for line in block.text.splitlines() if line.startswith(COMMANDS)]
                assert not hidden, f"{block}: commands that nothing runs: {hidden}"


def test_a_block_that_fails_is_noticed(tmp_path, unique):
    session = Session(tmp_path, NO_BROKER, unique)
    wrong = (("sh", "false\ntrue\n"), ("sh", "dwcp-stream streams show nothing | cat\n"), ("python", "1/0"))
    for language, text in wrong:
        with pytest.raises(AssertionError, match="ended with"):
            session.run(Block(PAGES[0], 1, language, text, ()), SHORT_SECONDS)
    session.serve(Block(PAGES[0], 1, "sh", "true\nfalse\n", ("serve",)))
    session.serving[0].process.wait()
    with pytest.raises(AssertionError, match="ended with 1"):
        session.run(Block(PAGES[0], 2, "sh", "true\n", ()), SHORT_SECONDS)
    with pytest.raises(AssertionError, match="ended with 1 when told to stop"):
        session.stop()

"""The runbook and the page on alerting name commands, options, metrics and settings that exist."""

from __future__ import annotations

import re

import click
import pytest

from dwcp_stream.cli.main import cli
from dwcp_stream.settings_docs import options
from dwcp_stream.telemetry.catalogue import CATALOGUE
from tests.docs.pages import ROOT

PAGES = ("runbook.md", "alerting.md")
TEXT = {name: (ROOT / "docs" / name).read_text() for name in PAGES}
INLINE = {
    name: re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL)) for name, text in TEXT.items()
}
COMMANDS = [(name, code) for name in PAGES for code in INLINE[name] if code.startswith("dwcp-stream ")]


def lacking(words: list[str]) -> str:
    """What of a command line does not exist; empty if all does."""
    command: click.Command = cli
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        found = command.get_command(click.Context(command), words[0])
        if found is None:
            return words[0]
        command, words = found, words[1:]
    known = {name for parameter in command.params for name in parameter.opts}
    return next((word for word in words if word.startswith("--") and word not in known), "")


@pytest.mark.parametrize(("page", "code"), COMMANDS)
def test_every_command_exists_with_its_options(page, code):
    assert not lacking(code.split()[1:])


def test_what_does_not_exist_is_noticed():
    assert lacking(["models", "praise", "gbt"]) == "praise"
    assert lacking(["alert-sink", "--chek"]) == "--chek"


@pytest.mark.parametrize("page", PAGES)
def test_every_metric_and_setting_exists(page):
    metrics = {spec.name for spec in CATALOGUE}
    paths = {option.path for option in options()}
    variables = {option.variable for option in options()}
    sections = {path.partition(".")[0] for path in paths if "." in path}
    for code in INLINE[page]:
        if re.fullmatch(r"dwcp_\w+", code):
            assert code in metrics, code
        if re.fullmatch(r"[a-z]+\.[a-z_]+", code) and code.partition(".")[0] in sections:
            assert code in paths, code
    assert set(re.findall(r"DWCP_\w+", TEXT[page])) <= variables

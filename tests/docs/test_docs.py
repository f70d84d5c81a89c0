"""The documentation says what the code does: links, tables of keys and words, examples, figures."""

from __future__ import annotations

import json
import re
from typing import get_args

import msgspec
import pytest

from dwcp_stream import settings_docs
from dwcp_stream.kafka.catalogue import DAY_MS, catalogue
from dwcp_stream.registry import ModelRepository
from dwcp_stream.streams import load_stream, load_streams
from dwcp_stream.streams.decode import ChunkDecoder
from dwcp_stream.streams.decoded import ErrorType
from dwcp_stream.streams.definition import AlertPolicy, Field, ModelBinding, StreamDefinition
from dwcp_stream.telemetry.catalogue import markdown
from dwcp_stream.windows import Outcome
from tests.docs.pages import PAGES, ROOT, anchors, blocks, code, links, name_of, prose, table

STREAMS = ROOT / "docs/streams.md"
MODELS = ROOT / "docs/models.md"
TOPICS = ROOT / "docs/topics.md"
LATE = 1_800_000_000_000  # record timestamps after the examples' times


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_relative_link_leads_somewhere(page):
    for target in links(page):
        path, _, anchor = target.partition("#")
        if "://" in path or path.startswith("mailto:"):
            continue
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{name_of(page)} links to {target}"
        assert there.is_relative_to(ROOT), f"{name_of(page)} links out of the project: {target}"
        if anchor:
            assert anchor in anchors(there), f"{name_of(page)}: {target}; there are {sorted(anchors(there))}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_prose_keeps_to_its_width(page):
    for line in prose(page).splitlines():
        if line.startswith(("|", "!")) or "](" in line:
            continue
        assert len(line) <= 130, f"{name_of(page)}: {line[:60]}..."


def test_pages_made_from_the_code_are_current():
    made = {"metrics": markdown(), "settings": settings_docs.page()}
    for name, lines in made.items():
        assert (ROOT / f"docs/{name}.md").read_text() == "\n".join(lines) + "\n", "run `make docs`"


def names_and_defaults(struct):
    """Default by key; NODEFAULT for a key that is needed, None for one whose default is made."""
    found = [f for f in msgspec.structs.fields(struct) if f.name != "fields"]
    return {f.name: None if f.default is msgspec.NODEFAULT and not f.required else f.default for f in found}


def documented(below):
    """Default cell by key; `[alert]` is left out of the keys."""
    found = {}
    for cells in table(STREAMS, below=below):
        for key in code(cells[0]):
            if key != "[alert]":
                found[key] = cells[2]
    return found


@pytest.mark.parametrize(
    ("below", "structs"),
    [
        ("## The definition", (StreamDefinition, AlertPolicy)),
        ("Each `[[fields]]`", (Field,)),
        ("Each `[[models]]`", (ModelBinding,)),
    ],
)
def test_every_key_of_a_definition_is_explained_with_its_default(below, structs):
    said = documented(below)
    wanted = {}
    for struct in structs:
        wanted |= names_and_defaults(struct)
    for inner in ("models", "alert"):
        wanted.pop(inner, None)
    assert set(said) == set(wanted)
    for key, default in wanted.items():
        if default is msgspec.NODEFAULT:
            assert said[key] == "needed", key
        elif isinstance(default, bool):
            assert said[key] == str(default).lower(), key
        elif isinstance(default, int | float):
            assert float(said[key]) == default, key
        elif isinstance(default, str) and default:
            assert said[key] == f"`{default}`", key
        else:
            assert said[key] != "needed", key


def test_every_error_word_and_outcome_is_explained():
    words = [code(cells[0])[0] for cells in table(STREAMS, below="header `error_type`")]
    assert sorted(words) == sorted({*get_args(ErrorType), "entity_limit"})
    outcomes = [code(cells[0])[0] for cells in table(STREAMS, below="## What becomes of a sample")]
    assert outcomes == [outcome.word for outcome in Outcome if outcome is not Outcome.REPLAYED]


def test_definitions_shown_are_right(tmp_path):
    shown = [b for page in PAGES for b in blocks(page) if b.language == "toml"]
    assert shown
    for i, block in enumerate(shown):
        path = tmp_path / f"{i}.toml"
        path.write_text(block.text)
        load_stream(path)


def test_payloads_shown_are_decoded():
    streams = load_streams(ROOT / "config/streams")
    shown = [b for b in blocks(STREAMS) if b.language == "json"]
    assert len(shown) == 3
    for block in shown:
        name = re.sub("(Sample|Frame)$", "", block.marks[1])
        decoded = ChunkDecoder(streams[name]).decode([block.text.encode()], [None], [LATE])
        assert not decoded.rejects, decoded.rejects
        assert decoded.samples_in == (2 if block.marks[1].endswith("Frame") else 1)
        assert decoded.unknown_fields == 0


def test_the_table_of_topics_is_the_catalogue():
    said = {code(cells[0])[0]: cells[1:] for cells in table(TOPICS, below="# Topics")}
    specs = catalogue(streams=load_streams(ROOT / "config/streams").values())
    assert set(said) == {spec.name for spec in specs}
    for spec in specs:
        key, _, cleanup, kept = said[spec.name]
        assert key == spec.key, spec.name
        assert cleanup == spec.cleanup, spec.name
        days = spec.config.get("retention.ms")
        assert kept == ("for ever" if days is None else f"{int(days) // DAY_MS} days"), spec.name


def test_figures_of_models_are_those_of_the_champions_reports():
    repository = ModelRepository(ROOT / "models")
    text = MODELS.read_text()
    for name in repository.names():
        heading = f"### {name}\n"
        assert heading in text, name
        section = text[text.index(heading) + len(heading) :]
        section = section[: re.search(r"^##", section, re.MULTILINE).start()]
        version = repository.resolve(name)
        assert f"](../models/{name}/{version}/report.md)" in section
        report = (ROOT / f"models/{name}/{version}/report.md").read_text()
        rows = [line for line in section.splitlines() if line.startswith("|")]
        assert len(rows) > 3, name
        for row in rows:
            assert f"\n{row}\n" in report, f"not in the report of {name} version {version}: {row}"


def test_every_streams_model_is_shown():
    bound = {model.name for stream in load_streams(ROOT / "config/streams").values() for model in stream.models}
    assert bound == set(ModelRepository(ROOT / "models").names())


def test_json_examples_are_json():
    for page in PAGES:
        for block in blocks(page):
            if block.language == "json":
                json.loads(block.text)

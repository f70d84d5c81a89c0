"""Stream definitions: what ships, what is refused and how it is said."""

from pathlib import Path
from typing import get_args

import pytest

from dwcp_stream.errors import ConfigError
from dwcp_stream.streams import decode_entity, encode_entity, load_stream, load_streams, schema_hash
from dwcp_stream.streams.decoded import ErrorType
from dwcp_stream.streams.definition import AlertPolicy, Field, ModelBinding, StreamDefinition

PROJECT = Path(__file__).resolve().parents[2]
SHIPPED = PROJECT / "config" / "streams"

MINIMAL = """
name = "demo"
topic = "t"
entity = ["id"]
step = 1.0
window = 5
[[fields]]
name = "load"
"""


@pytest.fixture(scope="module")
def shipped() -> dict[str, StreamDefinition]:
    return load_streams(SHIPPED)


def write(tmp_path: Path, text: str, name: str = "demo.toml") -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_three_streams_ship_with_the_fields_of_the_design(shipped: dict[str, StreamDefinition]) -> None:
    assert list(shipped) == ["consensus", "link", "node"]
    consensus, link, node = shipped["consensus"], shipped["link"], shipped["node"]
    assert consensus.field_names == (
        "queue_depth", "proposals_pending", "proposals_committed", "latency_p50", "latency_p95",
        "latency_p99", "leader_changes", "quorum_size", "active_nodes", "network_tier", "dwcp_mode",
        "consensus_type",
    )  # fmt: skip
    assert node.field_names == (
        "error_rate", "timeout_rate", "latency_p50", "latency_p99", "sla_violations", "connection_failures",
        "packet_loss_rate", "cpu_usage", "memory_usage", "disk_io", "dwcp_mode", "network_tier",
    )  # fmt: skip
    assert set(link.field_names) == {
        "bandwidth_mbps", "latency_ms", "packet_loss", "jitter_ms", "region", "az", "link_type", "rtt_ms",
        "throughput_mbps", "bytes_tx", "bytes_rx", "retransmits", "congestion_window", "queue_depth",
        "dwcp_mode", "network_tier", "transport_type",
    }  # fmt: skip
    assert (consensus.window, node.window, link.window) == (30, 15, 30)
    assert (consensus.entity, consensus.entity_optional) == (("cluster_id", "group_id"), ("group_id",))
    assert (consensus.step, node.step, link.step) == (1.0, 60.0, 60.0)
    assert (consensus.min_periods, node.min_periods, link.min_periods) == (24, 1, 24)
    assert link.models[0].horizons == (1, 6, 12)
    assert node.alertname(node.models[0]) == "node_incident"


@pytest.mark.parametrize("stream", ["consensus", "node", "link"])
def test_mode_and_tier_vocabularies_agree_between_streams(shipped: dict[str, StreamDefinition], stream: str) -> None:
    definition = shipped[stream]
    mode = definition.fields[definition.field_index("dwcp_mode")]
    tier = definition.fields[definition.field_index("network_tier")]
    assert mode.vocabulary[:9] == (
        "datacenter", "internet", "hybrid", "standard", "optimized", "fallback", "turbo", "reliable",
        "resilient",
    )  # fmt: skip
    assert tier.vocabulary == ("tier1", "tier2", "tier3", "tier4")
    assert tier.aliases["wan"] == "tier3"


def test_a_minimal_definition_has_defaults(tmp_path: Path) -> None:
    stream = load_stream(write(tmp_path, MINIMAL))
    assert (stream.time, stream.stride, stream.irregular) == ("ts", 1, False)
    assert [(model.name, model.task) for model in stream.models] == [(f"{stream.name}-anomaly", "anomaly")]
    assert stream.alert.resolve_below == 0.8


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (("step = 1.0", "step = 0"), "step"),
        (("step = 1.0", "step = nan"), "step"),
        (("step = 1.0", 'step = "hourly"'), "step"),
        (("window = 5", "window = 1"), "window"),
        (("window = 5", "window = 5\nmin_periods = 6"), "min_periods"),
        (("window = 5", "window = 5\nstrides = 1"), "strides"),
        (("window = 5", "window = 5\nlateness = -1"), "lateness"),
        (('entity = ["id"]', "entity = []"), "entity"),
        (('entity = ["id"]', 'entity = ["a", "b"]\nentity_optional = ["a"]'), "entity_optional"),
        (('topic = "t"', 'topic = "no topic"'), "topic"),
        (('name = "demo"', 'name = "../demo"'), "name"),
        (('name = "load"', 'name = "load"\nmin = 2\nmax = 1'), "fields[0].min"),
        (('name = "load"', 'name = "load"\nmin = "0"'), "fields[0].min"),
        (('name = "load"', 'name = "id"'), "fields[0].name"),
        (('name = "load"', 'name = "load"\nkind = "categorical"'), "fields[0].vocabulary"),
        (('name = "load"', 'name = "load"\nvocabulary = ["a", "A"]'), "fields[0].vocabulary"),
        (('name = "load"', 'name = "l"\nvocabulary = ["a"]\naliases = { x = "b" }'), "fields[0].aliases.x"),
        (('name = "load"', 'name = "load"\n[[fields]]\nname = "load"'), "fields[1].name"),
        (('name = "load"', 'name = "load"\n[alert]\nresolve_below = 1.5'), "alert.resolve_below"),
        (('name = "load"', 'name = "load"\n[alert]\nmin_duration = nan'), "alert.min_duration"),
        (('name = "load"', 'name = "l"\n[[models]]\ntask = "forecast"\nhorizons = [2, 1]'), "models[0].horizons"),
        (('name = "load"', 'name = "l"\nvocabulary = ["a"]\n[[models]]\ntask = "forecast"'), "models[0].targets"),
        (
            ('name = "load"', 'name = "load"\n[[models]]\nname = "m"\ntask = "anomaly"\nhorizons = [1]'),
            "models[0].targets",
        ),
        (('name = "load"', 'name = "load"\n[[models]]\nname = "m"\ntask = "guess"'), "models[0].task"),
        (('name = "load"', 'name = "load"\n[[models]]\nname = "../m"\ntask = "anomaly"'), "models[0].name"),
    ],
)
def test_errors_name_file_key_and_remedy(tmp_path: Path, change: tuple[str, str], key: str) -> None:
    path = write(tmp_path, MINIMAL.replace(*change))
    with pytest.raises(ConfigError) as caught:
        load_stream(path)
    assert str(path) in caught.value.where
    assert key in f"{caught.value.where} {caught.value.what}"
    assert caught.value.remedy


@pytest.mark.parametrize("text", ["x = [", "\xff", ""])
def test_broken_files_are_config_errors(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError):
        load_stream(path)


def test_missing_file_and_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        load_stream(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="no stream definition"):
        load_streams(tmp_path)


def test_two_files_may_not_share_a_topic(tmp_path: Path) -> None:
    write(tmp_path, MINIMAL, "a.toml")
    write(tmp_path, MINIMAL.replace('name = "demo"', 'name = "other"'), "b.toml")
    with pytest.raises(ConfigError, match=r"taken by a\.toml"):
        load_streams(tmp_path)


def test_entities_round_trip_and_never_collide() -> None:
    assert encode_entity(["a/b", "c"]) != encode_entity(["a", "b/c"])
    for parts in (("a/b", "ü %"), ("x",), ("%2F", "/")):
        assert decode_entity(encode_entity(parts)) == parts
    for wrong in ([], [""], ["x" * 257]):
        with pytest.raises(ValueError, match="entity"):
            encode_entity(wrong)


def test_schema_hash_sees_what_a_model_depends_on(tmp_path: Path) -> None:
    text = MINIMAL + '[[fields]]\nname = "mode"\nvocabulary = ["a", "b"]\n[[fields]]\nname = "other"\n'
    base = load_stream(write(tmp_path, text))
    fields, sizes = ("load", "mode"), {"mode": 2}
    digest = schema_hash(base, fields, 5, sizes)
    assert len(digest) == 64
    same = (
        text.replace('["a", "b"]', '["a", "b", "c"]'),  # appended word: an old model still fits
        text.replace('name = "other"', 'name = "another"'),  # a field the model does not read
        text.replace("window = 5", "window = 9"),  # the stream may keep more rows
    )
    for changed in same:
        assert schema_hash(load_stream(write(tmp_path, changed)), fields, 5, sizes) == digest
    different = (
        text.replace('["a", "b"]', '["b", "a"]'),
        text.replace("step = 1.0", "step = 2.0"),
        text.replace('name = "load"', 'name = "load"\nunit = "ms"'),
        text.replace('name = "load"', 'name = "load"\nkind = "counter"'),
    )
    for changed in different:
        assert schema_hash(load_stream(write(tmp_path, changed)), fields, 5, sizes) != digest
    assert schema_hash(base, fields, 4, sizes) != digest
    assert schema_hash(base, ("mode", "load"), 5, sizes) != digest
    with pytest.raises(KeyError):
        schema_hash(base, ("nope",), 5)


def test_every_key_and_reject_word_is_documented() -> None:
    page = (PROJECT / "docs" / "streams.md").read_text(encoding="utf-8")
    keys = [key for kind in (StreamDefinition, Field, ModelBinding, AlertPolicy) for key in kind.__struct_fields__]
    missing = {key for key in [*keys, *get_args(ErrorType)] if f"`{key}`" not in page}
    assert missing == {"fields", "models", "alert"}  # tables, shown in brackets
    assert all(table in page for table in ("`[[fields]]`", "`[[models]]`", "`[alert]`"))

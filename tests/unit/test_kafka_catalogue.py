"""The topic catalogue, the comparison with it, and the partitioner, without a broker."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dwcp_stream.kafka.catalogue import catalogue, changelog, topic_name
from dwcp_stream.kafka.producer import key_hash
from dwcp_stream.kafka.topics import TopicState, differences


class Node:
    name, topic = "node", "dwcp.telemetry.node"


def as_wanted(specs):
    return {s.name: TopicState(s.name, s.partitions, s.replication, s.config) for s in specs}


def test_the_catalogue_has_the_topics_of_the_design() -> None:
    cleanup = {s.name: s.cleanup for s in catalogue(streams=[Node()])}
    assert cleanup == {
        "dwcp.telemetry.node": "delete",
        "dwcp.anomalies": "delete",
        "dwcp.predictions": "delete",
        "dwcp.drift": "delete",
        "dwcp.accuracy": "delete",
        "dwcp.models": "compact",
        "dwcp.deadletter": "delete",
        "dwcp.feedback": "delete",
        "dwcp.incidents": "compact,delete",
        "dwcp.silences": "compact",
        "dwcp.control": "delete",
    }


@given(
    prefix=st.sampled_from(["", "dwcp.", "test-1.", "x"]),
    partitions=st.integers(1, 64),
    replication=st.integers(1, 5),
)
def test_names_begin_with_the_prefix_and_a_broker_that_obeys_differs_nowhere(
    prefix: str, partitions: int, replication: int
) -> None:
    specs = [*catalogue(prefix, partitions, replication, [Node()]), changelog(prefix + "c", partitions)]
    assert len({s.name for s in specs}) == len(specs)
    assert all(s.name.startswith(prefix) for s in specs)
    assert {s.partitions for s in specs if not s.fixed} == {partitions}
    assert {s.replication for s in specs[:-1]} == {replication}
    assert differences(specs, as_wanted(specs)) == []
    missing = differences(specs, {})
    assert [d.topic for d in missing] == [s.name for s in specs]
    assert all(d.serious and d.what == "missing" for d in missing)


@given(name=st.text("abc.-", min_size=1), prefix=st.text("abc.-"))
def test_a_prefix_is_put_before_a_name_once(name: str, prefix: str) -> None:
    full = topic_name(prefix, name)
    assert full.startswith(prefix)
    assert topic_name(prefix, full) == full


def test_another_partition_count_breaks_only_topics_whose_count_is_fixed() -> None:
    specs = catalogue("p.", 4)
    states = {s.name: TopicState(s.name, 7, 1, s.config) for s in specs}
    found = {d.topic: d.serious for d in differences(specs, states)}
    assert {t for t, serious in found.items() if serious} == {"p.models", "p.control", "p.incidents", "p.silences"}
    assert len(found) == len(specs)


def test_a_broker_that_tells_no_configuration_gives_no_findings_about_it() -> None:
    specs = catalogue("p.", 4)
    states = {s.name: TopicState(s.name, s.partitions, 1, {}) for s in specs}
    assert differences(specs, states) == []


def test_other_retention_is_worth_a_note_and_other_cleanup_a_fault() -> None:
    spec = next(s for s in catalogue("p.") if s.name == "p.anomalies")
    config = {"cleanup.policy": "compact,delete", "retention.ms": "1000"}
    found = differences([spec], {spec.name: TopicState(spec.name, 4, 1, config)})
    assert [(d.what, d.serious) for d in found] == [("cleanup", True), ("retention", False)]


@pytest.mark.parametrize(
    ("key", "java"),  # from Apache Kafka's own test of its hash
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_keys_are_hashed_as_by_javas_client(key: bytes, java: int) -> None:
    assert key_hash(key) == java & 0x7FFFFFFF

"""From pages to samples: selectors, maps, growth, quorum, staleness."""

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from dwcp_stream.collect import Collected, Mapper, load_map, parse_page
from dwcp_stream.collect.maps import check_map
from dwcp_stream.collect.selector import parse_selector
from dwcp_stream.errors import ConfigError, PayloadError
from dwcp_stream.kafka.collector import Collector
from dwcp_stream.kafka.scraping import page_address
from dwcp_stream.settings import Settings
from dwcp_stream.streams import load_stream, load_streams
from dwcp_stream.telemetry.metrics import Metrics

CONFIG = Path(__file__).resolve().parents[2] / "config"
NOW = 1_800_000_000.0


def etcd_page(*, leader=0, has_leader=1, committed=100, fast=10, slow=0, changes=1, pending=0):
    return f"""# TYPE etcd_server_is_leader gauge
etcd_server_is_leader {leader}
# TYPE etcd_server_has_leader gauge
etcd_server_has_leader {has_leader}
# TYPE etcd_server_proposals_pending gauge
etcd_server_proposals_pending {pending}
# TYPE etcd_server_proposals_committed_total gauge
etcd_server_proposals_committed_total {committed}
# TYPE etcd_server_leader_changes_seen_total counter
etcd_server_leader_changes_seen_total {changes}
# TYPE etcd_disk_wal_fsync_duration_seconds histogram
etcd_disk_wal_fsync_duration_seconds_bucket{{le="0.001"}} {fast}
etcd_disk_wal_fsync_duration_seconds_bucket{{le="0.1"}} {fast + slow}
etcd_disk_wal_fsync_duration_seconds_bucket{{le="+Inf"}} {fast + slow}
"""


def mapper(name="etcd"):
    mapping = load_map(CONFIG / "maps" / f"{name}.toml")
    stream = load_stream(CONFIG / "streams" / f"{mapping.stream}.toml")
    return Mapper(mapping, stream), stream


def pages(texts, now=NOW, job="lab"):
    return [
        parse_page(text, f"http://m{i}", now, {"job": job, "instance": f"m{i}:2379"}) for i, text in enumerate(texts)
    ]


@pytest.mark.parametrize("path", sorted((CONFIG / "maps").glob("*.toml")), ids=lambda path: path.stem)
def test_a_map_that_ships_fits_its_stream(path):
    mapping = load_map(path)
    check_map(mapping, load_streams(CONFIG / "streams")[mapping.stream], path)


def test_a_cluster_of_three_is_one_sample():
    it, _ = mapper()
    first, _ = it.samples(pages([etcd_page(leader=1), etcd_page(), etcd_page()]))
    assert first[0].values["active_nodes"] == 3
    assert "proposals_committed" not in first[0].values, "growth needs a page before"
    (sample,), left = it.samples(
        pages(
            [etcd_page(leader=1, committed=160, fast=10, slow=100, pending=4), etcd_page(committed=990, pending=9)],
            NOW + 2,
        )
    )
    assert left == {"unchanged": 0, "incomplete": 0}
    assert sample.entity == {"cluster_id": "lab"}
    assert sample.ts == NOW + 2
    values = sample.values
    assert values["proposals_committed"] == pytest.approx(30), "the leader's, per step of a second"
    assert values["proposals_pending"] == 4
    assert values["active_nodes"] == 2
    assert values["quorum_size"] == 2, "a member that is away still counts"
    assert values["leader_changes"] == 0
    assert 1 < values["latency_p50"] < 100
    assert values["consensus_type"] == "raft"


def test_a_total_that_fell_counts_from_zero():
    it, _ = mapper()
    it.samples(pages([etcd_page(leader=1, committed=1000)]))
    (sample,), _ = it.samples(pages([etcd_page(leader=1, committed=7)], NOW + 1))
    assert sample.values["proposals_committed"] == 7


def test_without_a_leader_what_waits_anywhere_counts():
    it, _ = mapper()
    (sample,), _ = it.samples(pages([etcd_page(has_leader=0, pending=3), etcd_page(has_leader=0, pending=2)]))
    assert sample.values["proposals_pending"] == 5
    assert sample.values["active_nodes"] == 0
    assert "proposals_committed" not in sample.values


def test_a_federation_is_split_by_job_and_only_what_is_newer_counts():
    text = "".join(
        f'etcd_server_has_leader{{job="{job}",instance="{i}"}} 1 {int((NOW + ago) * 1000)}\n'
        for job, i, ago in (("east", "a", 0), ("east", "b", -400), ("west", "c", 0))
    )
    it, _ = mapper()
    page = parse_page(text, "http://p/federate", NOW + 5, {})
    assert page.own_times
    samples, _ = it.samples([page])
    assert {s.entity["cluster_id"]: s.values["active_nodes"] for s in samples} == {"east": 1, "west": 1}
    assert all(sample.ts == NOW for sample in samples)
    again, left = it.samples([page])
    assert not again
    assert left["unchanged"] == 2


def test_a_machine_is_incomplete_until_a_required_field_has_a_value():
    def page(received, damaged, now):
        text = f"node_netstat_Tcp_InSegs {received}\nnode_netstat_Tcp_InErrs {damaged}\n"
        text += "node_memory_MemAvailable_bytes 25\nnode_memory_MemTotal_bytes 100\n"
        text += f'node_cpu_seconds_total{{mode="idle",cpu="0"}} {now * 0.75}\n'
        text += f'node_cpu_seconds_total{{mode="user",cpu="0"}} {now * 0.25}\n'
        return pages([text], NOW + now, job="rack")

    it, _ = mapper("node_exporter")
    none, left = it.samples(page(100, 0, 0))
    assert not none
    assert left["incomplete"] == 1
    (sample,), _ = it.samples(page(200, 1, 60))
    assert sample.entity == {"cluster_id": "rack", "node_id": "m0:2379"}
    assert sample.values["error_rate"] == pytest.approx(0.01)
    assert sample.values["memory_usage"] == pytest.approx(75)
    assert sample.values["cpu_usage"] == pytest.approx(25)


@pytest.mark.parametrize(
    ("text", "name", "labels", "matches"),
    [
        ("up", "up", {"a": "b"}, True),
        ("up", "down", {}, False),
        ('up{a="b"}', "up", {"a": "b"}, True),
        ('up{a!="b"}', "up", {}, True),
        ('up{a=~"b|c", d="",}', "up", {"a": "c"}, True),
        ('up{a=~"b"}', "up", {"a": "bb"}, False),
        ('{__name__=~"u.*"}', "up", {}, True),
        ('up{a="q\\"}"}', "up", {"a": 'q"}'}, True),
    ],
)
def test_selectors_mean_what_they_mean_in_prometheus(text, name, labels, matches):
    assert parse_selector(text).matches(name, labels) is matches


@pytest.mark.parametrize("text", ["", "{}", "up{a}", 'up{a="b"', 'up{a=~"("}', "a b", 'up{a="b" c="d"}'])
def test_what_is_no_selector_is_refused(text):
    with pytest.raises(ValueError, match=r"selector|regular expression"):
        parse_selector(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stream = 1", "Expected"),
        ('stream = "consensus"\nentity = {}\nfields = [{ name = "x" }]', "needs either series or value"),
        ('stream = "consensus"\nentity = {}\nfields = [{ name = "x", series = "{" }]', "no selector"),
        ('stream = "consensus"\nentity = {}\nfields = [{ name = "x", series = "a", take = "quantile" }]', "needs q"),
        ('stream = "consensus"\nentity = {}\nfields = []', 'entity part "cluster_id" is missing'),
        ('stream = "consensus"\nentity = { cluster_id = "job" }\nfields = [{ name = "x", value = 1 }]', 'no field "x"'),
        ("a", "not valid TOML"),
    ],
)
def test_a_wrong_map_says_what_is_wrong(text, message, tmp_path):
    path = tmp_path / "map.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        check_map(load_map(path), load_stream(CONFIG / "streams/consensus.toml"), path)
    assert str(path) in caught.value.where
    assert caught.value.remedy


@pytest.mark.parametrize("text", ["<html><body>404</body></html>", "a{b} 1", 'x{le="1} 2'])
def test_what_is_no_page_is_refused(text):
    with pytest.raises(PayloadError, match="no Prometheus page"):
        parse_page(text, "http://x", NOW, {})


def test_what_no_broker_takes_waits_up_to_a_bound_and_the_oldest_is_dropped():
    _, stream = mapper()
    settings = Settings(collect={"buffer": 3})
    metrics = Metrics(CollectorRegistry())
    it = Collector(settings, stream, load_map(CONFIG / "maps/etcd.toml"), ["http://m0"], metrics, "lab")
    for i in range(5):
        it._take([Collected({"cluster_id": "lab"}, NOW + i, {"active_nodes": 3.0})], {"unchanged": 0, "incomplete": 0})
    assert (it.totals.dropped, it.totals.sent) == (2, 0)
    assert not it.ready().ok
    assert metrics.registry.get_sample_value("dwcp_collect_waiting", {"stream": "consensus"}) == 3
    assert [json.loads(value)["ts"] for _, value in it._waiting] == [NOW + 2, NOW + 3, NOW + 4]


def test_addresses():
    assert page_address("https://u:p@h:1/federate?x=1") == "https://u:p@h:1/federate?x=1"
    for wrong in ("ftp://x", "http://", "http://h:99999", ""):
        with pytest.raises(ConfigError, match="no address"):
            page_address(wrong)


@given(totals=st.lists(st.integers(0, 10**9), min_size=2, max_size=30))
def test_growth_is_never_negative_and_adds_up_where_nothing_fell(totals):
    it, _ = mapper()
    grown = []
    for i, total in enumerate(totals):
        samples, _ = it.samples(pages([etcd_page(leader=1, committed=total)], NOW + i))
        grown += [sample.values.get("proposals_committed") for sample in samples]
    assert grown[0] is None
    assert all(value >= 0 for value in grown[1:])
    if totals == sorted(totals):
        assert math.isclose(sum(grown[1:]), totals[-1] - totals[0], abs_tol=1e-3)

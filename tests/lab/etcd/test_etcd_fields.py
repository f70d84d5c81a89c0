"""From metrics pages and load to rows, and the labels beside them."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dwcp_stream.collect.quantile import growth_quantile
from dwcp_stream.streams import load_stream
from lab.etcd.fields import FIELDS, Deriver
from lab.etcd.happenings import WARM_UP, Happening, Happenings
from lab.etcd.kinds import FAULTS
from lab.etcd.load import Window
from lab.etcd.machine import Machine
from lab.etcd.schedule import SETTLE, Event
from lab.etcd.scrape import Scrape, parse

STREAM = load_stream(Path(__file__).parents[3] / "config" / "streams" / "consensus.toml")
PAGE = """# HELP etcd_server_is_leader Whether or not this member is a leader. 1 if is, 0 otherwise.
# TYPE etcd_server_is_leader gauge
etcd_server_is_leader 1
etcd_server_has_leader 1
etcd_server_proposals_committed_total 1.2e+06
etcd_server_proposals_pending 3
etcd_server_leader_changes_seen_total 2
etcd_server_version{server_version="3.4.23"} 1
etcd_mvcc_db_total_size_in_bytes 2.097152e+06
etcd_mvcc_db_total_size_in_use_in_bytes 5
etcd_disk_wal_fsync_duration_seconds_bucket{le="0.001"} 4
etcd_disk_wal_fsync_duration_seconds_bucket{le="0.002"} 10
etcd_disk_wal_fsync_duration_seconds_bucket{le="+Inf"} 10
etcd_disk_wal_fsync_duration_seconds_sum 0.01
etcd_network_peer_round_trip_time_seconds_bucket{To="a1",le="0.0001"} 1
etcd_network_peer_round_trip_time_seconds_bucket{To="a1",le="+Inf"} 2
etcd_network_peer_round_trip_time_seconds_bucket{To="b2",le="0.0001"} 3
etcd_network_peer_round_trip_time_seconds_bucket{To="b2",le="+Inf"} 4
"""


def test_a_page_is_read():
    scrape = parse(PAGE)
    assert scrape.values == {
        "is_leader": 1,
        "has_leader": 1,
        "committed": 1.2e6,
        "pending": 3,
        "leader_changes": 2,
        "db_size": 2 << 20,
    }
    assert scrape.histograms["wal_fsync"] == {0.001: 4, 0.002: 10, math.inf: 10}
    assert scrape.histograms["peer_rtt"] == {0.0001: 4, math.inf: 6}, "labels are added up"
    assert scrape.get("slow_apply") == 0


def test_a_quantile_is_that_of_the_growth():
    before = {0.001: 1000.0, 0.002: 1000.0, 0.004: 1000.0, math.inf: 1000.0}
    after = {0.001: 1000.0, 0.002: 1050.0, 0.004: 1100.0, math.inf: 1100.0}
    assert growth_quantile(before, after, 0.5) == pytest.approx(0.002)
    assert growth_quantile(before, after, 0.75) == pytest.approx(0.003)
    assert growth_quantile(before, before, 0.5) is None
    assert growth_quantile(after, before, 0.5) is None, "the process began anew"
    assert growth_quantile({}, {0.001: 0.0, math.inf: 5.0}, 0.99) == 0.001, "above the last bound"


@given(st.lists(st.floats(0, 10), min_size=1, max_size=200), st.floats(0.01, 0.99))
def test_a_quantile_is_in_the_bucket_of_the_real_one(values, q):
    bounds = [0.001 * 2**i for i in range(15)]
    buckets = {bound: float(sum(v <= bound for v in values)) for bound in bounds} | {math.inf: float(len(values))}
    found = growth_quantile({}, buckets, q)
    real = sorted(values)[max(math.ceil(q * len(values)) - 1, 0)]
    high = next(bound for bound in bounds if bound >= real)
    low = max([bound for bound in bounds if bound < real], default=0.0)
    assert low - 1e-12 <= found <= high + 1e-12


def member(committed=0.0, leader=False, changes=1.0, pending=0.0, knows=True):
    return Scrape(
        {
            "committed": committed,
            "is_leader": float(leader),
            "has_leader": float(knows),
            "leader_changes": changes,
            "pending": pending,
        }
    )


def test_a_row_has_the_fields_of_the_stream_in_their_order():
    row = Deriver(3).row([member(5, leader=True), member(5), member(4)], [True] * 3, Window(), 1.0)
    assert tuple(row)[: len(FIELDS)] == FIELDS == STREAM.field_names
    assert all(name.startswith("x_") for name in list(row)[len(FIELDS) :])
    for field in STREAM.fields:
        if field.vocabulary:
            assert str(row[field.name]) in {*field.vocabulary, *field.aliases}


def test_commits_are_growth_on_the_leader_by_time():
    deriver, well = Deriver(3), [True] * 3
    first = deriver.row([member(1000, leader=True, pending=2), member(999), member(998)], well, Window(), 1.0)
    assert (first["proposals_committed"], first["proposals_pending"], first["x_leader_id"]) == (None, 2, 0)
    later = deriver.row([member(1150, leader=True), member(1149), member(1140)], well, Window(), 1.5)
    assert later["proposals_committed"] == 100


def test_without_a_leader_nothing_commits_and_pending_is_summed():
    deriver, well = Deriver(3), [True] * 3
    deriver.row([member(1000, leader=True), member(999), member(999)], well, Window(), 1.0)
    lost = deriver.row([None, member(1001, pending=7, knows=False), member(1001, pending=5)], [False] * 3, Window(), 1)
    assert lost["proposals_committed"] == 0
    assert lost["proposals_pending"] == 12
    assert (lost["x_leader_id"], lost["active_nodes"], lost["x_answering"], lost["x_have_leader"]) == (-1, 0, 2, 1)
    # the new leader's index counts from the largest that a leader told
    found = deriver.row([None, member(1050, leader=True), member(1050)], [False, True, True], Window(), 1)
    assert found["proposals_committed"] == 50
    assert found["x_leader_id"] == 1


def test_of_two_that_claim_to_lead_the_one_with_more_commits_does():
    row = Deriver(3).row([member(900, leader=True), member(1000, leader=True), None], [False, True, False], Window(), 1)
    assert row["x_leader_id"] == 1


def test_leader_changes_are_the_largest_growth_and_a_restart_is_none():
    deriver, well = Deriver(3), [True] * 3
    assert deriver.row([member(changes=5), member(changes=5), member(changes=5)], well, Window(), 1)[
        "leader_changes"] == 0  # fmt: skip
    assert deriver.row([None, member(changes=6), member(changes=7)], well, Window(), 1)["leader_changes"] == 2
    # one comes back and tells late what it missed, another began anew
    assert deriver.row([member(changes=8), member(changes=1), member(changes=7)], well, Window(), 1)[
        "leader_changes"] == 3  # fmt: skip


def test_latencies_are_of_the_puts():
    window = Window(
        rate=90.123, in_flight=4, offered=100, completed=99, latencies=list(np.arange(1.0, 101)), get_latencies=[5.0]
    )
    row = Deriver(5).row([None] * 5, [False] * 5, window, 1.0)
    assert (row["latency_p50"], row["latency_p95"], row["latency_p99"]) == (50.5, 95.05, 99.01)
    assert (row["queue_depth"], row["quorum_size"], row["x_rate_set"]) == (4, 3, 90.12)
    assert (row["x_gets"], row["x_get_p99_ms"]) == (1, 5.0)
    empty = Deriver(5).row([None] * 5, [False] * 5, Window(), 1.0)
    assert empty["latency_p50"] is empty["latency_p99"] is None


def test_disk_quantiles_need_the_same_leader_twice():
    def led(count, leader=True):
        scrape = member(1, leader=leader)
        scrape.histograms["wal_fsync"] = {0.001: 0.0, 0.002: count, math.inf: count}
        return scrape

    deriver, well = Deriver(2), [True, True]
    assert deriver.row([led(10), led(5, leader=False)], well, Window(), 1)["x_wal_fsync_p99_ms"] is None
    assert deriver.row([led(20), led(6, leader=False)], well, Window(), 1)["x_wal_fsync_p99_ms"] == pytest.approx(1.99)
    assert deriver.row([led(20, leader=False), led(9)], well, Window(), 1)["x_wal_fsync_p99_ms"] is None
    assert deriver.row([led(20, leader=False), led(11)], well, Window(), 1)["x_wal_fsync_p99_ms"] == pytest.approx(1.99)


def happenings(*spans):
    made = Happenings(0.0)
    for kind, start, end in spans:
        made.all.append(Happening(Event(kind, kind in FAULTS, start, 1.0, "", {}), start, end))
    return made


@pytest.mark.parametrize(
    ("row", "label", "phase", "recovery"),
    [
        ((4, 5), "", "warm_up", 0),
        ((WARM_UP, WARM_UP + 1), "", "steady", 0),
        ((99, 100), "", "steady", 0),
        ((99.5, 100.5), "flapping", "fault", 0),
        ((104, 105), "flapping", "fault", 0),
        ((109.5, 110.5), "flapping", "fault", 0),
        ((110, 111), "", "recovery", 1),
        ((110 + SETTLE - 0.5, 111 + SETTLE), "", "recovery", 1),
        ((110 + SETTLE, 111 + SETTLE), "", "steady", 0),
        ((204, 205), "", "negative", 0),
        ((205.5, 206.5), "", "steady", 0),
        ((1000, 1001), "slow_disk", "fault", 0),
    ],
)
def test_a_row_is_labelled_when_it_overlaps(row, label, phase, recovery):
    columns = happenings(("flapping", 100, 110), ("burst", 200, 205), ("slow_disk", 900, None)).columns(*row)
    assert columns == {
        "label": label,
        "phase": phase,
        "negative": "burst" if phase == "negative" else "",
        "x_fault": int(bool(label)),
        "x_recovery": recovery,
    }


async def test_an_event_is_noted_also_if_it_fails():
    made = Happenings(0.0)

    async def fail():
        async with made.note(Event("flapping", True, 1.0, 2.0, "pause", {"every_s": 3})) as happening:
            assert happening.end is None
            happening.info = {"times": 4}
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await fail()
    plain = made.all[0].plain()
    assert plain["end"] >= plain["start"]
    assert (plain["kind"], plain["type"], plain["info"]) == ("fault", "flapping", {"times": 4})
    assert plain["intensity"] == {"how": "pause", "every_s": 3}


def proc(folder, busy, idle, stolen, own):
    (folder / "7").mkdir(exist_ok=True)
    counted = f"{busy} 0 0 {idle} 0 0 0 {stolen} 0 0"
    (folder / "stat").write_text(f"cpu  1 2 3 4 5 6 7 8 9 10\ncpu0 {counted}\ncpu1 9 9 9 9 9 9 9 9 9 9\nintr 1 2\n")
    (folder / "loadavg").write_text("1.25 1 1 1/2 3\n")
    (folder / "7" / "stat").write_text(f"7 (a (b) c) S {' '.join(['0'] * 10)} {own} 0 0 0\n")
    return folder


@pytest.mark.parametrize(
    ("busy", "idle", "stolen", "own", "dt", "disturbed"),
    [
        (100, 100, 0, 90, 1.0, False),
        (190, 10, 0, 180, 1.0, False),
        (190, 10, 0, 40, 1.0, True),
        (100, 80, 20, 90, 1.0, True),
        (100, 100, 0, 90, 1.3, True),
    ],
)
def test_others_work_disturbs_and_our_own_does_not(tmp_path, busy, idle, stolen, own, dt, disturbed):
    machine = Machine(proc(tmp_path, 1000, 1000, 50, 500), cores=[0])
    assert machine.read([7]).busy == 0
    proc(tmp_path, 1000 + busy, 1000 + idle, 50 + stolen, 500 + own)
    usage = machine.read([7, 8])
    assert usage.busy == busy / 200
    assert usage.stolen == stolen / 200
    assert usage.others == pytest.approx((busy - own) / 200)
    assert usage.loadavg == 1.25
    assert usage.disturbed(dt) is disturbed


def test_a_process_that_was_just_started_is_our_own(tmp_path):
    machine = Machine(proc(tmp_path, 1000, 1000, 0, 0), cores=[0])
    machine.read([])
    proc(tmp_path, 1100, 1100, 0, 90)
    assert machine.read([7]).others == pytest.approx(0.05)

"""A real cluster: faults show and are put right, a recording tells of them, and nothing stays behind.

Without etcd these tests fail, and say how to install it.
"""

import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest

from dwcp_stream.streams import load_stream
from dwcp_stream.streams.files import decode_table, read_table
from lab.etcd import Cluster, LabError, inject, perform
from lab.etcd.kinds import FAULTS, NEGATIVES
from lab.etcd.output import write
from lab.etcd.recorder import Options, Recording, record
from lab.etcd.schedule import Event

pytestmark = [pytest.mark.slow, pytest.mark.full]

ROOT = Path(__file__).parents[3]
DEADLINE = 60.0


def processes(text: str) -> list[int]:
    """Processes with this text in their command line: of a cluster, the path of its folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if text in command:
                found.append(int(entry.name))
    return found


def members_of(folder: Path) -> list[int]:
    """Members and disk helpers, not the recorder that has the folder among its arguments."""
    return processes(f"{folder}/dwcp-etcd-")


async def eventually(condition, what: str) -> None:
    async with asyncio.timeout(DEADLINE):
        while not await condition():  # noqa: ASYNC110 - processes tell nobody
            await asyncio.sleep(0.02)


async def test_a_recording_shows_a_paused_leader(tmp_path):
    options = Options(seed=5, seconds=20, members=3, shape="constant", base=80.0, parent=tmp_path / "data")
    schedule = [Event("leader_lost", True, 8.0, 2.5, "pause", {})]
    recording, lines = Recording(), []
    await record(options, schedule, recording, lambda row, left: lines.append((row, list(left))))
    assert recording.complete
    assert len(recording.rows) == len(lines) == 20
    assert members_of(tmp_path / "data") == []
    assert list((tmp_path / "data").iterdir()) == []

    rows = recording.rows
    lost = [row for row in rows if row["label"] == "leader_lost"]
    quiet = [row for row in rows[1:] if row["phase"] in {"warm_up", "steady"}]
    assert 3 <= len(lost) <= 5
    assert sum(row["leader_changes"] for row in rows) >= 1
    assert sum(row["leader_changes"] for row in quiet if row["ts"] < lost[0]["ts"]) == 0
    leaders = [row["x_leader_id"] for row in rows]
    assert leaders[0] != leaders[-1]
    assert statistics.median(row["active_nodes"] for row in quiet) == 3
    assert min(row["active_nodes"] for row in lost) < 3
    usual = statistics.median(row["latency_p99"] for row in quiet if row["latency_p99"] is not None)
    worst = max(row["latency_p99"] or 0 for row in rows if row["label"] or row["x_recovery"])
    # requests waited for an election, which etcd begins after a second of silence
    assert worst > max(3 * usual, 900)
    assert sum(row["x_completed"] for row in rows) > 800
    assert all(row["proposals_committed"] > 0 for row in quiet)

    summary = write(recording, options, schedule, tmp_path / "run.csv.gz")
    stream = load_stream(ROOT / "config" / "streams" / "consensus.toml")
    decoded = decode_table(read_table(tmp_path / "run.csv.gz", stream, "lab"), stream)
    assert decoded.rejects == []
    assert len(decoded.ts) == 20
    back = pl.read_csv(tmp_path / "run.csv.gz")
    assert {"label", "phase", "negative", "disturbed", "x_cpu_steal", "x_loadavg"} <= set(back.columns)
    events = json.loads((tmp_path / "run.events.json").read_text())
    assert events["complete"]
    assert events["events"][0]["info"]["members"] == [leaders[0]]
    assert summary["labelled"] == len(lost)


@pytest.fixture
async def cluster(tmp_path):
    async with Cluster(3, parent=tmp_path) as made:
        yield made
        # whatever was done to it has been put right
        await made.ready()
        await took(made, 0)


async def took(cluster: Cluster, member: int) -> float:
    """Seconds a put at this member takes."""
    begun = time.monotonic()
    await cluster.apis[member].put("lab/test", b"x", DEADLINE)
    return time.monotonic() - begun


@pytest.mark.parametrize("how", ["pause", "kill"])
async def test_a_lost_leader_is_followed_by_another(cluster, how):
    leader = await cluster.need_leader()

    async def another():
        return await cluster.leader() not in {None, leader}

    async with inject(cluster, "leader_lost", how=how) as info:
        assert info["members"] == [leader]
        await eventually(another, "another leader")
    if how == "kill":
        assert await cluster.apis[leader].healthy(DEADLINE), "the end of a kill is when it is healthy again"


@pytest.mark.parametrize("how", ["pause", "kill"])
async def test_without_a_follower_the_others_go_on(cluster, how):
    leader = await cluster.need_leader()
    async with inject(cluster, "follower_lost", how=how) as info:
        (lost,) = info["members"]
        assert lost != leader
        assert not await cluster.apis[lost].healthy()
        await took(cluster, leader)


@pytest.mark.parametrize(("how", "with_leader"), [("pause", True), ("kill", False)])
async def test_without_a_quorum_nobody_is_healthy(cluster, how, with_leader):
    async def nobody():
        return not any([await api.healthy() for api in cluster.apis])

    leader = await cluster.need_leader()
    async with inject(cluster, "quorum_lost", how=how, with_leader=with_leader) as info:
        assert len(info["members"]) == 2
        assert (leader in info["members"]) is with_leader
        await eventually(nobody, "no healthy member")


async def test_a_slow_disk_makes_every_commit_slow(cluster):
    leader = await cluster.need_leader()
    async with inject(cluster, "slow_disk", scope="all", delay_ms=80, jitter_ms=0):
        assert await took(cluster, leader) > 0.08


@pytest.mark.parametrize("scope", ["leader", "follower", "all"])
async def test_a_slow_network_makes_the_way_there_and_back_slow(cluster, scope):
    leader = await cluster.need_leader()
    async with inject(cluster, "slow_network", how="delay", scope=scope, delay_ms=60, jitter_ms=0) as info:
        # a follower hands the put to the leader, and the leader needs the vote of a follower
        member = leader if scope == "leader" else info["members"][0]
        assert (leader in info["members"]) is (scope != "follower")
        assert await took(cluster, member) > 0.119


@pytest.mark.parametrize("how", ["reset", "stall"])
async def test_links_are_reset_or_stalled_again_and_again(cluster, how):
    async def thrice():
        return info["times"] >= 3

    async with inject(cluster, "slow_network", how=how, scope="all", every_s=0.1, stall_s=0.1) as info:
        await eventually(thrice, f"three times {how}")
        assert how == "stall" or info["reset"] > 0


def stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


async def test_a_starved_leader_is_stopped_in_turns(cluster):
    leader = await cluster.need_leader()
    pid = cluster.members[leader].pid

    async def seen():
        return stopped(pid)

    async with inject(cluster, "starved_cpu", scope="leader", stopped=0.8) as info:
        assert info["members"] == [leader]
        await eventually(seen, "a stopped leader")
    assert not stopped(pid)


@pytest.mark.parametrize("how", ["transfer", "pause"])
async def test_a_flapping_leadership_changes_time_and_again(cluster, how):
    leaders = set()

    async def several():
        leaders.add(await cluster.leader())
        return len(leaders - {None}) > 1 and info["times"] >= 2

    async with inject(cluster, "flapping", how=how, every_s=1.0, pause_s=2.0) as info:
        await eventually(several, "two changes")


def test_no_fault_is_left_untested():
    text = Path(__file__).read_text()
    assert all(f'inject(cluster, "{kind}"' in text for kind in FAULTS)


async def test_every_hard_negative_is_done_and_the_cluster_stays_well(tmp_path):
    class Scaled:
        factor = 1.0

    async with Cluster(3, parent=tmp_path, disk=False) as cluster:
        load = Scaled()
        await took(cluster, 0)
        for kind in ("burst", "quiet"):
            async with perform(cluster, load, kind, factor=3.0):
                assert load.factor == 3.0
            assert load.factor == 1.0
        leader = await cluster.need_leader()
        async with perform(cluster, load, "planned_transfer") as info:
            assert info["from"] == leader

            async def moved():
                return await cluster.leader() == info["to"]

            await eventually(moved, "the planned leader")
        for scope in ("leader", "follower"):
            leader = await cluster.need_leader()
            pids = [member.pid for member in cluster.members]
            async with perform(cluster, load, "planned_restart", scope=scope, which=1, down_s=0.1) as info:
                assert (info["member"] == leader) is (scope == "leader")
                changed = [i for i, member in enumerate(cluster.members) if member.pid != pids[i]]
                assert changed == [info["member"]]
            await took(cluster, 0)  # there is something new to compact
            async with perform(cluster, load, "compaction_defrag", scope=scope, which=0) as info:
                assert info["revision"] >= 2
        await took(cluster, 0)
        await cluster.ready()
        assert {"burst", "quiet", "planned_transfer", "planned_restart", "compaction_defrag"} == set(NEGATIVES)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGKILL, -9)])
def start_recorder(arguments: list[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as errors:
        command = [sys.executable, "-m", "lab.etcd", "record", *arguments]
        return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=errors)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGKILL, -9)])
async def test_nothing_stays_behind_an_interrupted_recording(tmp_path, number, code):
    out, data, log = tmp_path / "run.csv.gz", tmp_path / "data", tmp_path / "log"
    recorder = start_recorder(["--minutes", "5", "--out", str(out), "--data-dir", str(data), "--json"], log)

    async def recording():
        assert recorder.poll() is None, log.read_text()
        return "3/3 active" in log.read_text()

    async def over():
        return recorder.poll() is not None and members_of(data) == []

    try:
        await eventually(recording, "the first row")
        assert len(members_of(data)) >= 3
        recorder.send_signal(number)
        await eventually(over, "the end of all its processes")
    finally:
        recorder.kill()
        told, _ = recorder.communicate()
    assert recorder.returncode == code, log.read_text()
    if number != signal.SIGKILL:
        summary = json.loads(told)
        assert not summary["complete"]
        assert pl.read_csv(out).height == summary["rows"] > 0
        assert list(data.iterdir()) == []


async def test_a_member_that_ends_by_itself_is_told_with_its_log(tmp_path):
    async with Cluster(3, parent=tmp_path, disk=False) as cluster:
        os.kill(cluster.members[1].pid, signal.SIGKILL)

        async def ended():
            return cluster.members[1].pid is None

        await eventually(ended, "its end")
        with pytest.raises(LabError, match=r"m1\.log: etcd ended by itself"):
            cluster.check()

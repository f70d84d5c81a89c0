"""The schedule of a recording: all of it from the seed, one thing at a time, everything in turn."""

import itertools
import json

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from lab.etcd.__main__ import main
from lab.etcd.errors import LabError
from lab.etcd.kinds import FAULTS, NEGATIVES
from lab.etcd.schedule import LEAD, SETTLE, make_schedule

SEEDS = st.integers(0, 2**32)
MINUTES = st.floats(1, 120)
MEMBERS = st.sampled_from([3, 5])


@given(SEEDS, MINUTES, MEMBERS, st.floats(20, 120))
def test_one_thing_at_a_time_and_all_within_the_recording(seed, minutes, members, gap):
    events = make_schedule(seed, 60 * minutes, members, gap=gap)
    assert all(event.start >= LEAD for event in events)
    assert all(event.duration > 0 for event in events)
    assert all(event.end + SETTLE <= 60 * minutes + 0.02 for event in events)
    for before, after in itertools.pairwise(events):
        assert after.start >= before.end + 0.6 * gap - 0.02


@given(SEEDS, MINUTES, MEMBERS)
def test_same_seed_same_schedule_and_a_longer_one_extends_it(seed, minutes, members):
    events = make_schedule(seed, 60 * minutes, members)
    assert make_schedule(seed, 60 * minutes, members) == events
    assert make_schedule(seed, 120 * minutes, members)[: len(events)] == events


def test_seeds_differ():
    assert len({str(make_schedule(seed, 600, 3)) for seed in range(20)}) == 20


@given(SEEDS, MEMBERS)
def test_every_kind_comes_before_one_comes_again(seed, members):
    kinds = [event.kind for event in make_schedule(seed, 3600, members)]
    assert len(kinds) > len(FAULTS) + len(NEGATIVES)
    assert set(kinds[: len(FAULTS) + len(NEGATIVES)]) == {*FAULTS, *NEGATIVES}


@given(SEEDS, MEMBERS)
def test_what_is_drawn_fits_the_cluster(seed, members):
    for event in make_schedule(seed, 7200, members, plan="faults"):
        assert event.fault
        left = members - event.params.get("count", 0)
        if event.kind == "quorum_lost":
            assert left < members // 2 + 1
        if event.kind == "follower_lost":
            assert left >= members // 2 + 1
        json.dumps(event.plain())


@pytest.mark.parametrize(
    ("plan", "only", "kinds"),
    [
        ("faults", (), set(FAULTS)),
        ("negatives", (), set(NEGATIVES)),
        ("full", ("burst", "leader_lost"), {"burst", "leader_lost"}),
        ("none", (), set()),
    ],
)
def test_plan_and_kinds_choose(plan, only, kinds):
    events = make_schedule(1, 7200, 3, plan=plan, only=only)
    assert {event.kind for event in events} == kinds
    assert all(event.fault == (event.kind in FAULTS) for event in events)


def test_errors_say_what_can_be_chosen():
    with pytest.raises(LabError, match=r"--only: there is no 'fire' in plan full\. Choose from: leader_lost, "):
        make_schedule(1, 600, 3, only=["fire"])
    with pytest.raises(LabError, match="--gap"):
        make_schedule(1, 600, 3, gap=1.0)


def test_command_prints_the_schedule_and_runs_nothing(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    arguments = ["schedule", "--seed", "7", "--minutes", "10"]
    shown = CliRunner().invoke(main, arguments, catch_exceptions=False)
    events = make_schedule(7, 600, 3)
    assert shown.exit_code == 0
    assert len(shown.output.splitlines()) == len(events)
    told = CliRunner().invoke(main, [*arguments, "--json"], catch_exceptions=False)
    assert json.loads(told.output) == [event.plain() for event in events]
    assert CliRunner().invoke(main, [*arguments, "--only", "fire"]).exit_code == 2


def test_command_says_what_to_do_without_etcd(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", "/nowhere")
    done = CliRunner().invoke(main, ["record", "--minutes", "1", "--out", str(tmp_path / "x.csv.gz")])
    assert done.exit_code == 1
    assert "error: PATH: etcd is not installed. Run: scripts/system-packages etcd" in done.output
    assert list(tmp_path.iterdir()) == []


def test_command_refuses_a_name_without_a_format(tmp_path):
    done = CliRunner().invoke(main, ["record", "--minutes", "1", "--out", str(tmp_path / "x.xls")])
    assert done.exit_code == 1
    assert ".csv.gz" in done.output

"""The program of faults as a test: a short one on every change, a long one in `make full`."""

import json

import pytest

from tests.chaos.__main__ import main
from tests.chaos.faults import FAULTS
from tests.chaos.load import ALERTING, Known
from tests.chaos.plan import ALWAYS, ON_REQUEST, make_plan
from tests.chaos.program import Options, run_program
from tests.integration.probe import Telemetry

SHORT = ("kill", "sleep", "term", "broker-kill", "outputs-refused", "resent", "reordered", "time-jumps")


def test_a_plan_follows_from_its_seed_and_has_every_class_as_often():
    plan = make_plan(7, 3 * len(ALWAYS))
    assert plan == make_plan(7, 3 * len(ALWAYS))
    assert plan != make_plan(8, 3 * len(ALWAYS))
    assert {[f.kind for f in plan].count(kind) for kind in ALWAYS} == {3}
    assert 0 < sum(f.settle for f in plan) < len(plan)


def test_every_class_can_be_carried_out():
    assert set(FAULTS) == {*ALWAYS, *ON_REQUEST}


def test_the_known_population_has_the_alerts_of_some_of_its_entities():
    known, all_of_it = Known(40, 200).transitions(), Telemetry(40, 200).transitions()
    assert known == {t for t in all_of_it if int(t[0][1:]) % ALERTING == 0}
    assert 0 < len(known) < len(all_of_it)


def test_an_unknown_class_is_refused_before_anything_starts(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--only", "kill,earthquake"])
    assert end.value.code == 2
    assert "earthquake" in capsys.readouterr().err


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.chaos
@pytest.mark.timeout(600)
async def test_a_short_program_loses_nothing(tmp_path, capsys):
    options = Options(seed=1, faults=len(SHORT), samples=100_000, entities=500, rate=20.0, kinds=SHORT)
    summary = await run_program(options, tmp_path, print)
    assert summary.samples >= options.samples
    assert summary.counts == dict.fromkeys(SHORT, 1)
    assert summary.alerts > 0
    assert json.loads(json.dumps(summary.plain()))["faults"] == len(SHORT)
    assert all(kind in summary.table() for kind in SHORT)


@pytest.mark.kafka
@pytest.mark.full
@pytest.mark.chaos
@pytest.mark.timeout(1_800)
async def test_a_long_program_loses_nothing(tmp_path, record_property):
    options = Options(seed=2, faults=2 * len(ALWAYS), samples=1_000_000)
    summary = await run_program(options, tmp_path, print)
    assert summary.counts == dict.fromkeys(ALWAYS, 2)
    for name, value in summary.plain().items():
        record_property(name, value)

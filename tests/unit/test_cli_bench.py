"""`dwcp-stream bench`: programs found by their names, options passed through, ratios kept and compared."""

import json

import pytest

from benchmarks import ratios
from dwcp_stream.cli import bench
from dwcp_stream.cli.main import run

PROGRAM = '''"""How fast nothing is done.

Second line.
"""
import json, sys
FOUND = {"benchmark": "nothing", "machine": {"cores": 2, "python": "3", "load_average": 0.0}, "method": "By hand.",
         "cases": [{"entities": 7, "rate": 10.0, "ratio": {"peer": 2.5}}]}
def text(found):
    return f"rate {found['cases'][0]['rate']}"
if __name__ == "__main__":
    if "--wrong" in sys.argv:
        sys.exit(int(sys.argv[-1]))
    print(json.dumps(FOUND) if "--json" in sys.argv else " ".join(sys.argv[1:]))
'''


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A source checkout with one benchmark, and nothing stored."""
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "tests/kafka").mkdir(parents=True)
    (tmp_path / "benchmarks/bench_nothing.py").write_text(PROGRAM)
    monkeypatch.setattr(bench, "PROJECT", tmp_path)
    monkeypatch.setattr(bench, "FOLDER", tmp_path / "benchmarks")
    monkeypatch.setattr(ratios, "STORED", tmp_path / "ratios.json")
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def result(path, benchmark, **parts):
    path.write_text(json.dumps({"benchmark": benchmark, "machine": {}, **parts}))
    return str(path)


def test_it_lists_what_there_is_by_the_first_line_of_each_program(checkout, capsys):
    assert run(["bench"]) == 0
    shown = capsys.readouterr().out
    assert "nothing  How fast nothing is done." in shown
    assert "compare" in shown
    assert run(["bench", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert listed == {"benchmarks": [{"name": "nothing", "help": "How fast nothing is done."}]}


def test_the_programs_of_this_checkout_are_listed(capsys):
    assert run(["bench", "--json"]) == 0
    names = {one["name"]: one["help"] for one in json.loads(capsys.readouterr().out)["benchmarks"]}
    assert {"ingest", "peers", "scoring", "state"} <= set(names)
    assert all(names.values())


def test_options_go_to_the_program_as_they_are(checkout, capfd):
    assert run(["bench", "nothing", "--rounds", "3", "--help", "-x", "a b"]) == 0
    assert capfd.readouterr().out == "--rounds 3 --help -x a b\n"
    assert run(["bench", "nothing", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["benchmark"] == "nothing"


def test_a_program_that_fails_is_told_and_bad_usage_stays_bad_usage(checkout, capfd):
    assert run(["bench", "nothing", "--wrong", "1"]) == 1
    assert "bench nothing: ended with code 1" in capfd.readouterr().err
    assert run(["bench", "nothing", "--wrong", "2"]) == 2
    assert run(["bench", "unknown"]) == 2
    assert "unknown" in capfd.readouterr().err


def test_without_a_checkout_it_says_what_to_do(checkout, capsys):
    (checkout / "tests/kafka").rmdir()
    for arguments in (["bench"], ["bench", "nothing"], ["bench", "compare", "x.json"]):
        assert run(arguments) == 1
        assert "need a source checkout" in capsys.readouterr().err


def test_stored_ratios_are_those_of_the_run(checkout, capsys):
    ratios.STORED.write_text(json.dumps({"other": {"machine": {}, "ratios": {"ratio": 1.0}}}))
    assert run(["bench", "nothing", "--store"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("rate 10.0\n")
    assert "By hand." in shown
    kept = json.loads(ratios.STORED.read_text())
    assert kept["nothing"]["ratios"] == {"cases[entities=7].ratio.peer": 2.5}
    assert set(kept) == {"nothing", "other"}
    assert run(["bench", "nothing", "--store", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["benchmark"] == "nothing"


def test_every_ratio_of_a_result_is_found_wherever_it_stands():
    found = {
        "benchmark": "b",
        "rate": 9.0,
        "ratio": 2,
        "models": [
            {"model": "m", "ratio": {"a": 0.5, "label": "text", "none": None}, "batches": [{"batch": 8, "ratio": 0.25}]}
        ],
        "rounds": [1.0, 2.0],
    }
    assert ratios.ratios_of(found) == {
        "ratio": 2.0,
        "models[model=m].ratio.a": 0.5,
        "models[model=m].batches[batch=8].ratio": 0.25,
    }


def test_two_runs_are_compared_by_their_ratios_alone(checkout, capsys):
    old = result(checkout / "old.json", "b", rate=100.0, ratio={"x": 2.0, "gone": 1.0, "zero": 0.0})
    new = result(checkout / "new.json", "b", rate=1.0, ratio={"x": 1.5, "added": 4.0, "zero": 1.0})
    assert run(["bench", "compare", old, new, "--json"]) == 0
    rows = {row["ratio"]: row for row in json.loads(capsys.readouterr().out)["ratios"]}
    assert rows["ratio.x"] == {"benchmark": "b", "ratio": "ratio.x", "old": 2.0, "new": 1.5, "change": -0.25}
    assert rows["ratio.added"]["old"] is None
    assert rows["ratio.gone"]["new"] is None
    assert {rows[f"ratio.{name}"]["change"] for name in ("added", "gone", "zero")} == {None}
    assert run(["bench", "compare", old, new]) == 0
    assert "-25%" in capsys.readouterr().out


def test_a_run_is_compared_with_what_is_stored(checkout, capsys):
    ratios.store({"benchmark": "b", "machine": {}, "ratio": 2.0}, ratios.STORED)
    new = result(checkout / "new.json", "b", ratio=3.0)
    assert run(["bench", "compare", new]) == 0
    assert "+50%" in capsys.readouterr().out
    other = result(checkout / "other.json", "c", ratio=3.0)
    assert run(["bench", "compare", other]) == 0
    assert "no benchmark in common" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"a": 1}'])
def test_a_file_that_cannot_be_read_is_told_by_name(text, checkout, capsys):
    ratios.store({"benchmark": "b", "machine": {}, "ratio": 2.0}, ratios.STORED)
    path = checkout / "broken.json"
    path.write_text(text)
    assert run(["bench", "compare", str(path)]) == 1
    assert "broken.json" in capsys.readouterr().err
    assert run(["bench", "compare", str(checkout / "absent.json")]) == 1
    assert "absent.json" in capsys.readouterr().err


def test_three_files_are_bad_usage(checkout, capsys):
    assert run(["bench", "compare", "a", "b", "c"]) == 2


def test_the_ratios_of_the_project_can_be_read():
    kept = ratios.read(ratios.STORED)
    assert set(kept) >= {"ingest"}
    assert all(value > 0 for named in kept.values() for value in named.values())

"""The benchmarks as a user runs them, at tiny sizes: what they print is complete and belongs together."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODEL = "node-gbt"


def run(program: str, *options: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "benchmarks" / program), *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done


def found(program: str, *options: str) -> dict:
    done = run(program, *options, "--json")
    result = json.loads(done.stdout)
    assert len(done.stdout.splitlines()) == 1, "nothing but one JSON object on stdout"
    assert set(result["machine"]) == {"cores", "python", "load_average"}
    assert result["method"]
    return result


def ratio_of(rates: list[float], others: list[float]) -> float:
    (rate,), (other,) = rates, others
    return rate / other


@pytest.mark.kafka
@pytest.mark.slow
def test_ingest_beside_raw_aiokafka_and_a_given_program(tmp_path):
    program = tmp_path / "prototype.py"
    program.write_text(
        "import sys\nbootstrap, topic, messages = sys.argv[1:]\nassert ':' in bootstrap\n"
        "print(topic)\nprint('1 messages/s')\nprint(f'{int(messages):,} messages/s')\n"
    )
    sizes = ("--samples", "60000", "--entities", "50", "--rounds", "1", "--prototype", str(program))
    result = found("bench_ingest.py", *sizes)
    assert result["benchmark"] == "ingest"
    assert result["samples"] == 60_000
    (case,) = result["cases"]
    assert case["entities"] == 50
    assert 300 < case["bytes_per_sample"] < 450
    rounds = case["rounds"]
    assert {name: len(rates) for name, rates in rounds.items()} == dict.fromkeys(
        ("raw", "prototype", "worker", "worker_durable"), 1
    )
    assert case["prototype"] == 60_000, "the last rate that the program prints counts"
    assert case["ratio"] == ratio_of(rounds["worker"], rounds["raw"])
    assert case["ratio_prototype"] == ratio_of(rounds["prototype"], rounds["raw"])
    assert case["ratio_durable"] == ratio_of(rounds["worker_durable"], rounds["raw"])
    assert 0 < case["worker_durable"] < case["worker"]
    assert case["cpu_us_raw"] > 0
    assert case["cpu_us_worker"] > 0


@pytest.mark.kafka
@pytest.mark.slow
def test_checkpoint_and_recovery():
    result = found("bench_checkpoint.py", "--entities", "300", "--rows", "4", "--rounds", "2")
    written, back = result["checkpoint"], result["recovery"]
    assert written["entities"] == back["entities"] == 300
    assert written["bytes"] > 300 * 4 * 12 * 4, "four rows, all touched, of twelve float32 each"
    assert 0 < written["locked_seconds"] < written["seconds"]
    assert written["ratio"] > 0
    assert back["ratio"] > 0


def test_scoring_beside_bare_onnx_runtime():
    sizes = ("--batches", "1", "8", "--entities", "10", "--steps", "2", "--seconds", "0.01", "--rounds", "1")
    result = found("bench_scoring.py", "--model", MODEL, *sizes)
    (model,) = result["models"]
    assert model["model"] == MODEL
    assert [b["batch"] for b in model["batches"]] == [1, 8]
    for batch in model["batches"]:
        assert batch["ratio"] == batch["score"] / batch["bare"]
    pipeline = model["pipeline"]
    assert pipeline["entities"] == 10
    assert pipeline["windows_per_second"] > 0, "windows must be full when the clock starts"
    assert pipeline["ratio"] > 0


def test_text_has_a_row_per_figure_and_says_how_it_was_measured():
    sizes = ("--batches", "4", "--entities", "4", "--steps", "1", "--seconds", "0.01", "--rounds", "1")
    text = run("bench_scoring.py", "--model", MODEL, *sizes).stdout
    assert text.splitlines()[0].split()[0] == "model"
    assert sum(line.startswith(MODEL) for line in text.splitlines()) == 2
    assert "load average" in text


@pytest.mark.kafka
def test_a_program_that_prints_no_rate_is_told(tmp_path):
    program = tmp_path / "silent.py"
    program.write_text("import sys\nsys.stderr.write('it broke')\n")
    sizes = ("--samples", "100", "--entities", "5", "--rounds", "1", "--prototype", str(program))
    done = run("bench_ingest.py", *sizes, code=1)
    assert "printed no `N messages/s`" in done.stderr
    assert "it broke" in done.stderr


@pytest.mark.kafka
@pytest.mark.full
def test_a_short_soak_reads_and_judges_everything(tmp_path):
    sizes = ("--minutes", "1.5", "--rate", "200", "--lifetime", "10", "--output", str(tmp_path), "--json")
    command = [sys.executable, str(ROOT / "benchmarks" / "soak.py"), *sizes]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    # so short a run may well say that memory grows
    assert done.returncode in (0, 1), done.stdout + done.stderr
    result = json.loads(done.stdout)
    assert set(result["verdict"]) == {"flat_memory", "lag_returns", "state_bounded"}
    assert done.returncode == (not all(result["verdict"].values()))
    last = json.loads((tmp_path / "soak.json").read_text())["readings"][-1]
    assert last["processed"] > 50 * 200
    assert last["dead_letters"] > 0
    assert last["state_bytes"] > 0
    assert last["checkpoint_failures"] == 0
    assert 200 <= last["entities"] < 50 * 200, "entities expire"
    assert (tmp_path / "soak.png").stat().st_size > 1000

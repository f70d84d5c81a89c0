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


@pytest.mark.kafka
@pytest.mark.slow
def test_latency_beside_an_echo():
    sizes = ("--entities", "40", "--drain", "40000", "--rate", "400", "--transitions", "1", "--seconds", "3")
    result = found("bench_latency.py", "--model", "threshold", *sizes)
    (case,) = result["cases"]
    assert case["generator_unpaced"] > 400, "the generator is not the limit"
    assert 0 < case["transitions_per_sample"] < 0.5
    (load,) = case["loads"]
    assert load["rate"] == pytest.approx(400)
    assert load["generator"]["late_ms"]["p50"] > 0
    alerts, echo = load["alerts"], load["echo"]
    assert alerts["records"] > 10
    for one in (alerts, echo, *alerts["steps"].values()):
        assert one["p50"] <= one["p99"] <= one["p99_9"] <= one["max"]
    assert list(alerts["steps"]) == ["fetch", "queue", "process", "produce", "consume"]
    assert all(step["p50"] <= alerts["max"] for step in alerts["steps"].values())
    assert load["ratio"] == result["ratio"] == alerts["p99"] / echo["p99"]


@pytest.mark.kafka
@pytest.mark.slow
def test_growth_and_a_capacity_plan_made_of_it(tmp_path):
    sizes = ("--entities", "400", "40", "--samples", "60000", "--model-samples", "10000", "--day-seconds", "4")
    picture, figures = tmp_path / "growth.png", tmp_path / "figures.jsonl"
    result = found("bench_growth.py", *sizes, "--day-entities", "5", "--plot", str(picture))
    assert picture.read_bytes().startswith(b"\x89PNG")
    few, many = result["cases"]
    assert (few["entities"], many["entities"]) == (40, 400)
    assert few["rows"] == 1500
    for case in (few, many):
        assert 0 < case["cpu_us_per_sample"] < case["cpu_us_per_sample_with_model"]
        assert case["resident_bytes"] <= case["peak_bytes"]
        assert case["changelog_bytes_per_snapshot"] > 30 * 8 * 2, "eight random float32 in each of 30 rows, compressed"
    assert few["peak_bytes_per_entity"] is None
    assert result["ratio"] == many["cpu_us_per_sample"] / few["cpu_us_per_sample"]
    day = result["day"]
    assert day["live_bytes"] < day["largest_bytes"] < day["written_bytes"]
    figures.write_text(json.dumps(result))
    command = [
        sys.executable,
        "-m",
        "dwcp_stream",
        "capacity",
        "--entities",
        "1000",
        "--figures",
        str(figures),
        "--json",
    ]
    plan = json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout)
    assert plan["samples_per_second"] == 1000
    assert plan["changelog_bytes_per_second"] == pytest.approx(200 * many["changelog_bytes_per_snapshot"])


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

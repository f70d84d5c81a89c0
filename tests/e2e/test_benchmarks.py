"""The benchmarks as a user runs them, at tiny sizes: what they print is complete and belongs together."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.programs import PEERS, Program, run_program
from benchmarks.telemetry import fill, write
from benchmarks.worker_process import BenchmarkError
from tests.integration.harness import make_settings, read_topic

ROOT = Path(__file__).resolve().parents[2]
MODEL = "node-gbt"


def run(*arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dwcp_stream", "bench", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done


def found(name: str, *options: str) -> dict:
    done = run(name, *options, "--json")
    result = json.loads(done.stdout)
    assert len(done.stdout.splitlines()) == 1, "nothing but one JSON object on stdout"
    assert done.stderr.strip(), "what takes long says how far it is"
    assert result["benchmark"] == name
    assert set(result["machine"]) == {"cores", "python", "load_average"}
    assert result["method"]
    return result


def ratio_of(rates: list[float], others: list[float]) -> float:
    (rate,), (other,) = rates, others
    return rate / other


@pytest.mark.kafka
@pytest.mark.slow
def test_ingest_of_samples_and_frames_beside_raw_aiokafka():
    sizes = ("--samples", "60000", "--warm", "5000", "--entities", "50", "--rounds", "1", "--peers", "none")
    result = found("ingest", *sizes, "--frame-samples", "400000", "--frame-rows", "10")
    (case,), (frames,) = result["cases"], result["frames"]
    for one, samples, rows in ((case, 60_000, 1), (frames, 400_000, 10)):
        assert one["entities"] == 50
        assert one["rows_per_record"] == rows
        assert one["samples_read"] == {"raw_aiokafka": samples, "worker": samples}
        rates, rounds = one["samples_per_second"], one["rounds"]
        assert rates == {name: of[0] for name, of in rounds.items()}
        assert set(rates) == {"raw_aiokafka", "worker", "durable"}
        assert one["ratio"] == {"raw_aiokafka": ratio_of(rounds["worker"], rounds["raw_aiokafka"])}
        assert one["durable"]["ratio"] == {"raw_aiokafka": ratio_of(rounds["durable"], rounds["raw_aiokafka"])}
        assert 0 < rates["durable"] < rates["worker"]
        assert all(spent > 0 for spent in one["cpu_us"].values())
    assert 300 < case["bytes_per_sample"] < 450
    assert frames["bytes_per_sample"] < case["bytes_per_sample"], "a frame names its fields once"


@pytest.fixture(scope="module")
def peers_made():
    subprocess.run([ROOT / "scripts/peer-environment"], check=True, timeout=600)


@pytest.mark.full
@pytest.mark.kafka
@pytest.mark.parametrize("name", PEERS)
async def test_a_peer_reads_the_samples_and_publishes_one_in_a_thousand(name, kafka, topic_prefix, peers_made):
    settings, topic = make_settings(kafka.bootstrap), f"{topic_prefix}samples"
    await fill(settings, topic, 20_500, 100)
    await write(settings, f"{topic}.output", ())
    once = await asyncio.to_thread(run_program, PEERS[name], kafka.bootstrap, topic, 20_500, 1_000)
    assert once.rate > 0
    assert once.cpu_us > 0
    published = await read_topic(settings, f"{topic}.output")
    # a program leaves at once when it is done, and may leave behind what it has not flushed yet
    assert 10 <= len(published) <= 20
    for record in published:
        assert json.loads(record.value)["cluster_id"] == record.key.decode().removesuffix("/0")


@pytest.mark.full
@pytest.mark.kafka
@pytest.mark.timeout(900)
def test_the_worker_beside_its_peers(peers_made):
    result = found("peers", "--samples", "40000", "--warm", "5000")
    (case,) = result["cases"]
    assert case["entities"] == 1000
    assert set(case["ratio"]) == {"raw_aiokafka", *PEERS}
    assert "frames" not in result


def test_without_their_environment_the_peers_are_told_of():
    code = (
        "import sys; from pathlib import Path; from benchmarks import bench_ingest, bench_peers\n"
        "bench_ingest.PEER_PYTHON = Path('/nowhere/python'); sys.argv = ['bench', '--peers', 'quix']\n"
        "bench_peers.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "scripts/peer-environment" in done.stderr


@pytest.mark.kafka
@pytest.mark.full
def test_checkpoint_and_recovery():
    result = found("state", "--entities", "300", "--rows", "4", "--rounds", "2")
    written, back = result["checkpoint"], result["recovery"]
    assert written["entities"] == back["entities"] == 300
    assert written["bytes"] > 300 * 4 * 12 * 4, "four rows, all touched, of twelve float32 each"
    assert 0 < written["locked_seconds"] < written["seconds"]
    assert written["ratio"] > 0
    assert back["ratio"] > 0


@pytest.mark.kafka
@pytest.mark.full
def test_restart_with_and_without_fixed_names():
    result = found("restart", "--entities", "40", "--seconds", "2", "--rounds", "1")
    assert result["benchmark"] == "restart"
    for kind in ("fixed", "free"):
        case = result[kind]
        assert 0 < case["undisturbed_seconds"] < case["gap_seconds"]
        assert case["restart_seconds"] > 0
    assert result["ratio"] == result["fixed"]["gap_seconds"] / result["free"]["gap_seconds"]


@pytest.mark.kafka
@pytest.mark.full
def test_latency_beside_an_echo():
    sizes = ("--entities", "40", "--drain", "40000", "--rate", "400", "--transitions", "1", "--seconds", "3")
    result = found("latency", "--model", "threshold", *sizes)
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
@pytest.mark.full
def test_growth_and_a_capacity_plan_made_of_it(tmp_path):
    sizes = ("--entities", "400", "40", "--samples", "60000", "--model-samples", "10000", "--day-seconds", "4")
    picture, figures = tmp_path / "growth.png", tmp_path / "figures.jsonl"
    result = found("growth", *sizes, "--day-entities", "5", "--plot", str(picture))
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


@pytest.mark.kafka
@pytest.mark.full
def test_scoring_from_kafka_to_verdicts_beside_bare_onnx_runtime():
    whole = ("--workers", "1", "2", "--threads", "1", "--whole-entities", "80", "--whole-seconds", "0.5")
    sizes = ("--batches", "1", "8", "--entities", "10", "--steps", "2", "--seconds", "0.01", "--rounds", "1")
    result = found("scoring", "--model", MODEL, *whole, *sizes)
    (model,) = result["models"]
    assert model["model"] == MODEL
    one, two = model["whole_path"]
    assert [one["run"], two["run"]] == ["1 worker, 1 thread", "2 workers, 1 thread"]
    for run_ in (one, two):
        assert run_["windows_per_batch"] >= 1
        assert run_["outputs_per_window"] >= 1, "a probability of an incident for every window"
        assert run_["ratio"]["onnxruntime"] == run_["windows_per_second"] / run_["bare"]
    assert model["ratio"] == one["ratio"]
    assert two["ratio"]["first_run"] == two["windows_per_second"] / one["windows_per_second"]
    assert [b["batch"] for b in model["batches"]] == [1, 8]
    for batch in model["batches"]:
        assert batch["ratio"] == batch["score"] / batch["bare"]
    pipeline = model["pipeline"]
    assert pipeline["entities"] == 10
    assert pipeline["windows_per_second"] > 0, "windows must be full when the clock starts"
    assert pipeline["ratio"] > 0
    drift = model["drift"]
    assert 0 < drift["ratio"]["pipeline"] < 1, "it is a part of the pipeline"
    shares = drift["microseconds_per_sample"] * 1e-6 * pipeline["windows_per_second"]
    assert shares == pytest.approx(drift["ratio"]["pipeline"]), "one round"


def test_text_has_a_row_per_figure_and_says_how_it_was_measured():
    sizes = ("--batches", "4", "--entities", "4", "--steps", "1", "--seconds", "0.01", "--rounds", "1")
    text = run("scoring", "--model", MODEL, "--workers", *sizes).stdout
    assert text.splitlines()[0].split()[0] == "model"
    assert sum(line.startswith(MODEL) for line in text.splitlines()) == 2
    assert f"Drift of {MODEL}" in text
    assert "load average" in text


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("import sys\nsys.stderr.write('it broke')", "it broke"),
        ("print('5 messages/s')\nraise SystemExit(3)", "ended with 3"),
    ],
)
def test_a_program_that_gives_no_rate_or_fails_is_told(body, said, tmp_path):
    (tmp_path / "program.py").write_text(body)
    program = Program("broken", tmp_path / "program.py", python=Path(sys.executable))
    with pytest.raises(BenchmarkError, match=said):
        run_program(program, "127.0.0.1:1", "t", 10, 1)


def test_a_program_gets_what_to_read_and_its_last_rate_counts(tmp_path):
    (tmp_path / "program.py").write_text(
        "import sys\nassert sys.argv[1:] == ['127.0.0.1:1', 't', '10', '1']\n"
        "print('1 messages/s')\nprint('1,234.5 messages/s, 6.25 us CPU/message')\n"
    )
    found_ = run_program(
        Program("own", tmp_path / "program.py", python=Path(sys.executable)), "127.0.0.1:1", "t", 10, 1
    )
    assert (found_.rate, found_.cpu_us) == (1234.5, 6.25)


@pytest.mark.kafka
@pytest.mark.slow
def test_swaps_beside_no_swaps():
    result = found("swap", "--samples", "150000", "--entities", "50", "--swaps", "2")
    assert result["swaps"] == 2
    assert result["partitions"] == 4
    for kind in ("swap", "none"):
        assert 0 < result["gap"][kind]["median"] <= result["gap"][kind]["p99"] <= result["gap"][kind]["max"]
        assert 0 <= result["pause"][kind]["max"] <= result["gap"][kind]["max"]
    assert result["ratio_gap_p99"] == result["gap"]["swap"]["p99"] / result["gap"]["none"]["p99"]
    assert len(result["memory_bytes"]) == 3


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


@pytest.mark.kafka
@pytest.mark.full
def test_the_loop_on_a_made_up_series_is_worth_something():
    result = found("loop")
    (series,) = result["series"]
    words = [decision["decision"] for decision in series["decisions"]]
    assert words.index("trained") < words.index("challenged") < words.index("promoted")
    assert result["ratio_simulated"] == round(series["whole"]["with"] / series["whole"]["without"], 4) < 1

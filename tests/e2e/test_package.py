"""The package: sdist and wheel are built, the wheel is installed into an empty environment and used elsewhere."""

import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]


def run(*command, cwd, environment=None):
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=250,
    )
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Builds both (the wheel from the sdist), installs the wheel, and returns a function that runs the command.

    Only the packages that it needs are taken from the environment of the tests, which would take minutes to fetch.
    """
    folder = tmp_path_factory.mktemp("package")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder / "dist", PROJECT, cwd=folder)
    (sdist,) = (folder / "dist").glob("*.tar.gz")
    (wheel,) = (folder / "dist").glob("*.whl")
    assert sdist.stat().st_size < 20_000_000
    venv.create(folder / "venv", with_pip=False)
    python = folder / "venv" / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python)
    run(*pip, "install", "--quiet", "--no-deps", "--no-index", wheel, cwd=folder)
    own = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip())
    (own / "needed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("DWCP_", "PYTHON"))}

    def command(*arguments):
        return run(folder / "venv" / "bin" / "dwcp-stream", *arguments, cwd=elsewhere, environment=environment)

    command.folder, command.python = elsewhere, python
    return command


def test_the_command_finds_the_streams_models_and_maps_inside(installed):
    where = run(installed.python, "-c", "import dwcp_stream; print(dwcp_stream.__file__)", cwd=installed.folder)
    assert not Path(where.strip()).is_relative_to(PROJECT)
    streams = json.loads(installed("streams", "list", "--json"))
    assert [stream["name"] for stream in streams["streams"]] == ["consensus", "link", "node"]
    assert not Path(streams["streams_dir"]).is_relative_to(PROJECT)
    models = json.loads(installed("models", "verify", "node-gbt", "--json"))
    assert "node-gbt" in json.dumps(models)
    assert json.loads(installed("config", "check", "--json"))["warnings"] == []


def test_a_stream_of_ones_own_makes_the_folder_a_site_of_its_own(installed):
    rows = "\n".join(f"{1_700_000_000 + 60 * i},{i % 7}.5" for i in range(100))
    (installed.folder / "load.csv").write_text(f"ts,load\n{rows}\n")
    installed("streams", "infer", "load.csv")
    assert (installed.folder / "config/streams/load.toml").exists()
    assert [s["name"] for s in json.loads(installed("streams", "list", "--json"))["streams"]] == ["load"]
    assert "model load-anomaly is not in models" in installed("config", "check")

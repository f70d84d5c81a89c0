"""What people start with: the Makefile and its scripts, the image, the compose file, the licence."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from dwcp_stream.cli.main import COMMANDS
from dwcp_stream.setting_sections import HttpSettings
from dwcp_stream.settings_docs import options
from dwcp_stream.streams import load_streams

ROOT = Path(__file__).resolve().parents[2]
MAKEFILE = (ROOT / "Makefile").read_text()
COMPOSE = (ROOT / "docker-compose.yml").read_text()
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def run(*command: str, path: str = os.environ["PATH"], **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": path, "HOME": "/nowhere", **variables},
    )


def test_make_alone_lists_every_target_for_people():
    shown = run("make").stdout
    targets = {line.split()[0] for line in shown.splitlines()}
    assert targets == {
        *("help", "setup", "check", "test", "full", "chaos", "demo", "bench", "soak", "fuzz", "audit", "docs", "site")
    }
    assert targets | {"jars"} == set(re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)[1].split())


def test_the_scripts_that_are_called_exist_and_can_run():
    called = set(re.findall(r"scripts/[\w-]+", MAKEFILE + (ROOT / ".ci/run").read_text()))
    assert called >= {"scripts/system-packages", "scripts/python-environment", "scripts/kafka-jars"}
    for name in [*called, ".ci/run"]:
        assert os.access(ROOT / name, os.X_OK), name
        text = (ROOT / name).read_text()
        if "python" in text.splitlines()[0]:
            compile(text, name, "exec")
        else:
            assert run("bash", "-n", name).returncode == 0, name


def test_ci_calls_make_test_in_a_fresh_environment():
    script = (ROOT / ".ci/run").read_text()
    assert "set -euo pipefail" in script
    assert script.index("rm -rf .venv") < script.index("make test")
    assert "bash .ci/run" in (ROOT / ".github/workflows/ci.yml").read_text()


def test_ci_audits_the_pinned_packages_on_every_push_and_every_week():
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    assert [step["run"] for step in workflow["jobs"]["audit"]["steps"] if "run" in step] == ["python scripts/audit"]
    assert workflow[True]["schedule"]  # YAML 1.1 takes the key `on` for true
    assert "scripts/audit" in MAKEFILE


ANSWERS = {
    "clean": ('{"dependencies": [{"name": "a", "version": "1", "vulns": []}]}', 0, "1 packages looked up, 0 known"),
    "known": (
        '{"dependencies": [{"name": "a", "version": "1", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2"]}]}]}',
        1,
        "a 1: PYSEC-1; fixed in 2",
    ),
    "skipped": ('{"dependencies": [{"name": "a", "skip_reason": "not found"}]}', 2, "1 of 1 packages could not be"),
    "away": ("", 2, "the vulnerability service is not reachable"),
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_what_could_not_be_looked_up_does_not_pass_for_good_news(tmp_path, answer):
    printed, code, message = ANSWERS[answer]
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts/audit", tmp_path / "scripts")
    program = tmp_path / ".venv/audit/bin/pip-audit"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/bash\necho '{printed}'\n")
    program.chmod(0o755)
    done = run(sys.executable, str(tmp_path / "scripts/audit"))
    assert done.returncode == code
    assert message in done.stdout + done.stderr


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A folder of commands as on a machine without Java, Maven and virtual environments."""
    for name in ("bash", "env", "cat"):
        (tmp_path / name).symlink_to(shutil.which(name))
    (tmp_path / "python3").write_text("#!/bin/bash\nexit 1\n")
    # bash gets EUID from the kernel, so root is played by commands that note what they were asked.
    (tmp_path / "apt-get").write_text('#!/bin/bash\necho "apt-get $*" >> "$LOG"\n')
    for name in ("python3", "apt-get"):
        (tmp_path / name).chmod(0o755)
    return tmp_path


def test_missing_packages_are_named_in_one_line_to_those_who_may_not_install():
    script = (ROOT / "scripts/system-packages").read_text()
    nobody = {"user": 65534, "group": 65534} if os.geteuid() == 0 else {}
    done = subprocess.run(
        [shutil.which("bash"), "-s", "java"],
        input=script,
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/nowhere"},
        cwd="/",
        **nobody,
    )
    wanted = "openjdk-17-jre-headless maven"
    line = f"error: packages are missing. Type: sudo apt-get update && sudo apt-get install -y {wanted}"
    assert (done.returncode, done.stderr.splitlines()) == (1, [line])


def test_missing_packages_are_installed_after_an_update_where_that_is_allowed(bare):
    (bare / "sudo").write_text('#!/bin/bash\nshift; "$@"\n')
    (bare / "true").symlink_to(shutil.which("true"))
    (bare / "sudo").chmod(0o755)
    done = run("scripts/system-packages", "python", "java", path=str(bare), LOG=str(bare / "log"))
    assert done.returncode == 0, done.stderr
    update, install = (bare / "log").read_text().splitlines()
    assert update.startswith("apt-get update")
    assert install.startswith("apt-get install -y")
    assert install.endswith("python3-venv openjdk-17-jre-headless maven")


def test_an_old_java_is_not_enough(bare):
    for name, text in {"java": "echo 'openjdk version \"11.0.2\"' >&2", "mvn": "true"}.items():
        (bare / name).write_text(f"#!/bin/bash\n{text}\n")
        (bare / name).chmod(0o755)
    done = run("scripts/system-packages", "java", path=str(bare), LOG=str(bare / "log"))
    assert "openjdk-17-jre-headless" in done.stderr
    assert "maven" not in done.stderr


def test_etcd_is_installed_without_its_service(bare):
    (bare / "systemctl").write_text('#!/bin/bash\necho "systemctl $*" >> "$LOG"\n')
    (bare / "systemctl").chmod(0o755)
    sudo = bare / "sudo"
    sudo.write_text('#!/bin/bash\nshift; "$@"\n')
    sudo.chmod(0o755)
    (bare / "true").symlink_to(shutil.which("true"))
    done = run("scripts/system-packages", "etcd", path=str(bare), LOG=str(bare / "log"))
    assert done.returncode == 0, done.stderr
    masked, update, install = (bare / "log").read_text().splitlines()
    assert masked == "systemctl mask etcd"
    assert update.startswith("apt-get update")
    assert install.endswith("etcd-server gcc libc6-dev")


def test_prometheus_and_alertmanager_are_installed_without_their_services(bare):
    (bare / "systemctl").write_text('#!/bin/bash\necho "systemctl $*" >> "$LOG"\n')
    (bare / "sudo").write_text('#!/bin/bash\nshift; "$@"\n')
    for name in ("systemctl", "sudo"):
        (bare / name).chmod(0o755)
    (bare / "true").symlink_to(shutil.which("true"))
    done = run("scripts/system-packages", "prometheus", "compose", path=str(bare), LOG=str(bare / "log"))
    assert done.returncode == 0, done.stderr
    *masked, update, install = (bare / "log").read_text().splitlines()
    servers = ("prometheus", "prometheus-node-exporter", "prometheus-alertmanager")
    assert masked == [f"systemctl mask {name}" for name in servers]
    assert update.startswith("apt-get update")
    assert install.endswith("prometheus prometheus-node-exporter prometheus-alertmanager docker-compose")


def test_what_is_there_is_left_alone(bare):
    for name, text in {"java": "echo 'openjdk version \"21\"' >&2", "mvn": "true", "python3": "true"}.items():
        (bare / name).write_text(f"#!/bin/bash\n{text}\n")
        (bare / name).chmod(0o755)
    done = run("scripts/system-packages", "python", "java", path=str(bare), LOG=str(bare / "log"))
    assert (done.returncode, done.stderr) == (0, "")
    assert not (bare / "log").exists()


def test_an_old_python_is_told_with_the_remedy(bare):
    (bare / "python3").write_text(
        '#!/bin/bash\ncase "$*" in *ensurepip*) exit 0;; *version_info*) exit 1;; -V) echo Python 3.9.2;; esac\n'
    )
    (bare / "dirname").symlink_to(shutil.which("dirname"))
    done = run("scripts/python-environment", path=str(bare), LOG=str(bare / "log"))
    assert done.returncode == 1
    assert done.stderr == (
        "error: Python 3.11 or newer is needed, python3 is Python 3.9.2. Type: make setup PYTHON=/path/to/python3.11\n"
    )


def test_no_file_of_the_set_up_names_a_package_index():
    for name in (
        "constraints.txt",
        "tests/fuzz/constraints.txt",
        "scripts/fuzz-environment",
        "Makefile",
        "pyproject.toml",
        "Dockerfile",
        ".ci/run",
        "tests/kafka/pom.xml",
    ):
        text = (ROOT / name).read_text()
        assert not re.search(r"index-url|find-links|trusted-host|<repositor|<mirror", text), name
    for name in ("constraints.txt", "tests/fuzz/constraints.txt"):
        for line in (ROOT / name).read_text().splitlines():
            assert re.fullmatch(r"[A-Za-z0-9_.-]+==[\w.+!]+", line), line


def test_every_dependency_is_pinned():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pinned = {plain(line.split("==")[0]) for line in (ROOT / "constraints.txt").read_text().splitlines()}
    wanted = [
        *project["dependencies"],
        *(one for extra in project["optional-dependencies"].values() for one in extra),
    ]
    assert {plain(re.match(r"[\w.-]+", one)[0]) for one in wanted} <= pinned


def test_the_fuzzer_is_no_dependency_of_the_project():
    assert "atheris" not in (ROOT / "pyproject.toml").read_text() + (ROOT / "constraints.txt").read_text()
    assert ".fuzz/" in (ROOT / ".gitignore").read_text().splitlines()


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_compose_file_publishes_on_loopback_only_and_sets_known_variables():
    assert not re.search(r"^name:", COMPOSE, re.MULTILINE)
    published = re.findall(r'^ +- "([\d.:-]+)"$', COMPOSE, re.MULTILINE)
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)
    known = {option.variable for option in options()}
    used = set(re.findall(r"DWCP_\w+", COMPOSE + DOCKERFILE))
    assert used <= known, used - known
    assert "image: apache/kafka:4.1.1" in COMPOSE
    assert 'command: ["worker", "--all"]' in COMPOSE


def test_what_listens_beyond_loopback_in_a_container_has_a_token_of_the_operators():
    daemon = yaml.safe_load(COMPOSE)["services"]["daemon"]
    variables = daemon["environment"]
    assert variables["DWCP_HTTP__HOST"] == "0.0.0.0"
    assert variables["DWCP_HTTP__TOKEN"].startswith("${DWCP_HTTP__TOKEN:?"), "no default: compose stops without one"
    assert "dwcp_stream.web.probe" in daemon["healthcheck"]["test"]  # which reads the same variables


def test_there_is_a_published_port_for_every_stream():
    first = HttpSettings().port
    last = first + len(load_streams(ROOT / "config/streams")) - 1
    assert f"127.0.0.1:{first}-{last}:{first}-{last}" in COMPOSE
    assert f"EXPOSE {first}-{last}" in DOCKERFILE


def test_the_image_runs_as_a_plain_user_with_a_health_check():
    assert re.search(r"^USER 10001", DOCKERFILE, re.MULTILINE)
    assert "HEALTHCHECK" in DOCKERFILE
    assert 'CMD ["worker", "--all"]' in DOCKERFILE
    for source in re.findall(r"^COPY (?!--from)(?:--chown=\S+ )?(.+) \S+$", DOCKERFILE, re.MULTILINE):
        for name in source.split():
            assert (ROOT / name).exists(), name
            assert f"!{name}\n" in (ROOT / ".dockerignore").read_text(), name


def test_the_licence_is_whole():
    text = (ROOT / "LICENSE").read_text()
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert "APPENDIX: How to apply" in text


def test_the_changelog_tells_of_every_command():
    text = (ROOT / "CHANGELOG.md").read_text()
    assert "## [Unreleased]" in text
    for name in COMMANDS:
        assert f"`{name}`" in text, name

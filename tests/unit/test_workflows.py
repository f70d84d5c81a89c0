"""What GitHub runs: every command of the workflows exists."""

import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from dwcp_stream.cli.main import cli

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
PROGRAM = "dwcp-stream"


def jobs(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text())["jobs"]


def scripts(path: Path) -> list[str]:
    return [step["run"] for job in jobs(path).values() for step in job["steps"] if "run" in step]


def commands(script: str) -> list[list[str]]:
    """The words after the program's name, of each call in a script, up to a redirection or the end of the command."""
    found = []
    for line in script.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="();<>|&")
        lexer.whitespace_split = True
        words = list(lexer)
        for start in (number for number, word in enumerate(words) if Path(word).name == PROGRAM):
            rest = words[start + 1 :]
            end = next((n for n, word in enumerate(rest) if re.fullmatch(r"[();<>|&]+", word)), len(rest))
            found.append(rest[:end])
    return found


def complaint(words: list[str]) -> str:
    """Return what is wrong with a call: no such command or option, or not as many arguments as it takes."""
    command: click.Command = cli
    context = click.Context(cli)
    while isinstance(command, click.Group):
        found = command.get_command(context, words[0]) if words else None
        if found is None:
            return f"there is no command {words[:1]}"
        command, words = found, words[1:]
    options = {name: p for p in command.params if isinstance(p, click.Option) for name in p.opts}
    arguments = 0
    while words:
        word, *words = words
        if not word.startswith("-"):
            arguments += 1
        elif word not in options:
            return f"{command.name} has no option {word}"
        elif not options[word].is_flag:
            words = words[1:]
    taken = [p for p in command.params if isinstance(p, click.Argument)]
    needed = sum(p.required for p in taken)
    return "" if arguments >= needed else f"{command.name} needs {needed} arguments"


def test_every_command_of_the_workflows_exists():
    calls = [call for path in WORKFLOWS for script in scripts(path) for call in commands(script)]
    assert {" ".join(call[:2]) for call in calls} >= {"models publish", "models shadow", "models verify"}
    assert {call[0] for call in calls} >= {"train", "evaluate"}
    for call in calls:
        assert not complaint(call), call


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("dwcp-stream models publsh m folder", "no command"),
        ("x=$(dwcp-stream models publish m folder --quiet) && true", "no option --quiet"),
        (".venv/bin/dwcp-stream models publish m > out", "needs 2 arguments"),
    ],
)
def test_a_command_that_does_not_exist_is_noticed(line: str, why: str):
    (call,) = commands(line)
    assert why in complaint(call)


def test_scripts_that_are_called_exist_and_no_expression_gets_into_a_shell():
    for path in WORKFLOWS:
        for script in scripts(path):
            assert "${{" not in script, f"{path.name}: an expression in a script lets its value be run"
            assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0
            for name in re.findall(r"\bscripts/[\w-]+", script):
                assert os.access(ROOT / name, os.R_OK), name


def test_retraining_comes_every_week_and_by_hand():
    path = ROOT / ".github/workflows/retrain.yml"
    begins = yaml.safe_load(path.read_text())[True]  # YAML 1.1 takes the key `on` for true
    assert begins.keys() == {"schedule", "workflow_dispatch"}
    (job,) = jobs(path).values()
    names = [step.get("name", step.get("uses")) for step in job["steps"]]
    publishing = job["steps"][-1]
    assert publishing["if"] == "env.MODELS != ''"
    assert names.index("actions/upload-artifact@v4") < len(names) - 1, "what is not published is kept all the same"
    (ci,) = [step for step in jobs(ROOT / ".github/workflows/ci.yml")["test"]["steps"] if "setup-python" in str(step)]
    assert ci in job["steps"], "the same Python as CI has"

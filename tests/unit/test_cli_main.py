"""The program: help without imports, errors as one line or one JSON object, exit codes."""

import json
import re
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest

from dwcp_stream.cli import common
from dwcp_stream.cli import main as program
from dwcp_stream.errors import ConfigError
from dwcp_stream.settings import Settings


@pytest.fixture
def install(monkeypatch):
    """Make a function the body of the command `probe`."""

    def put(body):
        @click.command()
        @common.json_option
        def probe(as_json: bool):
            return body(as_json)

        monkeypatch.setattr(program.LazyGroup, "list_commands", lambda self, ctx: ["probe"])
        monkeypatch.setattr(program.LazyGroup, "get_command", lambda self, ctx, name: probe)

    return put


def raising(error):
    def body(as_json):
        raise error

    return body


def test_help_lists_the_commands_in_order_and_imports_none(capsys):
    assert program.run(["--help"]) == 0
    shown = capsys.readouterr().out
    folder = Path(program.__file__).parent
    listed = re.findall(r"^  ([\w-]+) ", shown.split("Commands:")[1], re.MULTILINE)
    assert listed == [name for name in program.COMMANDS if (folder / f"{name.replace('-', '_')}.py").exists()]
    code = (
        "import sys; from dwcp_stream.cli.main import run; run(['--help']);"
        "heavy = ('faust', 'numpy', 'onnxruntime', 'polars', 'jax', 'rich', 'aiokafka');"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_every_installed_command_loads_and_explains_itself(capsys):
    for name in program.LazyGroup().list_commands(click.Context(program.cli)):
        assert program.run([name, "--help"]) == 0, name
        assert len(capsys.readouterr().out.splitlines()) > 5, name


def test_an_unknown_command_is_bad_usage(capsys):
    assert program.run(["nothing"]) == 2
    assert "nothing" in capsys.readouterr().err


def test_an_error_is_one_line_on_stderr(install, capsys):
    install(raising(ConfigError("port is\nwrong", where="a.toml, http.port", remedy="Choose another")))
    assert program.run(["probe"]) == 1
    shown = capsys.readouterr()
    assert shown.err == "error: a.toml, http.port: port is wrong. Choose another\n"
    assert shown.out == ""


def test_with_json_an_error_is_one_object_on_stdout(install, capsys):
    install(raising(ConfigError("wrong", where="here", remedy="Do that")))
    assert program.run(["probe", "--json"]) == 1
    body = {"error_type": "config", "what": "wrong", "where": "here", "remedy": "Do that"}
    assert json.loads(capsys.readouterr().out) == {"error": body}


def test_a_bug_is_one_line_and_a_traceback_only_with_debug(install, capsys):
    install(raising(ZeroDivisionError("oops")))
    assert program.run(["probe"]) == 1
    shown = capsys.readouterr().err
    assert shown.startswith("error: ZeroDivisionError: oops")
    assert "Traceback" not in shown
    assert program.run(["--debug", "probe"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_an_absent_file_is_told_by_name(install, capsys):
    install(lambda as_json: Path("/none/such").read_text())
    assert program.run(["probe"]) == 1
    assert capsys.readouterr().err == "error: /none/such: No such file or directory\n"


def test_an_interrupt_ends_with_130(install):
    install(raising(KeyboardInterrupt()))
    assert program.run(["probe"]) == 130


def test_a_command_chooses_its_exit_code(install):
    install(lambda as_json: click.get_current_context().exit(1))
    assert program.run(["probe"]) == 1
    install(lambda as_json: None)
    assert program.run(["probe"]) == 0
    install(lambda as_json: True)
    assert program.run(["probe"]) == 0


def test_a_reader_that_goes_away_is_no_traceback():
    code = (
        "import click, sys; from dwcp_stream.cli import main as m\n"
        "@click.command()\ndef c():\n    [print('x' * 1000) for _ in range(10000)]\n"
        "m.LazyGroup.get_command = lambda *a: c\nsys.exit(m.run(['c']))"
    )
    shell = f'"{sys.executable}" -c "$CODE" | head -1'
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, env={"CODE": code}, check=True)
    assert len(done.stdout) == 1001
    assert done.stderr == ""


def test_emit_writes_one_json_line_with_numpy_and_nan(capsys):
    common.emit({"n": np.int64(3), "x": np.array([1.0, np.nan]), "p": Path("a/b")}, True)
    shown = capsys.readouterr().out
    assert shown.count("\n") == 1
    assert json.loads(shown) == {"n": 3, "x": [1.0, None], "p": "a/b"}


def test_emit_renders_for_people(capsys):
    common.emit({"n": 1}, False, lambda obj: f"n is {obj['n']}")
    common.emit({"n": 1}, False, lambda obj: click.echo("printed"))
    common.emit({"n": 1}, False)
    assert capsys.readouterr().out.split() == ["n", "is", "1", "printed", "{", '"n":', "1", "}"]


def test_settings_option_reads_the_file(tmp_path, capsys):
    (tmp_path / "s.toml").write_text("max_poll_records = 9")
    seen: list[Settings] = []

    @click.command()
    @common.settings_option
    def command(settings: Settings):
        seen.append(settings)

    command.main(["--config", str(tmp_path / "s.toml")], standalone_mode=False)
    assert seen[0].max_poll_records == 9


def test_debug_logs_everything(monkeypatch):
    seen: list[Settings] = []

    @click.command()
    @common.settings_option
    def probe(settings: Settings):
        seen.append(settings)

    monkeypatch.setattr(program.LazyGroup, "get_command", lambda self, ctx, name: probe)
    assert program.run(["probe"]) == program.run(["--debug", "probe"]) == 0
    assert [settings.log.level for settings in seen] == ["info", "debug"]


def test_progress_is_silent_when_stderr_is_no_terminal(capsys):
    with common.progress("work", total=2) as advance:
        advance(1)
    assert capsys.readouterr().err.strip() == ""

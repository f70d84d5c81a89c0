"""`dwcp-stream bench`: run the programs in benchmarks/ of a source checkout, keep and compare their ratios."""

import ast
import importlib
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import click

from dwcp_stream.cli.common import emit, json_option
from dwcp_stream.errors import DwcpError, PayloadError
from dwcp_stream.settings import PROJECT

PREFIX = "bench_"
FOLDER = PROJECT / "benchmarks"


def programs() -> dict[str, Path]:
    """Return the benchmarks by name: each is a program `benchmarks/bench_NAME.py`."""
    return {path.stem.removeprefix(PREFIX): path for path in sorted(FOLDER.glob(f"{PREFIX}*.py"))}


def summary(program: Path) -> str:
    """Return the first line of a program's docstring, without running it."""
    text = ast.get_docstring(ast.parse(program.read_text(encoding="utf-8"))) or ""
    return text.partition("\n")[0]


def require_checkout() -> None:
    """Refuse to go on without the folders that the installed package lacks."""
    for folder in (FOLDER, PROJECT / "tests" / "kafka"):
        if not folder.is_dir():
            raise DwcpError(
                "benchmarks need a source checkout", where=str(folder), remedy="Clone the project and `make setup`"
            )


class Benchmarks(click.Group):
    """The group of the programs there are, and `compare`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the programs' names, then the commands defined here."""
        return [*programs(), *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command that runs a program; None if there is no such name."""
        program = programs().get(cmd_name)
        return super().get_command(ctx, cmd_name) if program is None else program_command(cmd_name, program)


@click.group(cls=Benchmarks, invoke_without_command=True)
@json_option
@click.pass_context
def command(context: click.Context, as_json: bool) -> None:
    """Measure: each benchmark starts Kafka and what it compares with itself, by turns.

    Needs a source checkout. Figures belong to one machine and moment, so what counts are the ratios of two programs
    in the same run. `dwcp-stream bench NAME --help` says what is measured and which options there are.

    \b
    dwcp-stream bench ingest --json > new.json
    dwcp-stream bench compare new.json          with the ratios kept in benchmarks/ratios.json
    dwcp-stream bench peers --store             keep this run's ratios there
    """
    if context.invoked_subcommand is None:
        require_checkout()
        found = [{"name": name, "help": summary(path)} for name, path in programs().items()]
        emit({"benchmarks": found}, as_json, lambda _: context.get_help())


def program_command(name: str, program: Path) -> click.Command:
    """Return the command that runs one program with the options it is given."""

    @click.command(
        name,
        short_help=summary(program),
        add_help_option=False,  # --help is the program's own
        context_settings={"ignore_unknown_options": True},
    )
    @click.option("--store", is_flag=True)
    @json_option
    @click.argument("options", nargs=-1, type=click.UNPROCESSED)
    def run(store: bool, as_json: bool, options: tuple[str, ...]) -> None:
        require_checkout()
        if not store:
            _run(name, program, [*options, *(["--json"] if as_json else [])], capture=False)
            return
        found = json.loads(_run(name, program, [*options, "--json"], capture=True))
        ratios = _module("ratios")
        ratios.store(found, ratios.STORED)
        if as_json:
            click.echo(json.dumps(found))
        else:
            _module("support").report(found, False, _module(program.stem).text(found))

    return run


def _run(name: str, program: Path, options: list[str], *, capture: bool) -> str:
    """Run a program to its end; what it prints goes through, or is returned."""
    command = [sys.executable, str(program), *options]
    piped = subprocess.PIPE if capture else None
    with subprocess.Popen(command, stdout=piped, text=True) as process:  # noqa: S603  # a program of this checkout
        before = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        try:
            out, _ = process.communicate()
        except KeyboardInterrupt:
            process.wait()  # it was interrupted too, and stops its broker and workers
            raise
        finally:
            signal.signal(signal.SIGTERM, before)
    if process.returncode == click.UsageError.exit_code:
        click.get_current_context().exit(process.returncode)  # argparse has said what is wrong
    if process.returncode:
        raise DwcpError(f"ended with code {process.returncode}", where=f"bench {name}", remedy="Its messages are above")
    return out or ""


@command.command()
@click.argument("files", nargs=-1, required=True, metavar="[OLD.json] NEW.json", type=click.Path(path_type=Path))
@json_option
def compare(files: tuple[Path, ...], as_json: bool) -> None:
    """Compare the ratios of two runs: print each with its change.

    A file is what a benchmark printed with --json, or ratios kept by --store; without OLD.json it is
    benchmarks/ratios.json. A change is told, never judged: the exit code is 0 unless a file cannot be read.
    """
    require_checkout()
    if len(files) > 2:
        raise click.UsageError("Give one or two files.")
    ratios = _module("ratios")
    old, new = (_read(ratios, path) for path in (ratios.STORED, *files)[-2:])
    emit({"ratios": ratios.compare(old, new)}, as_json, _render)


def _read(ratios: Any, path: Path) -> Any:
    try:
        return ratios.read(path)
    except ValueError as error:  # json.JSONDecodeError is one
        remedy = "Give the output of `dwcp-stream bench NAME --json`"
        raise PayloadError(f"cannot be read as ratios: {error}", where=str(path), remedy=remedy) from error


def _render(found: dict[str, Any]) -> str:
    if not found["ratios"]:
        return "The two files have no benchmark in common."
    rows = [
        (f"{row['benchmark']} {row['ratio']}", _number(row["old"]), _number(row["new"]), _percent(row["change"]))
        for row in found["ratios"]
    ]
    shown: str = _module("support").table(("ratio", "old", "new", "change"), rows)
    return shown


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:+.0f}%"


def _module(name: str) -> Any:
    """Import a module of benchmarks/, which is no part of the installed package."""
    if str(PROJECT) not in sys.path:
        sys.path.insert(0, str(PROJECT))
    return importlib.import_module(f"benchmarks.{name}")

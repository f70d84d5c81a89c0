"""The command: `python -m lab.etcd schedule` and `python -m lab.etcd record`."""

import asyncio
import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from lab.etcd.errors import LabError
from lab.etcd.fields import Row
from lab.etcd.kinds import FAULTS, NEGATIVES
from lab.etcd.output import events_path, line, table, write
from lab.etcd.recorder import Options, Recording, record
from lab.etcd.schedule import Event, Plan, make_schedule
from lab.etcd.shapes import SHAPES

HELP: Final = """Real telemetry with labels: an etcd cluster on this machine, under load and faults.

\b
python -m lab.etcd schedule --seed 7 --minutes 10
python -m lab.etcd record --seed 7 --minutes 10 --members 3 --shape sine --out run.csv.gz
"""
EVERY: Final = 5  # seconds between lines of progress, where nothing changes

Command = Callable[..., None]


def scheduling(command: Command) -> Command:
    """Add the options that make a schedule."""
    options = (
        click.option("--seed", default=7, show_default=True, help="Same seed, same schedule and same requests."),
        click.option("--minutes", default=10.0, show_default=True, help="Length of the recording."),
        click.option("--members", type=click.IntRange(3, 7), default=3, show_default=True, help="Size of the cluster."),
        click.option(
            "--plan",
            type=click.Choice(["full", "faults", "negatives", "none"]),
            default="full",
            show_default=True,
            help="Faults and hard negatives, one of them, or nothing.",
        ),
        click.option("--only", default="", metavar="A,B", help=f"Kinds: {', '.join((*FAULTS, *NEGATIVES))}."),
        click.option("--gap", default=40.0, show_default=True, help="Mean seconds between two events."),
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.group(help=HELP)
def main() -> None:
    """Group of the commands."""


@main.command("schedule")
@scheduling
@click.option("--json", "as_json", is_flag=True, help="Print a list of objects.")
def show(*, seed: int, minutes: float, members: int, plan: Plan, only: str, gap: float, as_json: bool) -> None:
    """Print what a recording would do, and do nothing."""
    events = _schedule(seed, minutes, members, plan, only, gap)
    click.echo(json.dumps([event.plain() for event in events]) if as_json else table(events))


@main.command("record")
@scheduling
@click.option("--shape", type=click.Choice(list(SHAPES)), default="sine", show_default=True, help="Shape of the load.")
@click.option("--rate", default=90.0, show_default=True, help="Requests per second where the shape is 1.")
@click.option("--gets", default=0.1, show_default=True, help="Share of the requests that read.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Make the cluster's folder there; should be a disk.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="FILE.csv.gz, .csv or .parquet.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one object.")
def record_command(
    *,
    seed: int,
    minutes: float,
    members: int,
    plan: Plan,
    only: str,
    gap: float,
    shape: str,
    rate: float,
    gets: float,
    data_dir: Path | None,
    out: Path,
    as_json: bool,
) -> None:
    """Record the rows and, beside them, the events; Ctrl-C ends early and keeps what there is."""
    events = _schedule(seed, minutes, members, plan, only, gap)
    options = Options(seed, 60 * minutes, members, shape, rate, gets, data_dir)
    recording = Recording()
    code = 0
    try:
        events_path(out)
        code = asyncio.run(_until_told(options, events, recording))
    except KeyboardInterrupt:
        code = 130
    except LabError as error:
        click.echo(f"error: {error}", err=True)
        code = 1
    if recording.rows:
        summary = write(recording, options, events, out)
        click.echo(json.dumps(summary) if as_json else _told(summary))
    sys.exit(code)


async def _until_told(options: Options, events: list[Event], recording: Recording) -> int:
    """Record; TERM ends it as Ctrl-C does. Returns the exit code."""
    click.echo(f"starting {options.members} members; {len(events)} events in {options.seconds:g} s", err=True)
    task = asyncio.current_task()
    if task is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    last: list[Any] = [None]

    def say(row: Row, left: list[Event]) -> None:
        second, on = len(recording.rows), (row["label"], row["negative"])
        if second % EVERY == 0 or on != last[0]:
            click.echo(line(row, second, left), err=True)
        last[0] = on

    try:
        await record(options, events, recording, say)
    except asyncio.CancelledError:
        return 130
    return 0


def _schedule(seed: int, minutes: float, members: int, plan: Plan, only: str, gap: float) -> list[Event]:
    try:
        kinds = [kind.strip() for kind in only.split(",") if kind.strip()]
        return make_schedule(seed, 60 * minutes, members, plan=plan, only=kinds, gap=gap)
    except LabError as error:
        raise click.UsageError(str(error)) from error


def _told(summary: dict[str, Any]) -> str:
    return "\n".join(f"{name:<15} {value}" for name, value in summary.items())


if __name__ == "__main__":
    main(prog_name="python -m lab.etcd")

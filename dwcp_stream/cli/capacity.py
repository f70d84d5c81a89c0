"""`dwcp-stream capacity`: what a number of entities needs, from measured figures."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dwcp_stream.cli.common import emit, json_option, settings_option
from dwcp_stream.settings import Settings
from dwcp_stream.settings import shipped as shipped_file

if TYPE_CHECKING:
    from dwcp_stream.capacity import Plan

SHIPPED = Path("config/capacity.jsonl")


@click.command("capacity")
@click.option("--entities", type=click.IntRange(min=1), required=True, help="Number of entities.")
@click.option(
    "--step",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Seconds between two samples of an entity; else the stream's own step.",
)
@click.option("--stream", "name", default="consensus", show_default=True, help="Name of the stream.")
@click.option(
    "--load",
    type=click.FloatRange(min=0, min_open=True, max=1),
    default=0.5,
    show_default=True,
    help="Share of a core that a worker is to use; the rest is for peaks, and for catching up after a restart.",
)
@click.option(
    "--room",
    type=click.FloatRange(min=1),
    default=2.0,
    show_default=True,
    help="Partitions per worker: how many times the workers may grow later, as the number of partitions is fixed.",
)
@click.option(
    "--margin",
    type=click.FloatRange(min=1),
    default=1.3,
    show_default=True,
    help="Memory to provide per byte measured.",
)
@click.option(
    "--figures",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Lines that bench_growth.py and bench_scoring.py print with --json; else those shipped in config/.",
)
@settings_option
@json_option
def command(
    entities: int,
    step: float | None,
    name: str,
    load: float,
    room: float,
    margin: float,
    figures: Path | None,
    settings: Settings,
    as_json: bool,
) -> None:
    """Say how many partitions, workers and cores a stream needs, and how much memory and state it makes.

    The answer is as good as the figures: those that are shipped were measured on a small machine, where broker and
    worker shared two cores. Measure your own with the benchmarks, and give them by --figures. A worker has one core.

    \b
    Examples:
      dwcp-stream capacity --entities 1000000 --step 10
      dwcp-stream capacity --entities 20000 --stream link --json | jq .workers
    """
    from dwcp_stream.capacity import plan, read_figures
    from dwcp_stream.loading import find_stream

    stream = find_stream(settings, name)
    if step is None:
        if isinstance(stream.step, str):
            raise click.UsageError(f"The stream {name} has no step of its own: give --step SECONDS.")
        step = stream.step
    found = plan(
        read_figures(figures or shipped()),
        stream,
        entities=entities,
        step=step,
        load=load,
        room=room,
        margin=margin,
        checkpoint_interval=settings.checkpoint_interval,
    )
    emit(found, as_json, render)


def shipped() -> Path:
    """Return the file of figures that comes with the project: the current directory's, else beside the code."""
    return SHIPPED if SHIPPED.exists() else shipped_file(str(SHIPPED))


def render(plan: "Plan") -> Any:
    """Lay a plan out for people."""
    from rich.console import Group
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    rows = [
        ("load", f"{plan.samples_per_second:,.0f} samples/s, {megabytes(plan.telemetry_bytes_per_second)}/s of JSON"),
        ("partitions", f"{plan.partitions:,}"),
        ("workers", f"{plan.workers:,}"),
        ("cores", f"{plan.cores:,.1f} ({plan.cores_busy:,.1f} busy)"),
        ("memory", f"{megabytes(plan.memory_bytes)}, {megabytes(plan.memory_bytes_per_worker)} a worker"),
        ("changelog", f"{megabytes(plan.changelog_bytes_per_second)}/s, per replica"),
        ("state", f"{megabytes(plan.state_bytes)} once compacted, per replica"),
    ]
    for label, value in rows:
        table.add_row(label, value)
    given = plan.assumptions
    note = (
        f"Workers use {given['load']:.0%} of a core, {given['room']:g} partitions a worker, memory times"
        f" {given['margin']:g}, a checkpoint every {given['checkpoint_interval']:g} s. Figures {plan.provenance}."
    )
    head = f"{plan.stream}: {plan.entities:,} entities, a sample of each every {plan.step_seconds:g} s"
    return Group(head, "", table, "", note)


def megabytes(size: float) -> str:
    """Return bytes as MB or GB."""
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.1f} MB"

"""`dwcp-stream demo`: see it all work."""

import asyncio
import sys
from typing import Self

import click

from dwcp_stream.cli.common import emit, json_option, settings_option
from dwcp_stream.settings import Settings


@click.command("demo")
@click.option(
    "--seconds", default=60.0, show_default=True, type=click.FloatRange(5), help="How long telemetry is sent."
)
@settings_option
@json_option
def command(seconds: float, settings: Settings, as_json: bool) -> None:
    """See it all work: embedded broker, a worker per stream, a replayed fault, a live view, a summary.

    Replays a recorded run of an etcd cluster with faults, and the liveliest hours of simulated nodes and links, into an
    in-memory broker on loopback; three workers watch it. Nothing is left behind.

    \b
    dwcp-stream demo
    dwcp-stream demo --seconds 60 --json
    """
    from rich.console import Console
    from rich.live import Live

    from dwcp_stream.demo.session import run
    from dwcp_stream.demo.view import ending, render
    from dwcp_stream.demo.watch import Seen

    console = Console(file=sys.stderr if as_json else sys.stdout)
    interactive = console.is_terminal and not as_json

    def say(text: str) -> None:
        console.print(f"{text} ...")

    with Live(console=console, refresh_per_second=4, transient=False) if interactive else _Quiet() as live:

        def show(seen: Seen, elapsed: float) -> None:
            live.update(render(seen, elapsed, seconds))

        summary = asyncio.run(run(settings, seconds, show, say))
    emit(summary, as_json, ending)


class _Quiet:
    """Stands in for the live view when nobody watches: one line every ten seconds on stderr."""

    def __init__(self) -> None:
        self._calls = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        return None

    def update(self, _: object) -> None:
        """Say now and then that it goes on."""
        self._calls += 1
        if self._calls % 20 == 0:
            click.echo(f"... {self._calls // 2} s", err=True)

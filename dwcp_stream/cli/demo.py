"""`dwcp-stream demo`: see it all work."""

import asyncio
import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Self

import click

from dwcp_stream.cli.common import emit, json_option, settings_option
from dwcp_stream.settings import Settings

if TYPE_CHECKING:
    from rich.live import Live


@click.command("demo")
@click.option(
    "--seconds", default=60.0, show_default=True, type=click.FloatRange(5), help="How long telemetry is sent."
)
@click.option("--live", is_flag=True, help="Run a real etcd cluster here, publish its telemetry, inject faults by key.")
@click.option(
    "--inject",
    "plan",
    multiple=True,
    metavar="KIND@SECONDS",
    help="With --live: inject a fault so many seconds after the start, without a key; may be repeated.",
)
@settings_option
@json_option
def command(seconds: float, live: bool, plan: tuple[str, ...], settings: Settings, as_json: bool) -> None:
    """See it all work: embedded broker, a worker per stream, a replayed fault, a live view, a summary.

    Replays a recorded run of an etcd cluster with faults, and the liveliest hours of simulated nodes and links, into an
    in-memory broker on loopback; three workers watch it. Nothing is left behind.

    With --live the telemetry is that of an etcd cluster that runs on this machine (Debian package etcd-server), and the
    number keys inject a fault into it: the alert follows on screen. The first half minute fills the windows.

    \b
    dwcp-stream demo
    dwcp-stream demo --seconds 60 --json
    dwcp-stream demo --live --seconds 300
    dwcp-stream demo --live --seconds 90 --inject leader_lost@40 --json
    """
    from rich.console import Console
    from rich.live import Live

    from dwcp_stream.demo.keys import pressed
    from dwcp_stream.demo.live import Live as Injecting
    from dwcp_stream.demo.live import fault_kinds, run_live
    from dwcp_stream.demo.session import run
    from dwcp_stream.demo.view import ending, render
    from dwcp_stream.demo.watch import Seen

    if plan and not live:
        raise click.UsageError("--inject needs --live.")
    console = Console(file=sys.stderr if as_json else sys.stdout)
    interactive = console.is_terminal and not as_json
    kinds = fault_kinds() if live else ()
    planned = [_planned(text, kinds) for text in plan]

    def say(text: str) -> None:
        console.print(f"{text} ...")

    async def whole(view: "Live | _Quiet") -> Any:
        injecting = Injecting(kinds)

        def show(seen: Seen, elapsed: float) -> None:
            view.update(render(seen, elapsed, seconds, injecting.line() if live else ""))

        if not live:
            return await run(settings, seconds, show, say)
        with pressed(injecting.press) if interactive else nullcontext():
            return await run_live(settings, seconds, injecting, show, say, planned)

    with Live(console=console, refresh_per_second=4, transient=False) if interactive else _Quiet() as view:
        summary = asyncio.run(whole(view))
    emit(summary, as_json, ending)


def _planned(text: str, kinds: tuple[str, ...]) -> tuple[float, str]:
    kind, _, seconds = text.partition("@")
    if kind not in kinds or not seconds.replace(".", "", 1).isdigit():
        raise click.UsageError(f"--inject {text}: write KIND@SECONDS, with one of {', '.join(kinds)}.")
    return float(seconds), kind


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

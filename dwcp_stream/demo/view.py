"""The live view of the demo in a terminal."""

from collections import Counter
from typing import Any

from rich.console import Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from dwcp_stream.demo.watch import OUTCOMES, Seen


def render(seen: Seen, elapsed: float, seconds: float, line: str = "") -> Group:
    """Return what the terminal shows now; `line` is a line more."""
    samples = Table(expand=True, title=f"dwcp-stream demo, {elapsed:.0f} of about {seconds:.0f} s")
    samples.add_column("stream")
    for column in ("sent", *OUTCOMES):
        samples.add_column(column, justify="right")
    for name in sorted(seen.sent):
        counted = seen.accounted.get(name, Counter[str]())
        samples.add_row(name, f"{seen.sent[name]:,}", *(f"{counted.get(o, 0):,}" for o in OUTCOMES))
    latency = seen.summary()["latency_seconds"]
    p50 = "-" if latency["p50"] is None else f"{latency['p50'] * 1000:.0f} ms"
    p99 = "-" if latency["p99"] is None else f"{latency['p99'] * 1000:.0f} ms"
    numbers = (
        f"alerts {len(seen.alerts)}   predictions {seen.counts['predictions']:,}   "
        f"drift events {seen.counts['drift']}   accuracy {seen.counts['accuracy']}   "
        f"sample to alert p50 {p50}, p99 {p99}"
    )
    return Group(
        samples,
        Text(numbers),
        *([Text(line, style="bold")] if line else []),
        Panel(Text("\n".join(seen.recent) or "none yet"), title="alerts"),
        Panel(Text("\n".join([*seen.forecasts, *seen.drifts]) or "none yet"), title="forecasts and drift"),
    )


def ending(summary: dict[str, Any]) -> str:
    """Return the summary as text."""
    accounted, latency, alerts = summary["accounted"], summary["latency_seconds"], summary["alerts"]
    p50, p99 = latency["p50"], latency["p99"]
    lines = [
        f"{summary['samples_in']:,} samples in: " + ", ".join(f"{n:,} {word}" for word, n in accounted.items()),
        f"{len(alerts)} alert messages, {summary['predictions']:,} predictions, {summary['drift_events']} drift events",
    ]
    if p50 is not None:
        lines.append(f"from sample to alert: p50 {p50 * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms")
    for fault in summary.get("faults", ()):
        after = fault["first_alert_after_seconds"]
        told = "no alert after it" if after is None else f"an alert after {after:.1f} s"
        lines.append(f"{fault['kind']}: {told}" + (f" ({fault['error']})" if fault["error"] else ""))
    return "\n".join(lines)

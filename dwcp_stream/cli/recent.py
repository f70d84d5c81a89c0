"""What `dwcp-stream train --recent` does: collect, train again, publish what is acceptable."""

import asyncio
import re
import shlex
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

import click

from dwcp_stream.cli.common import advance_to, progress
from dwcp_stream.settings import Settings

if TYPE_CHECKING:
    from dwcp_stream.streams import StreamDefinition
    from dwcp_stream.streams.definition import ModelBinding

UNITS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


class Span(click.ParamType):
    """A length of time, such as 90m or 24h, in seconds."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the seconds."""
        if isinstance(value, float):
            return value
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", str(value))
        seconds = float(match[1]) * UNITS[match[2]] if match else 0.0
        if seconds <= 0:
            self.fail(f"{value!r} is no length of time: write a number and s, m, h or d, such as 24h", param, ctx)
        return seconds


def train_recent(
    settings: Settings,
    stream: "StreamDefinition",
    bindings: Sequence["ModelBinding"],
    seconds: float,
    source: Literal["kafka", "archive"],
    **given: Any,
) -> dict[str, Any]:
    """Train models of a stream on its telemetry of the last `seconds`; `given` as for `retrain`."""
    from dwcp_stream.history.retrain import retrain
    from dwcp_stream.kafka.history import training_data
    from dwcp_stream.loading import open_repository

    since = time.time() - seconds
    with progress(f"reading {stream.name}", total=1.0) as advance:
        report = advance_to(advance)
        table, alerts, feedback = asyncio.run(
            training_data(settings, stream, since, source, lambda read, total: report(read / max(total, 1)))
        )
    trained = []
    for binding in bindings:
        words = ["dwcp-stream", "train", stream.name, "--model", binding.name, "--seed", str(given.get("seed", 0))]
        words += ["--epochs", str(given["epochs"])] if given.get("epochs") else []
        command = shlex.join([*words, "--recent", f"{seconds:.15g}s", "--source", source])
        with progress(binding.name, total=1.0) as advance:
            found = retrain(
                settings, stream, binding, table, alerts, feedback,
                command=command, progress=advance_to(advance), **given,
            )  # fmt: skip
        folder = None if found.version is None else open_repository(settings).where(binding.name, found.version)
        trained.append({**found.plain(), "folder": folder})
    return {"stream": stream.name, "source": source, "since": since, "samples": len(table), "trained": trained}


def render_recent(result: dict[str, Any]) -> str:
    """Return the lines for a terminal."""
    lines = [f"{result['samples']} samples of {result['stream']} from {result['source']}"]
    for row in result["trained"]:
        if row["version"] is None:
            lines += [f"{row['model']}: nothing published", *(f"  {reason}" for reason in row["reasons"])]
            continue
        state = "champion" if row["champion"] else "not champion yet: run it as shadow, or move the alias"
        lines += [f"{row['model']} version {row['version']} ({state})", f"  report: {row['folder']}/report.md"]
        data = row["data"]
        lines.append(f"  {data['rows']} samples trained on, {data['left_out']} left out, {data['holdout']} held out")
    return "\n".join(lines)

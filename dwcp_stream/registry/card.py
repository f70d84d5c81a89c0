"""A model card: what a version is, what it was trained on, how good it is and at what, how large and how fast.

After M. Mitchell et al., "Model Cards for Model Reporting", FAT* 2019. Everything in it comes from the manifest, the
report, the graph, and, where it is written when the version is published, from the training files. What the card of an
older version cannot know it says.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import onnx

from dwcp_stream.registry import files
from dwcp_stream.registry.card_figures import Figure, figures, groups, misses
from dwcp_stream.registry.golden import read_golden
from dwcp_stream.registry.manifest import Manifest
from dwcp_stream.scoring.batching import padded
from dwcp_stream.scoring.session import make_session

ROUNDS, RUNS, WARM = 3, 200, 20
MOST_MS, MOST_BYTES = 5.0, 50_000_000
"""What a version should stay under: milliseconds a window on one thread, and bytes of the graph."""
LIMITS: Final = ("Where it loses", "What is not known", "Limits")
"""Sections of reports that say what a model cannot do."""
SHOWN: Final = 6
LITTLE: Final = 0.03
"""Share of the best other's distance from perfect that is hardly worth a model."""
AS_MEASURED: Final = "\n\nAs the trainer measured them; `dwcp-stream evaluate` gives intervals, on files of your own."
TASKS: Final = {
    "anomaly": "Says how unusual the newest row of a window is; it needs no labels to run. Over 1 is an alert.",
    "incident": "Says how much the newest row looks like an incident. Over 1 is an alert.",
    "forecast": "Says what is likely to come, as three quantiles, and how far the newest row is off its forecast.",
}


@dataclass(frozen=True)
class TrainingData:
    """What is known of the training files.

    Attributes
    ----------
    hashes
        SHA-256 by file name.
    rows, entities
        Samples in all files, and entities.
    first, last
        Earliest and latest time, epoch seconds; None without samples.
    """

    hashes: Mapping[str, str]
    rows: int
    entities: int
    first: float | None
    last: float | None


def write_card(manifest: Manifest, contents: Mapping[str, bytes], data: TrainingData | None, p99: float | None) -> str:
    """Write the card of a version as Markdown.

    Parameters
    ----------
    manifest
        Of the version; its number is not in the card, which is written before there is one.
    contents
        The version's files: `model.onnx`, `golden.npz`, perhaps `report.md`.
    data
        What is known of the training files; None if nothing more than the manifest says.
    p99
        Milliseconds, from `measure`; None: not measured.
    """
    report = contents.get("report.md", b"").decode("utf-8", "replace")
    found = figures(manifest.metrics)
    sections = {
        "What it is": _about(manifest),
        "Trained on": _trained(manifest, data),
        "How good it is": _table(
            ("judged on", "figure", "the model", "the simple rule", "best of the others", ""),
            [(f.where, f.name, f.own, f.rule, f.best, f.best_name) for f in found],
        )
        + AS_MEASURED
        if found
        else "No figures in the manifest.",
        "Good at": _good(found, manifest.metrics),
        "Bad at": _bad(found, manifest.metrics, report),
        "Size and speed": _size(manifest, contents, p99),
    }
    return "\n\n".join([f"# {manifest.name}", *(f"## {name}\n\n{text}" for name, text in sections.items())]) + "\n"


def measure(contents: Mapping[str, bytes]) -> float:
    """Time one window after another on one thread.

    Returns
    -------
    float
        99th percentile in milliseconds of the thread's own time, so that other work on the machine counts little; the
        least of three rounds.
    """
    session = make_session(contents[files.MODEL], where=files.MODEL)
    golden = read_golden(contents[files.GOLDEN], where=files.GOLDEN)
    feed = padded({each.name: golden[each.name][:1] for each in session.get_inputs()})
    found = []
    for _ in range(ROUNDS):
        seconds = []
        for _ in range(RUNS + WARM):
            begun = time.thread_time()
            session.run(None, feed)
            seconds.append(time.thread_time() - begun)
        found.append(float(np.percentile(seconds[WARM:], 99)) * 1e3)
    return min(found)


def count_parameters(model: bytes) -> tuple[int, bool]:
    """Count the numbers of a graph, and say whether those that are not whole are float32 all over."""
    graph = onnx.load_from_string(model).graph
    count, single = 0, True
    for tensor in graph.initializer:
        size = int(np.prod(tensor.dims, dtype=np.int64))
        count += size
        # a single number may be seconds, which are float64 like the times they are compared with
        single &= size == 1 or tensor.data_type not in {onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16}
    for node in graph.node:
        for attribute in node.attribute:  # trees are lists of numbers in an attribute
            count += len(attribute.floats)
    return count, single


def _about(manifest: Manifest) -> str:
    names = ", ".join(manifest.field_names)
    lines = [
        TASKS[manifest.task],
        f"It reads {manifest.window} rows of {len(manifest.fields)} fields of the stream {manifest.stream}: {names}.",
    ]
    if manifest.targets:
        horizons = ", ".join(map(str, manifest.horizons))
        lines.append(f"It forecasts {', '.join(manifest.targets)}, {horizons} rows ahead.")
    if manifest.kinds:
        lines.append(f"It tells these kinds of trouble apart: {', '.join(manifest.kinds)}.")
    if manifest.state_size:
        lines.append(f"It remembers {manifest.state_size} numbers of each entity from window to window.")
    lines.append(f"Critical from a score of {manifest.severity[1]:g}, emergency from {manifest.severity[2]:g}.")
    return "\n".join(f"- {line}" for line in lines)


def _trained(manifest: Manifest, data: TrainingData | None) -> str:
    lines = [
        f"- At {manifest.trained_at}, seed {manifest.seed}, by `{manifest.command}`.",
        f"- Licence of the data: {manifest.licence}.",
        f"- SHA-256 over the files' hashes: {manifest.data_sha256}.",
    ]
    if data is None:
        return "\n".join([*lines, "- Rows, entities and span are not recorded for this version."])
    span = "no samples"
    if data.first is not None and data.last is not None:
        span = f"{_day(data.first)} to {_day(data.last)} (UTC)"
    lines.append(f"- {data.rows} samples of {data.entities} entities, {span}; the report says how they were split.")
    table = _table(("file", "SHA-256"), list(data.hashes.items()))
    return "\n".join(lines) + (f"\n\n{table}" if table else "")


def _good(found: Sequence[Figure], metrics: Mapping[str, Any]) -> str:
    better = sorted((f for f in found if (f.gain or 0.0) > 0), key=lambda f: -(f.gain or 0.0))[:SHOWN]
    lines = [f"- {f.where}: {f.name} {_cell(f.own)}, beside {_cell(f.best)} of {f.best_name}." for f in better]
    lines += [f"- {g.where}: most of {g.best[0]} ({g.best[1]:.0%})." for g in groups(metrics)]
    return "\n".join(lines) or "Nothing that a simpler way does not do as well on these data."


def _bad(found: Sequence[Figure], metrics: Mapping[str, Any], report: str) -> str:
    worse = sorted((f for f in found if f.gain is not None and f.gain <= 0), key=lambda f: f.gain or 0.0)
    lines = [
        f"- {f.where}: {f.name} {_cell(f.own)} is no better than {_cell(f.best)} of {f.best_name}."
        for f in worse[:SHOWN]
    ]
    hardly = sorted((f for f in found if f.gain is not None and 0 < f.gain < LITTLE), key=lambda f: f.gain or 0.0)
    lines += [f"- {f.where}: {f.name} hardly better than {f.best_name} ({f.gain:.1%})." for f in hardly[:SHOWN]]
    lines += [f"- {len(worse) - SHOWN} more figures are no better than those of simpler ways."] * (len(worse) > SHOWN)
    lines += [f"- {g.where}: least of {g.worst[0]} ({g.worst[1]:.0%})." for g in groups(metrics)]
    lines += [f"- {text}" for text in misses(metrics)[:SHOWN]]
    said = [text for heading in LIMITS if (text := _section(report, heading))]
    return "\n\n".join(["\n".join(lines) or "No figure is below that of a simpler way.", *said])


def _size(manifest: Manifest, contents: Mapping[str, bytes], p99: float | None) -> str:
    size = len(contents[files.MODEL])
    count, single = count_parameters(contents[files.MODEL])
    speed = "not measured"
    if p99 is not None:
        speed = f"{p99:.2f} ms, {'under' if p99 < MOST_MS else 'NOT under'} {MOST_MS:g} ms"
    lines = [
        f"`model.onnx`: {size / 1e3:.0f} kB, {'under' if size < MOST_BYTES else 'NOT under'} {MOST_BYTES // 10**6} MB.",
        f"{count} numbers in the graph, {'float32' if single else 'NOT all of them float32'}.",
        f"Time of one thread for a window, 99th percentile, where it was measured: {speed}.",
    ]
    if manifest.state_size:
        lines.append(f"State of an entity: {4 * manifest.state_size} bytes.")
    return "\n".join(f"- {line}" for line in lines)


def _section(report: str, heading: str) -> str:
    """Text of a section of a report, empty if it has none."""
    parts = report.split(f"\n## {heading}\n", 1)
    return parts[1].split("\n## ", 1)[0].strip() if len(parts) == 2 else ""


def _table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    if not rows:
        return ""
    lines = [header, ["---"] * len(header), *([_cell(value) for value in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _day(ts: float) -> str:
    return datetime.fromtimestamp(ts, UTC).strftime("%Y-%m-%d %H:%M")

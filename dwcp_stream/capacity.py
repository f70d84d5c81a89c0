"""How many partitions, workers, cores and bytes a stream needs, worked out from measured figures.

The figures are what `benchmarks/bench_growth.py` and `benchmarks/bench_scoring.py` print with `--json`, one object per
line. Those that are shipped say on which machine and when they were measured; one's own are better.
"""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from dwcp_stream.errors import ConfigError
from dwcp_stream.streams import StreamDefinition

LOAD = 0.5
"""Share of a core that a worker is planned to use: room for peaks, and to catch up after a restart."""

ROOM = 2.0
"""Partitions per worker: the number of partitions is fixed, so it is how many times the workers may double."""

MARGIN = 1.3
"""Memory planned per byte measured, since entities do not spread evenly and allocators keep some."""

FILL = 0.8
"""Share of `max_entities` that a partition is planned to hold on average, as keys do not spread evenly."""


class Case(msgspec.Struct, frozen=True):
    """What one number of entities cost a worker: microseconds of processor time, and bytes."""

    entities: int
    cpu_us_per_sample: float
    cpu_us_per_sample_with_model: float
    cpu_us_per_snapshot: float
    changelog_bytes_per_snapshot: float
    sample_bytes: float
    rows: float
    peak_bytes_per_entity: float | None = None


class Idle(msgspec.Struct, frozen=True):
    """A worker that has read nothing."""

    resident_bytes: float


class Growth(msgspec.Struct, frozen=True):
    """What `bench_growth.py` found of one stream, cases by rising number of entities."""

    stream: str
    window: int
    fields: int
    idle: Idle
    cases: tuple[Case, ...]
    machine: Mapping[str, Any]
    measured_at: str = "unknown"


class Figures(msgspec.Struct, frozen=True):
    """All measured figures that a plan needs.

    Attributes
    ----------
    growth
        Costs of samples and entities.
    model_us
        Microseconds per window by model, the pipeline included.
    """

    growth: Growth
    model_us: Mapping[str, float]

    @property
    def provenance(self) -> str:
        """Where the figures are from, in a clause."""
        machine = self.growth.machine
        return f"measured {self.growth.measured_at} on {machine.get('cores')} cores, Python {machine.get('python')}"


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to provide. Bytes and seconds; `assumptions` and `provenance` say what it rests on."""

    stream: str
    entities: int
    step_seconds: float
    samples_per_second: float
    workers: int
    partitions: int
    cores: float
    cores_busy: float
    memory_bytes: float
    memory_bytes_per_worker: float
    telemetry_bytes_per_second: float
    changelog_bytes_per_second: float
    state_bytes: float
    assumptions: dict[str, float]
    provenance: str


def read_figures(path: Path) -> Figures:
    """Read the JSON lines that the benchmarks printed; the last of a kind counts, other benchmarks are passed over.

    Raises
    ------
    ConfigError
        A line is no such object, or no line is of the benchmark `growth`.
    """
    growth: Growth | None = None
    model_us: dict[str, float] = {}
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        if not line.strip():
            continue
        try:
            found = msgspec.json.decode(line, type=dict[str, Any])
            if found.get("benchmark") == "growth":
                growth = msgspec.convert(found, Growth)
            elif found.get("benchmark") == "scoring":
                model_us |= {m["model"]: 1e6 / m["pipeline"]["windows_per_second"] for m in found["models"]}
        except (msgspec.MsgspecError, KeyError, TypeError, ZeroDivisionError) as error:
            raise ConfigError(
                f"is not what a benchmark prints: {error}",
                where=f"{path}, line {number}",
                remedy="Write it with `python benchmarks/bench_growth.py --json`",
            ) from error
    if growth is None or not growth.cases:
        raise ConfigError(
            "has no figures of the benchmark growth",
            where=str(path),
            remedy="Add the line that `python benchmarks/bench_growth.py --json` prints",
        )
    return Figures(growth, model_us)


def plan(
    figures: Figures,
    stream: StreamDefinition,
    *,
    entities: int,
    step: float,
    load: float = LOAD,
    room: float = ROOM,
    margin: float = MARGIN,
    checkpoint_interval: float = 5.0,
) -> Plan:
    """Return what a stream of so many entities needs.

    Processor time: samples cost what they cost the measured worker with the most entities; a snapshot of every entity
    is written once per checkpoint, or per sample if those are rarer. A worker is one process and has one core, of which
    `load` is planned. Memory and snapshots of another stream than the measured one are scaled by rows times fields of
    the window, and its models cost what the scoring benchmark found for their whole pipeline, on top of the worker
    without a model (so decoding is counted twice).

    Parameters
    ----------
    entities, step
        Entities, and seconds between two samples of each.
    load, room, margin
        See `LOAD`, `ROOM` and `MARGIN`.
    checkpoint_interval
        Seconds between checkpoints, as in the settings.

    Raises
    ------
    ConfigError
        A model of the stream has not been measured.
    """
    growth, most = figures.growth, figures.growth.cases[-1]
    scale = stream.window * len(stream.fields) / (growth.window * growth.fields)
    rate = entities / step
    snapshots = entities / max(step, checkpoint_interval)
    snapshot_bytes = scale * full_snapshot_bytes(growth)
    busy = (rate * sample_us(figures, stream) + snapshots * most.cpu_us_per_snapshot * scale) / 1e6
    workers = max(1, math.ceil(busy / load))
    partitions = max(math.ceil(workers * room), math.ceil(entities / (FILL * stream.max_entities)))
    memory = margin * (workers * growth.idle.resident_bytes + entities * scale * (most.peak_bytes_per_entity or 0.0))
    return Plan(
        stream=stream.name,
        entities=entities,
        step_seconds=step,
        samples_per_second=rate,
        workers=workers,
        partitions=partitions,
        cores=busy / load,
        cores_busy=busy,
        memory_bytes=memory,
        memory_bytes_per_worker=memory / workers,
        telemetry_bytes_per_second=rate * most.sample_bytes,
        changelog_bytes_per_second=snapshots * snapshot_bytes,
        state_bytes=entities * snapshot_bytes,
        assumptions={
            "load": load, "room": room, "margin": margin, "fill": FILL, "checkpoint_interval": checkpoint_interval,
        },
        provenance=figures.provenance,
    )  # fmt: skip


def full_snapshot_bytes(growth: Growth) -> float:
    """Bytes of an entity's snapshot in the changelog: of full windows if any case had them, else of the fullest."""
    full = [case for case in growth.cases if case.rows >= growth.window]
    # a batch of few entities compresses less well than real ones do, so of those with full windows the largest counts
    case = full[-1] if full else max(growth.cases, key=lambda one: one.rows)
    return case.changelog_bytes_per_snapshot


def sample_us(figures: Figures, stream: StreamDefinition) -> float:
    """Microseconds of processor time per sample of a stream, its models included."""
    most = figures.growth.cases[-1]
    if not stream.models:
        return most.cpu_us_per_sample
    if stream.name == figures.growth.stream:
        return most.cpu_us_per_sample_with_model
    return most.cpu_us_per_sample + sum(_costs(figures, [m.name for m in stream.models])) / stream.stride


def _costs(figures: Figures, models: Iterable[str]) -> list[float]:
    found = []
    for name in models:
        if name not in figures.model_us:
            raise ConfigError(
                "has not been measured",
                where=f"model {name}",
                remedy="Add the line that `python benchmarks/bench_scoring.py --json` prints to your --figures",
            )
        found.append(figures.model_us[name])
    return found

"""Alerts, feedback and small histories for the tests of what a trainer trains on."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from dwcp_stream.alerts.identity import fingerprint
from dwcp_stream.events import Alert, rfc3339
from dwcp_stream.realised import Feedback
from dwcp_stream.settings import Settings
from dwcp_stream.streams import Field, ModelBinding, StreamDefinition, load_stream
from tests.unit.forecast_cases import daily, field, table, times, write_stream

FORECAST = 'name = "sites-any"\ntask = "forecast"\ntargets = ["load"]\nhorizons = [1, 4]'
ANOMALY = 'name = "sites-odd"\ntask = "anomaly"'
INCIDENT = 'name = "sites-bad"\ntask = "incident"'


def small_stream(**changes: Any) -> StreamDefinition:
    """A stream of one field, a sample a second, windows of five."""
    usual: dict[str, Any] = {
        "name": "demo", "topic": "demo", "entity": ("id",), "step": 1.0, "window": 5, "fields": (Field(name="load"),),
    }  # fmt: skip
    return StreamDefinition(**{**usual, **changes})


def binding(task: Any = "anomaly", **values: Any) -> ModelBinding:
    return ModelBinding(**{"name": f"demo-{task}", "task": task, **values})


def alert(
    entity: str,
    starts: float,
    ends: float | None = None,
    *,
    stream: str = "demo",
    model: str = "m",
    kind: str | None = None,
) -> Alert:
    """A firing alert, or the message that it is resolved."""
    more = {} if ends is None else {"ends_at": rfc3339(ends)}
    return Alert(
        labels={}, annotations={}, starts_at=rfc3339(starts), fingerprint=fingerprint("a", stream, entity, model),
        action="firing" if ends is None else "resolved", reason="score", severity="warning", score=2.0, kind=kind,
        state="scored", fields=[], stream=stream, entity=entity, model=model, model_version=1,
        event_time=rfc3339(starts if ends is None else ends), **more,
    )  # fmt: skip


def judged(verdict: Any, about: Alert, second: int = 0) -> Feedback:
    """What somebody said of an alert."""
    return Feedback(
        verdict=verdict, stream=about.stream, entity=about.entity, model=about.model, fingerprint=about.fingerprint,
        starts_at=datetime.fromisoformat(about.starts_at), said_at=datetime(2026, 1, 1, second=second, tzinfo=UTC),
    )  # fmt: skip


def missed(entity: str, starts: float, *, stream: str = "demo") -> Feedback:
    """What somebody said of trouble that no alert told of."""
    return Feedback(
        verdict="missed", stream=stream, entity=entity, starts_at=datetime.fromtimestamp(starts, UTC),
        said_at=datetime(2026, 1, 1, tzinfo=UTC),
    )  # fmt: skip


def sites(folder: Path, model: str) -> tuple[Settings, StreamDefinition]:
    """Settings and definition of the stream `sites`: an hour a step, windows of 24."""
    write_stream(folder / "streams", field("load", min=0) + field("other"), model)
    settings = Settings(models_dir=folder / "models", streams_dir=folder / "streams")
    return settings, load_stream(folder / "streams" / "sites.toml")


def history(days: int, seed: int = 0, entities: int = 3) -> pl.DataFrame:
    """Sites whose days repeat themselves, in order of time."""
    rng = np.random.default_rng(seed)
    parts = []
    for i in range(entities):
        load = daily(days, 10 * seed + i, level=100.0 * (i + 1))
        parts.append(
            table({"site": [f"s{i}"] * len(load), "load": load, "other": rng.normal(size=len(load))}, times(len(load)))
        )
    return pl.concat(parts).sort("ts", "site")

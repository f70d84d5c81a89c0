"""`dwcp-stream explain`: why an alert was raised, from the records themselves."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dwcp_stream.cli.common import advance_to, emit, json_option, progress, settings_option
from dwcp_stream.settings import Settings

if TYPE_CHECKING:
    from dwcp_stream.explanation import Explanation
    from dwcp_stream.streams import StreamDefinition

TIME = click.DateTime(["%Y-%m-%dT%H:%M:%S.%fZ", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%MZ"])
ROWS = 6
"""Rows of the window shown without --json."""
FIELDS = 8


@click.command(
    "explain",
    epilog="""\b
Examples:
  dwcp-stream explain 4f2a
  dwcp-stream explain 4f2a --plot why.png
  dwcp-stream explain 4f2a --json | jq '.reproduced, .changes[0]'
  dwcp-stream explain --stream node --data nodes.parquet --entity eu-1/n3 --at 2026-11-20T04:10Z
""",
)
@click.argument("alert_id", required=False)
@click.option("--stream", "stream_name", metavar="NAME", help="With --data: the stream the file is of.")
@click.option(
    "--data", type=click.Path(path_type=Path), multiple=True, help="A file instead of Kafka; may be repeated."
)
@click.option("--entity", metavar="NAME", help="With --data: the entity.")
@click.option("--at", type=TIME, help="With --data: the last verdict up to this time (UTC).")
@click.option(
    "--model", "model_name", metavar="NAME", help="With --data: the model; default: the one with the highest score."
)
@click.option(
    "--plot", type=click.Path(path_type=Path, dir_okay=False), help="Write the picture: FILE.png or FILE.svg."
)
@settings_option
@json_option
def command(
    alert_id: str | None,
    stream_name: str | None,
    data: tuple[Path, ...],
    entity: str | None,
    at: datetime | None,
    model_name: str | None,
    plot: Path | None,
    settings: Settings,
    *,
    as_json: bool,
) -> None:
    """Say why the alert ALERT_ID was raised: a fingerprint or a ce_id, or the beginning of one.

    Finds the alert on `dwcp.anomalies` and its telemetry in the stream's topic, runs the records through the pipeline
    again with the version that gave the score, and compares the two scores bit for bit. Shows the window, what was
    expected, how much each field contributed, and for each field the smallest change that would have kept the score
    below the threshold, found by scoring the changed window. A picture needs matplotlib (pip install
    'dwcp-stream[train]').
    """
    from dwcp_stream.loading import find_stream

    if (alert_id is None) == (not data):
        raise click.UsageError("Give ALERT_ID, or --data FILE with --stream, --entity and --at.")
    if alert_id is not None:
        stream, found, about = _from_kafka(settings, alert_id)
    else:
        if stream_name is None or entity is None or at is None:
            raise click.UsageError("--data needs --stream, --entity and --at.")
        stream = find_stream(settings, stream_name)
        found, about = _from_files(settings, stream, data, entity, at.replace(tzinfo=UTC).timestamp(), model_name), {}
    if plot is not None:
        from dwcp_stream.explanation.picture import save

        save(found, stream, plot)
    emit({**found.plain(), **about, "plot": None if plot is None else str(plot)}, as_json, _render)


def _from_kafka(settings: Settings, alert_id: str) -> "tuple[StreamDefinition, Explanation, dict[str, Any]]":
    from dwcp_stream.errors import PayloadError
    from dwcp_stream.events import rfc3339
    from dwcp_stream.explanation import explain
    from dwcp_stream.kafka.rerun import find_alert, rerun
    from dwcp_stream.loading import BoundModels, find_stream

    alert = asyncio.run(find_alert(settings, alert_id))
    stream = find_stream(settings, alert.stream)
    if alert.score is None:
        raise PayloadError(
            f"this message has no score: it is {alert.action}, {alert.reason}",
            where=f"{settings.topics.prefix}anomalies {alert_id}",
            remedy=f"Explain the alert itself: dwcp-stream explain {alert.fingerprint}",
        )
    model = BoundModels(settings, stream).load(alert.model, alert.model_version)
    at = datetime.fromisoformat(alert.event_time).timestamp()
    with progress(f"reading {stream.name}", total=1.0) as advance:
        report = advance_to(advance)
        run = asyncio.run(
            rerun(settings, stream, model, alert.entity, at, alert.score, lambda n, all_: report(n / max(all_, 1)))
        )
    if run is None:
        raise PayloadError(
            f"no window of {alert.entity} that ends at {alert.event_time} could be made again",
            where=stream.topic,
            remedy="Its telemetry is probably gone from the topic; try `explain --data` on the archive's files",
        )
    told = {
        "alert": {
            "fingerprint": alert.fingerprint,
            "action": alert.action,
            "severity": alert.severity,
            "kind": alert.kind,
        },
        "read": {"records": run.records, "since": rfc3339(run.since_ms / 1000), "whole_topic": run.whole},
    }
    return stream, explain(model, stream, alert.entity, run.seen, told=alert.score, trail=run.trail), told


def _from_files(
    settings: Settings, stream: "StreamDefinition", files: tuple[Path, ...], entity: str, at: float, name: str | None
) -> "Explanation":
    from dwcp_stream.backtest import backtest, read_records
    from dwcp_stream.errors import PayloadError
    from dwcp_stream.explanation import Witness, explain
    from dwcp_stream.loading import bound_models
    from dwcp_stream.pipeline import Pipeline

    models = [model for model in bound_models(settings, stream) if name in (None, model.name)]
    if not models:
        raise click.BadParameter(f"{name!r} is no model of the stream {stream.name}", param_hint="--model")
    witnesses = {model.name: Witness(entity, model.name, at, nearest=True) for model in models}

    def show(model: Any, *seen: Any) -> None:
        witnesses[model.name](model, *seen)

    pipeline = Pipeline(stream, models, default_entity=entity, check_ahead=False, witness=show)
    with progress(f"running {stream.name}") as advance:
        for result in backtest(pipeline, read_records(files, stream, entity)):
            advance(int(result.counts.sum()))
    found = [(m, seen, witnesses[m.name].trail) for m in models if (seen := witnesses[m.name].found) is not None]
    if not found:
        raise PayloadError(
            f"no window of {entity} was scored up to {datetime.fromtimestamp(at, UTC).isoformat()}",
            where=", ".join(map(str, files)),
            remedy="Check --entity and --at; a window needs min_periods rows",
        )
    model, seen, trail = max(found, key=lambda made: float(made[1].score))
    return explain(model, stream, entity, seen, trail=list(trail))


def _render(result: dict[str, Any]) -> str:
    made = result["reproduced"]
    lines = [
        f"{result['model']} version {result['version']} on {result['stream']} {result['entity']}, {result['at']}",
        f"score {result['score']:.6g} (threshold {result['threshold']:g}){_compared(made)}",
    ]
    if read := result.get("read"):
        lines.append(f"{read['records']} records read, since {read['since']}")
    lines += ["", f"{'field':<24}{'last rows':<{11 * ROWS}}{'expected':>11}{'contributes':>13}"]
    weights = result["contribution"]
    order = sorted(result["window"], key=lambda name: -weights.get(name, 0.0))
    for name in order[:FIELDS]:
        cells = "".join(f"{_text(value):>11}" for value in result["window"][name][-ROWS:])
        weight = f"{weights[name]:13.3g}" if name in weights else f"{'':>13}"
        lines.append(f"{name:<24}{cells:>{11 * ROWS}}{_text(result['expected'].get(name), ''):>11}{weight}")
    return "\n".join([*lines, "", *_changes(result)])


def _compared(made: dict[str, Any]) -> str:
    if made["exact"] is None:
        return ""
    return ", the alert's bit for bit" if made["exact"] else f"; the alert says {made['alert_score']:.9g}"


def _changes(result: dict[str, Any]) -> list[str]:
    if result["score"] < result["threshold"]:
        return ["the score is below the threshold"]
    enough = [change for change in result["changes"] if change["enough"]]
    lines = [
        f"below the threshold with {c['field']} at {_text(c['needed'])} instead of {_text(c['value'])}"
        + (f" (the last {c['rows']} rows moved as far)" if c["rows"] > 1 else "")
        + f": score {c['score']:.3g}"
        for c in enough[:FIELDS]
    ]
    if not enough and result["together"]:
        return [f"no field alone; together: {', '.join(result['together'])}"]
    return lines or ["no field, and not all of them at their usual values, brings the score below the threshold"]


def _text(value: float | str | None, missing: str = "missing") -> str:
    return missing if value is None else value if isinstance(value, str) else f"{value:.4g}"

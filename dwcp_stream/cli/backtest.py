"""`dwcp-stream backtest`: run files through a stream's pipeline without Kafka."""

from pathlib import Path
from typing import Any

import click
import msgspec
import numpy as np

from dwcp_stream.cli.common import emit, entity_option, json_option, progress, settings_option
from dwcp_stream.settings import Settings
from dwcp_stream.windows import Outcome

HEAD = 20
"""Alerts shown without --json."""


@click.command("backtest")
@click.argument("targets", nargs=-1)
@click.option("--stream", "stream_name", metavar="NAME", help="The stream the files are of.")
@click.option("--data", "data", multiple=True, type=click.Path(path_type=Path), help="A file; may be repeated.")
@entity_option
@click.option("--models", "models_dir", metavar="DIR", help="Model repository, a folder or a URL.")
@click.option(
    "--scores",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a row per verdict (CSV or Parquet).",
)
@click.option("--partitions", default=4, show_default=True, help="Partitions the stream's topic would have.")
@settings_option
@json_option
def command(
    targets: tuple[str, ...],
    stream_name: str | None,
    data: tuple[Path, ...],
    entity: str | None,
    models_dir: str | None,
    scores: Path | None,
    partitions: int,
    settings: Settings,
    as_json: bool,
) -> None:
    """Run files through a stream's pipeline without Kafka: the same alerts, with the same ids.

    TARGETS are the files, with --stream; or the stream's name, with --data. Files are CSV or Parquet (also .gz): a
    column per field, `ts`, and the entity's columns; a file of one entity may lack those, see --entity.

    The file of --scores has a row per verdict: entity, ts, model, version, score (1 is the threshold), state (firing
    or ok), the probability of an incident, and for forecasts a column per target, steps ahead and quantile, such as
    latency_ms_h12_q10, latency_ms_h12_q50 and latency_ms_h12_q90. They are made at ts, for so many steps later.

    \b
    dwcp-stream backtest consensus --data run.csv.gz --entity lab
    dwcp-stream backtest run.csv --stream consensus --scores verdicts.csv --json
    """
    from dwcp_stream.backtest import backtest, published, read_records
    from dwcp_stream.loading import bound_models, find_stream
    from dwcp_stream.pipeline import Pipeline
    from dwcp_stream.verdict_table import VerdictTable

    name, files = _targets(targets, stream_name, data)
    stream = find_stream(settings, name)
    if models_dir is not None:
        settings = settings.model_copy(update={"models_dir": models_dir})
    table = VerdictTable() if scores else None
    pipeline = Pipeline(
        stream,
        bound_models(settings, stream),
        default_entity=entity,
        check_ahead=False,
        buffer_cap=settings.buffer_cap,
        recorder=table,
    )
    counts, alerts = np.zeros(5, np.int64), []
    rejected: dict[str, int] = {}
    with progress(f"backtest {name}") as advance:
        for result in backtest(pipeline, read_records(files, stream, entity), partitions=partitions):
            counts += result.counts
            for error_type, number in result.rejected.items():
                rejected[error_type] = rejected.get(error_type, 0) + number
            alerts += [published(message) for message in result.outputs if message.topic == "anomalies"]
            advance(int(result.counts.sum()))
    if table is not None and scores is not None:
        table.write(scores)
    report = {
        "stream": name,
        "files": [str(f) for f in files],
        "samples_in": int(counts.sum()),
        "accounted": {o.word: int(counts[o]) for o in Outcome if o < len(counts)},
        "rejected": rejected,
        "models": {m.name: m.version for m in pipeline.models},
        "alerts": alerts,
        "scores": str(scores) if scores else None,
    }
    emit(msgspec.to_builtins(report), as_json, _render)


def _targets(targets: tuple[str, ...], stream: str | None, data: tuple[Path, ...]) -> tuple[str, list[Path]]:
    if stream is not None:
        files = [*map(Path, targets), *data]
    elif len(targets) == 1 and data:
        stream, files = targets[0], list(data)
    else:
        raise click.UsageError("Give FILES with --stream NAME, or the stream's NAME with --data FILE.")
    if not files:
        raise click.UsageError("Give at least one file.")
    return stream, files


def _render(report: dict[str, Any]) -> str:
    accounted, alerts = report["accounted"], report["alerts"]
    lines = [f"{report['samples_in']} samples of {report['stream']}: "]
    lines[0] += ", ".join(f"{number} {word}" for word, number in accounted.items())
    lines.append(f"{len(alerts)} alert messages")
    lines += [
        f"  {a['event_time']}  {a['action']:<9} {a['severity']:<9} {a['entity']}  {a['annotations'].get('summary', '')}"
        for a in alerts[:HEAD]
    ]
    if len(alerts) > HEAD:
        lines.append(f"  ... {len(alerts) - HEAD} more; --json shows all")
    return "\n".join(lines)

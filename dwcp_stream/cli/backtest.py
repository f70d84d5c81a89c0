"""`dwcp-stream backtest`: run history through a stream's pipeline, also with another policy or another model."""

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click
import msgspec
import numpy as np

from dwcp_stream.cli.common import emit, entity_option, json_option, progress, settings_option
from dwcp_stream.cli.recent import Span
from dwcp_stream.settings import Settings
from dwcp_stream.windows import Outcome

if TYPE_CHECKING:
    from dwcp_stream.backtest import Record
    from dwcp_stream.pipeline import Pipeline
    from dwcp_stream.scoring import Model
    from dwcp_stream.streams import StreamDefinition

HEAD = 20
"""Alerts shown without --json."""
CHANGES = {"appears": "+", "vanishes": "-", "severity": "~"}
Records = Callable[[], "Iterator[Record]"]


@click.command(
    "backtest",
    epilog="""\b
Examples:
  dwcp-stream backtest consensus --data run.csv.gz --entity lab
  dwcp-stream backtest run.csv --stream consensus --scores verdicts.csv --json
  dwcp-stream backtest node --since 7d --policy new.toml --diff
  dwcp-stream backtest node --since 7d --source archive --model node-gbt:5 --diff --json | jq .diff.counts
""",
)
@click.argument("targets", nargs=-1)
@click.option("--stream", "stream_name", metavar="NAME", help="The stream the files are of.")
@click.option("--data", "data", multiple=True, type=click.Path(path_type=Path), help="A file; may be repeated.")
@click.option(
    "--since", type=Span(), metavar="TIME", help="Instead of files: the stream's telemetry of the last 7d or 12h."
)
@click.option(
    "--source",
    type=click.Choice(["kafka", "archive"]),
    default="kafka",
    show_default=True,
    help="With --since: from the stream's topic, or from what `archive` wrote.",
)
@entity_option
@click.option("--models", "models_dir", metavar="DIR", help="Model repository, a folder or a URL.")
@click.option("--policy", type=click.Path(path_type=Path, dir_okay=False), help="TOML with another [alert] table.")
@click.option("--model", "versions", multiple=True, metavar="NAME:VERSION", help="Another version; may be repeated.")
@click.option("--diff", "with_diff", is_flag=True, help="Compare with what serves now: its policy and its champions.")
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
    since: float | None,
    source: Literal["kafka", "archive"],
    entity: str | None,
    models_dir: str | None,
    policy: Path | None,
    versions: tuple[str, ...],
    with_diff: bool,
    scores: Path | None,
    partitions: int,
    settings: Settings,
    as_json: bool,
) -> None:
    """Run history through a stream's pipeline: the same alerts, with the same ids.

    TARGETS are the files, with --stream; or the stream's name, with --data or --since. Files are CSV or Parquet (also
    .gz):
    a column per field, `ts`, and the entity's columns; a file of one entity may lack those, see --entity.

    --policy and --model try what is not deployed. With --diff the history runs twice, and what appears (+), vanishes
    (-) or
    changes its severity (~) is said. Telemetry of --since is taken in order of time, each entity and time once.

    The file of --scores has a row per verdict: entity, ts, model, version, score (1 is the threshold), state (firing
    or ok), the probability of an incident, and for forecasts a column per target, steps ahead and quantile, such as
    latency_ms_h12_q10, latency_ms_h12_q50 and latency_ms_h12_q90. They are made at ts, for so many steps later.
    """
    from dwcp_stream.alerts.diff import diff, raised
    from dwcp_stream.events import Alert
    from dwcp_stream.loading import BoundModels, find_stream
    from dwcp_stream.pipeline import Pipeline
    from dwcp_stream.streams.policies import with_policy
    from dwcp_stream.verdict_table import VerdictTable

    name, files = _targets(targets, stream_name, data, since)
    stream = find_stream(settings, name)
    changed = stream if policy is None else with_policy(stream, policy)
    if models_dir is not None:
        settings = settings.model_copy(update={"models_dir": models_dir})
    bound = BoundModels(settings, stream)
    champions = bound.first()
    models = [_chosen(model, bound, versions) for model in champions]
    _check_names(versions, models)
    records = _files(files, stream, entity) if since is None else _history(settings, stream, since, source)
    table = VerdictTable() if scores else None

    def run(definition: "StreamDefinition", serving: "list[Model]", recorder: VerdictTable | None) -> dict[str, Any]:
        pipeline = Pipeline(
            definition,
            serving,
            default_entity=entity,
            check_ahead=False,
            buffer_cap=settings.buffer_cap,
            recorder=recorder,
        )
        return _run(pipeline, records, partitions)

    report = run(changed, models, table)
    if table is not None and scores is not None:
        table.write(scores)
    if with_diff:
        now = run(stream, champions, None)
        before, after = (raised(msgspec.convert(r["alerts"], list[Alert])) for r in (now, report))
        report["diff"] = {"models": now["models"], **diff(before, after).plain()}
    report |= {"files": [str(f) for f in files], "since": since, "scores": str(scores) if scores else None}
    emit(msgspec.to_builtins(report), as_json, _render)


def _run(pipeline: "Pipeline", records: Records, partitions: int) -> dict[str, Any]:
    from dwcp_stream.backtest import backtest, published

    counts, alerts = np.zeros(5, np.int64), []
    rejected: dict[str, int] = {}
    with progress(f"backtest {pipeline.stream.name}") as advance:
        for result in backtest(pipeline, records(), partitions=partitions):
            counts += result.counts
            for error_type, number in result.rejected.items():
                rejected[error_type] = rejected.get(error_type, 0) + number
            alerts += [published(message) for message in result.outputs if message.topic == "anomalies"]
            advance(int(result.counts.sum()))
    return {
        "stream": pipeline.stream.name,
        "samples_in": int(counts.sum()),
        "accounted": {o.word: int(counts[o]) for o in Outcome if o < len(counts)},
        "rejected": rejected,
        "models": {m.name: m.version for m in pipeline.models},
        "policy": msgspec.to_builtins(pipeline.stream.alert),
        "alerts": alerts,
    }


def _files(files: list[Path], stream: "StreamDefinition", entity: str | None) -> Records:
    from dwcp_stream.backtest import read_records

    return lambda: read_records(files, stream, entity)


def _history(
    settings: Settings, stream: "StreamDefinition", seconds: float, source: Literal["kafka", "archive"]
) -> Records:
    from dwcp_stream.cli.common import advance_to
    from dwcp_stream.history.archive import read_archive
    from dwcp_stream.kafka.history import recent_telemetry
    from dwcp_stream.streams.files import rows_to_records

    begin = time.time() - seconds
    if source == "archive":
        table = read_archive(settings.archive.dir, stream, begin)
    else:
        with progress(f"reading {stream.name}", total=1.0) as advance:
            report = advance_to(advance)
            table = asyncio.run(
                recent_telemetry(settings, stream, begin, lambda read, total: report(read / max(total, 1)))
            )
    return lambda: rows_to_records(table, stream)


def _chosen(model: "Model", bound: Any, versions: tuple[str, ...]) -> "Model":
    """Return the version of a model that was asked for, or the champion."""
    for text in versions:
        name, _, number = text.rpartition(":")
        if name == model.name and number.isascii() and number.isdigit():
            chosen: Model = bound.load(name, int(number))
            return chosen
    return model


def _check_names(versions: tuple[str, ...], models: "list[Model]") -> None:
    for text in versions:
        if text not in {f"{model.name}:{model.version}" for model in models}:
            known = ", ".join(model.name for model in models)
            raise click.BadParameter(f"{text!r} is not NAME:VERSION of one of: {known}", param_hint="--model")


def _targets(
    targets: tuple[str, ...], stream: str | None, data: tuple[Path, ...], since: float | None
) -> tuple[str, list[Path]]:
    if stream is not None:
        files = [*map(Path, targets), *data]
    elif len(targets) == 1 and (data or since is not None):
        stream, files = targets[0], list(data)
    else:
        raise click.UsageError("Give FILES with --stream NAME, or the stream's NAME with --data FILE or --since TIME.")
    if bool(files) == (since is not None):
        raise click.UsageError("Give at least one file, or --since TIME.")
    return stream, files


def _render(report: dict[str, Any]) -> str:
    accounted, alerts = report["accounted"], report["alerts"]
    lines = [f"{report['samples_in']} samples of {report['stream']}: "]
    lines[0] += ", ".join(f"{number} {word}" for word, number in accounted.items())
    lines.append(f"{len(alerts)} alert messages")
    if "diff" in report:
        return "\n".join([*lines, *diff_lines(report["diff"])])
    lines += [
        f"  {a['event_time']}  {a['action']:<9} {a['severity']:<9} {a['entity']}  {a['annotations'].get('summary', '')}"
        for a in alerts[:HEAD]
    ]
    if len(alerts) > HEAD:
        lines.append(f"  ... {len(alerts) - HEAD} more; --json shows all")
    return "\n".join(lines)


def diff_lines(found: dict[str, Any]) -> list[str]:
    """Return the lines for a terminal of what `alerts.diff` found."""
    counts = found["counts"]
    lines = [f"alerts: {counts['appears']} appear, {counts['vanishes']} vanish"]
    lines[0] += f", {counts['severity']} change severity, {counts['same']} stay"
    lines += [f"  {day}  {n['before']} now, {n['after']} then" for day, n in found["days"].items()]
    changed = [row for row in found["alerts"] if row["change"] in CHANGES]
    for row in changed[:HEAD]:
        one = row["after"] or row["before"]
        severity = one["severity"]
        if row["change"] == "severity":
            severity = f"{row['before']['severity']} -> {severity}"
        lines.append(f"{CHANGES[row['change']]} {one['starts']}  {severity:<9} {row['entity']}  {row['model']}")
    if len(changed) > HEAD:
        lines.append(f"  ... {len(changed) - HEAD} more; --json shows all")
    return lines

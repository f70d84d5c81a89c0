"""`dwcp-stream budget`: the alert policy that raises at most so many alerts a day, and what it still finds."""

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click
import msgspec

from dwcp_stream.cli.backtest import diff_lines
from dwcp_stream.cli.common import advance_to, emit, entity_option, json_option, progress, settings_option
from dwcp_stream.cli.recent import Span
from dwcp_stream.settings import Settings

if TYPE_CHECKING:
    import polars as pl

    from dwcp_stream.alerts.budget import Trouble
    from dwcp_stream.streams import StreamDefinition


@click.command(
    "budget",
    epilog="""\b
Examples:
  dwcp-stream budget node --per-day 2 --since 30d --source archive
  dwcp-stream budget node --per-day 2 --data nodes.parquet --label label
  dwcp-stream budget node --per-day 2 --data nodes.parquet --json | jq -r .policy_toml >> new.toml
""",
)
@click.argument("stream_name", metavar="STREAM")
@click.option(
    "--per-day", type=click.FloatRange(0.0, min_open=True), required=True, help="Alerts a day, of the whole stream."
)
@click.option("--every-day", is_flag=True, help="No single day (UTC) may have more; else it is the mean.")
@click.option("--since", type=Span(), metavar="TIME", help="The stream's telemetry of so long, such as 30d.")
@click.option(
    "--source",
    type=click.Choice(["kafka", "archive"]),
    default="kafka",
    show_default=True,
    help="With --since: from the stream's topic, or from what `archive` wrote.",
)
@click.option("--data", multiple=True, type=click.Path(path_type=Path), help="A file instead; may be repeated.")
@click.option("--label", metavar="COLUMN", help="With --data: column that is 1 in trouble and 0 in quiet time.")
@entity_option
@settings_option
@json_option
def command(
    stream_name: str,
    per_day: float,
    every_day: bool,
    since: float | None,
    source: Literal["kafka", "archive"],
    data: tuple[Path, ...],
    label: str | None,
    entity: str | None,
    settings: Settings,
    as_json: bool,
) -> None:
    """Choose thresholds and min_duration of STREAM so that its history would have given at most --per-day alerts a day.

    Chosen on the first two thirds of the history, reported on the last third, which the choice has not seen. Beside it
    is the expected recall: of labelled trouble, else of what operators called right or missed (`feedback`), else of
    trouble that is made up and put into the history. Prints the [alert] table for the stream's definition, and what
    would change.
    """
    from dwcp_stream.loading import find_stream

    if (since is None) == (not data):
        raise click.UsageError("Give --since TIME, or --data FILE.")
    if label is not None and not data:
        raise click.UsageError("--label needs --data.")
    stream = find_stream(settings, stream_name)
    table, told = _history(settings, stream, since, source, data, label, entity)
    report = _budget(settings, stream, table, told, label, per_day, every_day=every_day)
    emit(report, as_json, _render)


def _history(
    settings: Settings,
    stream: "StreamDefinition",
    since: float | None,
    source: Literal["kafka", "archive"],
    files: tuple[Path, ...],
    label: str | None,
    entity: str | None,
) -> "tuple[pl.DataFrame, list[Trouble]]":
    """Return the telemetry in order of time, and the troubles that somebody has told of."""
    import polars as pl

    from dwcp_stream.history.scores import judged, labelled
    from dwcp_stream.kafka.history import training_data
    from dwcp_stream.streams.files import read_table

    if since is None:
        extra = [] if label is None else [label]
        table = pl.concat([read_table(f, stream, entity, extra=extra) for f in files], how="diagonal_relaxed")
        table = table.drop_nulls(stream.time).sort(stream.time, maintain_order=True)
        return table, [] if label is None else labelled(stream, table, label)
    begin = time.time() - since
    with progress(f"reading {stream.name}", total=1.0) as advance:
        report = advance_to(advance)
        table, alerts, feedback = asyncio.run(
            training_data(settings, stream, begin, source, lambda read, total: report(read / max(total, 1)))
        )
    return table, judged(stream.name, alerts, feedback)


def _budget(
    settings: Settings,
    stream: "StreamDefinition",
    table: "pl.DataFrame",
    told: "list[Trouble]",
    label: str | None,
    per_day: float,
    *,
    every_day: bool,
) -> dict[str, Any]:
    from dwcp_stream.alerts.budget import DAY, Budget, choose, keep, recall
    from dwcp_stream.alerts.diff import diff
    from dwcp_stream.errors import PayloadError
    from dwcp_stream.history.scores import made_up_trouble, score_table
    from dwcp_stream.loading import bound_models

    if len(table) < 2 or table[stream.time][-1] <= table[stream.time][0]:
        raise PayloadError("the history has no length", where=stream.name, remedy="Give a longer --since, or more data")
    begin, end = float(table[stream.time][0]), float(table[stream.time][-1])
    middle = begin + 2 * (end - begin) / 3
    models, after = bound_models(settings, stream), stream.expire_after
    with progress(f"scoring {stream.name}") as advance:
        scores = score_table(models, stream, table, advance)
        parts = [[s.between(begin, middle) for s in scores], [s.between(middle, end + 1.0) for s in scores]]
        found_by = "labels" if label else "feedback"
        cut = [[t for t in told if t.starts < middle], [t for t in told if t.starts >= middle]]
        trials = [(parts[i], cut[i]) for i in range(2)]
        if not all(cut):
            found_by = "made-up trouble"
            trials = [
                made_up_trouble(models, stream, table, span, advance) for span in ((begin, middle), (middle, end + 1.0))
            ]
    days = [(middle - begin) / DAY, (end - middle) / DAY]
    step = stream.step if isinstance(stream.step, float) else 0.0
    durations = sorted({stream.alert.min_duration, *(stream.alert.min_duration + step * k for k in (1, 2, 4))})
    policy = choose(parts[0], stream.alert, Budget(per_day, days[0], every_day), after, durations, *trials[0])
    rows = []
    for name, histories, length, (trial, troubles) in zip(("chosen on", "tested on"), parts, days, trials, strict=True):
        for which, tried in (("now", stream.alert), ("then", policy)):
            kept = keep(histories, tried, length, after)
            hit = recall(keep(trial, tried, length, after).alerts, troubles)
            rows.append(
                {
                    "part": name, "policy": which, "days": length, "alerts": len(kept.alerts), "per_day": kept.per_day,
                    "worst_day": kept.worst_day, "found": hit.found, "troubles": hit.of, "recall": hit.share,
                    "recall_interval": hit.interval,
                }
            )  # fmt: skip
    whole = [keep(scores, tried, sum(days), after).alerts for tried in (stream.alert, policy)]
    return {
        "stream": stream.name,
        "models": {model.name: model.version for model in models},
        "per_day": per_day,
        "every_day": every_day,
        "recall_of": found_by,
        "policy": msgspec.to_builtins(policy),
        "policy_toml": _toml(msgspec.to_builtins(policy)),
        "parts": rows,
        "diff": diff(*whole).plain(),
    }


def _toml(policy: dict[str, Any]) -> str:
    lines = [f"{name} = {value!r}" for name, value in policy.items() if name != "thresholds"]
    own = ", ".join(f"{model} = {factor!r}" for model, factor in policy["thresholds"].items())
    return "\n".join(["[alert]", *lines, *([f"thresholds = {{ {own} }}"] if own else []), ""])


def _render(report: dict[str, Any]) -> str:
    lines = [f"at most {report['per_day']:g} alerts a day of {report['stream']}; recall of {report['recall_of']}"]
    for row in report["parts"]:
        low, high = row["recall_interval"]
        lines.append(
            f"  {row['part']} {row['days']:.1f} days, {row['policy']:<4}: {row['alerts']} alerts,"
            f" {row['per_day']:.2f} a day,"
            f" at most {row['worst_day']} on one; finds {row['found']} of {row['troubles']}"
            + (f" ({low:.0%} to {high:.0%})" if row["troubles"] else "")
        )
    return "\n".join([*lines, "", report["policy_toml"].rstrip(), "", *diff_lines(report["diff"])])

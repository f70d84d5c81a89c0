"""`dwcp-stream accuracy`: how good forecasts and alerts were, by what really happened."""

import asyncio
import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from dwcp_stream.cli.common import emit, json_option, progress, settings_option
from dwcp_stream.settings import Settings

if TYPE_CHECKING:
    from aiokafka import ConsumerRecord

    from dwcp_stream.realised import AlertLedger, ArmLedger, ForecastLedger

T = TypeVar("T")
HOUR = 3600.0
KEPT_DAYS = 30.0
STATS = ("mae", "rmse", "bias", "mape", "skill", "pinball", "coverage", "coverage_raw")


@click.command(
    epilog="""\b
Examples:
  dwcp-stream accuracy
  dwcp-stream accuracy link --hours 6 --json | jq '.forecasts[] | {horizon, target, skill}'
"""
)
@click.argument("stream", required=False)
@click.option(
    "--hours", multiple=True, type=click.FloatRange(min=0, min_open=True), help="How far back; default: 1 and 24."
)
@click.option("--days", default=KEPT_DAYS, show_default=True, help="How far back alerts and their feedback count.")
@settings_option
@json_option
def command(stream: str | None, hours: tuple[float, ...], days: float, settings: Settings, *, as_json: bool) -> None:
    """Show realised accuracy, of STREAM or of all.

    Forecasts: errors by model version, arm, horizon and target, beside repeating the last value (skill), with the
    share of actuals inside the 80 % interval (coverage), over the last hours of the forecasts' own time. Alerts:
    precision and recall by model version, from what operators said of them (`dwcp-stream feedback`); with
    feedback.keys only from what one of these keys has signed. Arms: how often a challenger or shadow was over the
    threshold where the champion was not, and the other way round.
    """
    spans = sorted(set(hours or (1.0, 24.0)))
    forecasts, arms, alerts, bad = asyncio.run(_read(settings, spans[-1], days))
    rows = [{"hours": span, **row} for span in spans for row in forecasts.over(span * HOUR)]
    beside = [{"hours": span, **row} for span in spans for row in arms.over(span * HOUR)]
    judged = alerts.over(days * 24 * HOUR)
    result = {
        "forecasts": [row for row in rows if stream in (None, row["stream"])],
        "arms": [row for row in beside if stream in (None, row["stream"])],
        "alerts": [row for row in judged if stream in (None, row["stream"])],
        "feedback_without_alert": alerts.unknown,
        "feedback_refused": dict(alerts.refused),
        "unreadable": bad,
    }
    emit(result, as_json, _render)


async def _read(settings: Settings, hours: float, days: float) -> "tuple[ForecastLedger, ArmLedger, AlertLedger, int]":
    from dwcp_stream.events import Accuracy, Alert, ArmScores
    from dwcp_stream.kafka.scan import scan
    from dwcp_stream.keys import public_keys
    from dwcp_stream.realised import AlertLedger, ArmLedger, ForecastLedger

    forecasts, arms = ForecastLedger(hours * HOUR), ArmLedger(hours * HOUR)
    alerts = AlertLedger(public_keys(settings.feedback.keys))
    bad = 0
    since = time.time() - days * 24 * HOUR
    with progress("reading", 3) as advance:
        # From the beginning: of forecasts that were replayed, the time of the record says nothing.
        async for record in scan(settings, "accuracy"):
            if dict(record.headers).get("ce_type") == b"dwcp.accuracy.scores":
                bad += not _taken(record, ArmScores, lambda part, event_id: arms.add(event_id, part))
            else:
                bad += not _taken(record, Accuracy, lambda part, event_id: forecasts.add(event_id, part))
        advance(1)
        async for record in scan(settings, "anomalies", since):
            bad += not _taken(record, Alert, lambda alert, _: alerts.alert(alert))
        advance(1)
        async for record in scan(settings, "feedback", since):
            bad += not _judged(record, alerts)
        advance(1)
    return forecasts, arms, alerts, bad


def _taken(record: "ConsumerRecord", kind: type[T], take: Callable[[T, str], None]) -> bool:
    """Hand a record's payload and id over; false if it cannot be read, for anybody may write to a topic."""
    import msgspec

    from dwcp_stream.errors import UNREADABLE

    try:
        take(msgspec.json.decode(record.value or b"", type=kind), dict(record.headers).get("ce_id", b"").decode())
    except UNREADABLE:
        return False
    return True


def _judged(record: "ConsumerRecord", alerts: "AlertLedger") -> bool:
    """Hand a judgement over; false if it cannot be read."""
    from dwcp_stream.errors import UNREADABLE

    try:
        alerts.judgement(record.value or b"", list(record.headers))
    except UNREADABLE:
        return False
    return True


def _render(result: dict[str, Any]) -> Any:
    from rich.console import Group
    from rich.table import Table

    parts: list[Any] = []
    if result["forecasts"]:
        names = ("hours", "stream", "model", "version", "arm", "horizon", "target", "n", "missed", *STATS)
        table = Table(*names, box=None, header_style="bold", title="forecasts", title_justify="left")
        for row in result["forecasts"]:
            table.add_row(*(_cell(row[name]) for name in names))
        parts.append(table)
    if result["arms"]:
        columns = list(result["arms"][0])
        table = Table(*columns, box=None, header_style="bold", title="arms", title_justify="left")
        for row in result["arms"]:
            table.add_row(*map(_cell, row.values()))
        parts.append(table)
    if result["alerts"]:
        counts = ("stream", "model", "version", "alerts", "true", "false", "missed")
        table = Table(
            *counts, "precision", "recall", box=None, header_style="bold", title="alerts", title_justify="left"
        )
        for row in result["alerts"]:
            shares = (_share(row[name], row[f"{name}_interval"]) for name in ("precision", "recall"))
            table.add_row(*(_cell(row[name]) for name in counts), *shares)
        parts.append(table)
    if result["feedback_without_alert"]:
        parts.append(
            f"{result['feedback_without_alert']} judgements are about alerts that are not in the topic any more"
        )
    if result["feedback_refused"]:
        words = ", ".join(f"{number} {word}" for word, number in sorted(result["feedback_refused"].items()))
        parts.append(f"judgements that do not count, as none of feedback.keys has signed them: {words}")
    if result["unreadable"]:
        parts.append(f"{result['unreadable']} records of the three topics cannot be read")
    return Group(*parts) if parts else "no forecast has met its target time, and no alert has been raised"


def _cell(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return "-" if math.isnan(value) else f"{value:.4g}"


def _share(value: float, interval: tuple[float, float]) -> str:
    return "-" if math.isnan(value) else f"{value:.2f} ({interval[0]:.2f} to {interval[1]:.2f})"

"""The card of a week: Markdown, and a picture."""

import io
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from math import nan
from typing import Any

from dwcp_stream.training.report import document, table

Rows = Sequence[Mapping[str, Any]]
LISTED = 50
"""Entities of which a list holds the names."""
FORECAST = ("stream", "model", "version", "arm", "horizon", "target", "n", "missed", "mae", "skill", "coverage")
ARM = ("stream", "model", "arm", "version", "champion", "n", "both", "only_champion", "only_arm", "difference")
DECISION = ("event_time", "stream", "model", "decision", "version", "champion", "reason")
VERSION = ("event_time", "stream", "model", "alias", "version", "action", "serving", "times", "reason")
CHAMPION = ("at", "model", "what", "before", "version", "by", "reason")
TICKS = 8
"""Days named along the axis, at most."""
COVERAGE = 0.8
"""Share of actuals that the interval of a forecast is meant to hold."""


def write_week(result: Mapping[str, Any], picture: str | None = None) -> str:
    """Write the card.

    Parameters
    ----------
    result
        Of `Week.result`, with `champions`, and `since` and `until` as text.
    picture
        Name of the picture's file, if there is one.
    """
    sections = {
        "": f"From {result['since']} to {result['until']}, by when it was written.",
        "Alerts": _alerts(result),
        "Forecasts": _forecasts(result),
        "Beside the champions": _or(result["arms"], ARM, "No challenger and no shadow has run."),
        "Decisions": _or(result["decisions"], DECISION, "The trainer has decided nothing."),
        "Champions": _or(result["champions"], CHAMPION, "Champions are as they were."),
        "Versions that workers took up or refused": _or(result["versions"], VERSION, "None."),
    }
    if result["unreadable"]:
        sections["Not read"] = f"{result['unreadable']} records of the topics cannot be read."
    if picture is not None:
        sections[""] += f"\n\n![alerts and coverage by day]({picture})"
    return document("Week", sections)


def draw_week(result: Mapping[str, Any]) -> bytes:
    """Draw alerts and coverage by day, one above the other, as PNG.

    Raises
    ------
    ImportError
        matplotlib is not installed (extra `train`).
    """
    from matplotlib.figure import Figure  # noqa: PLC0415  half a second, and only pictures need it

    figure = Figure(figsize=(8, 5), dpi=80, layout="constrained")
    above, below = figure.subplots(2, sharex=True)
    alerts, coverage = result["alerts_per_day"], result["coverage_per_day"]
    days = _days([row["day"] for row in (*alerts, *coverage)])
    bottom = [0] * len(days)
    for name, rows in _lines(alerts, ("stream", "model")).items():
        counts = {row["day"]: row["alerts"] for row in rows}
        heights = [counts.get(day, 0) for day in days]
        above.bar(range(len(days)), heights, bottom=bottom, label=name)
        bottom = [low + high for low, high in zip(bottom, heights, strict=True)]
    for name, rows in _lines(coverage, ("stream", "model", "arm")).items():
        shares = {row["day"]: row["coverage"] for row in rows}
        below.plot(range(len(days)), [shares.get(day, nan) for day in days], marker="o", label=name)
    below.axhline(COVERAGE, color="black", linewidth=0.8, linestyle="--")
    below.set_ylim(0, 1.02)
    shown = range(0, len(days), -(-len(days) // TICKS) or 1)
    below.set_xticks(shown, [days[number] for number in shown])
    for axes, what, drawn in ((above, "alerts", alerts), (below, "coverage (meant: 0.8)", coverage)):
        axes.set_ylabel(what, fontsize=8)
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.3)
        if drawn:
            axes.legend(fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _days(known: Sequence[str]) -> list[str]:
    """Return all days from the first to the last, also those on which nothing was."""
    if not known:
        return []
    first, last = date.fromisoformat(min(known)), date.fromisoformat(max(known))
    return [(first + timedelta(days=number)).isoformat() for number in range((last - first).days + 1)]


def _alerts(result: Mapping[str, Any]) -> str:
    if not result["alerts"]:
        return "No alert was raised, and none was missed."
    header = ("stream", "model", "version", "alerts", "right", "false", "missed", "share that was right (95 %)")
    rows = [
        (*(row[name] for name in ("stream", "model", "version", "alerts", "true", "false", "missed")), _share(row))
        for row in result["alerts"]
    ]
    said = ["Shares are of what was judged."]
    if result["feedback_refused"]:
        words = ", ".join(f"{n} {word}" for word, n in sorted(result["feedback_refused"].items()))
        said.append(f"Judgements that do not count: {words}.")
    if result["feedback_without_alert"]:
        said.append(f"{result['feedback_without_alert']} judgements are about alerts of before.")
    return f"{table(header, rows)}\n\n{' '.join(said)}"


def _share(row: Mapping[str, Any]) -> str:
    judged = row["true"] + row["false"]
    low, high = row["precision_interval"]
    return f"{row['precision']:.2f} ({low:.2f} to {high:.2f}, of {judged})" if judged else "nobody has judged"


def _forecasts(result: Mapping[str, Any]) -> str:
    off = _switched_off(result["switched_off"])
    if not result["forecasts"]:
        return f"No forecast has met its target time.\n\n{off}"
    worse = [
        f"- {row['model']} version {row['version']} ({row['arm']}), {row['target']} {row['horizon']} steps ahead: "
        f"its error is {1 - row['skill']:.2f} times that of repeating, over {row['n']:.0f} forecasts"
        for row in result["worse_than_repeating"]
    ]
    said = (
        "Worse than repeating the last value:\n\n" + "\n".join(worse)
        if worse
        else "None is worse than repeating the last value."
    )
    return f"{_or(result['forecasts'], FORECAST, '')}\n\n{said}\n\n{off}"


def _switched_off(rows: Rows) -> str:
    """Say of which entities a forecaster only repeats the last value, the first of them by name."""
    if not rows:
        return "In the last hour no forecaster was switched off for an entity because repeating was better."
    names = [f"{row['entity']} ({row['model']})" for row in rows[:LISTED]]
    more = f" and {len(rows) - LISTED} more" if len(rows) > LISTED else ""
    return f"Switched off in the last hour, because repeating the last value was better: {', '.join(names)}{more}."


def _or(rows: Rows, columns: Sequence[str], nothing: str) -> str:
    """Return a table, or what is said where it would be empty; what people wrote cannot end a cell."""
    if not rows:
        return nothing
    return table(columns, [[_plain(row[name]) for name in columns] for row in rows])


def _plain(value: Any) -> Any:
    return " ".join(value.split()).replace("|", "\\|") if isinstance(value, str) else value


def _lines(rows: Rows, names: Sequence[str]) -> dict[str, list[Mapping[str, Any]]]:
    found: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        found.setdefault(" ".join(row[name] for name in names), []).append(row)
    return found

"""Tables of an evaluation, and `report.md` with the data's hashes and the command that made it.

Nothing in it depends on when or where it is made: the same command on the same files writes the same bytes.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dwcp_stream.training.data_facts import file_hash
from dwcp_stream.training.report import document, table

Row = list[str]
HOW_DETECTORS = """An event is found if a scored row inside it is over 1. Alarm rows less than 10 rows apart are one
false alarm. ROC AUC, AP (average precision) and VUS-PR (buffers of up to 20 rows, mean over entities) are per row.
Range F1 is that of Tatbul et al. (2018) at the threshold, flat and with reciprocal cardinality. Brackets hold 95 %
intervals: of the events found that of Wilson, of false alarms exact Poisson limits, else from the draws below."""
HOW_REPEATING = "`repeating` counts the entities that got their last value as the forecast in most of their rows."
HOW_PEERS = """Peers that need no labels are fitted on rows without a label of a fault; a thousandth of these rows is
over their thresholds. Classifiers have thresholds from parts of their rows that they were not fitted on."""
HOW_FORECASTS = """MAE and pinball are in the target's unit; coverage is the share of actuals in [q10, q90], aimed at
80 %; skill is the share of the other forecast's MAE that is saved (negative: worse). Brackets hold 95 % intervals from
the draws below."""


def summary(result: Mapping[str, Any]) -> list[tuple[str, list[str], list[Row]]]:
    """Return the tables of one model's result: heading, header and rows of text."""
    if "forecasts" in result:
        return _forecasts(result)
    tables = [("Figures", *_detectors(result))]
    if "causes" in result:
        tables.append(("By cause", *_causes(result["causes"])))
    return tables


def notes(result: Mapping[str, Any]) -> list[str]:
    """Return what is to be said of one model's result in words."""
    seen = ", ".join(result["trained_on"])
    said = [f"The model was trained on {seen}, or on files of these names: its figures flatter."] if seen else []
    peers = result.get("peers")
    if peers:
        said.append(f"Peers: {', '.join(peers['names']) or 'none'}; {peers['said']}.")
        if peers["missing"]:
            said.append(f"Left out: {peers['missing']}.")
    draws = result["resampling"]
    said.append(
        f"Draws: {draws['draws']} of {draws['units']}, seed {draws['seed']}; a difference counts outside its interval."
    )
    comparison = result.get("comparison")
    if comparison:
        parts = [
            f"{name} {_signed(comparison[key])} {_span(comparison[key]['interval'])}, {comparison[key]['verdict']}"
            for key, name in (("roc_auc", "ROC AUC"), ("average_precision", "AP"))
        ]
        said.append(f"Against {comparison['with']}, the best of the others by AP: {'; '.join(parts)}.")
    return said


def write_report(result: Mapping[str, Any], files: Sequence[Path], command: str, plots: Iterable[str]) -> str:
    """Write `report.md` for one model.

    Parameters
    ----------
    result
        Of `judging` or `forecast_judging`, with `model`, `version`, `task`, and `trained_on`: names of
        files that it was trained on.
    files
        All files that were read, those to fit peers on too.
    command
        The command line that repeats it.
    plots
        Names of the pictures beside it.
    """
    hashes = table(("file", "SHA-256"), [(path.name, file_hash(path)) for path in files])
    how = f"{HOW_FORECASTS}\n{HOW_REPEATING}" if "forecasts" in result else HOW_DETECTORS
    how += f"\n\n{HOW_PEERS}" if "peers" in result and "detectors" in result else ""
    tables = {heading: table(header, rows) for heading, header, rows in summary(result)}
    first = next(iter(tables))
    tables[first] += f"\n\n{how}\n\n" + "\n".join(f"- {note}" for note in notes(result))
    return document(
        f"{result['model']} version {result['version']} on {', '.join(path.name for path in files)}",
        {
            "": f"Made by\n\n    {command}",
            "Data": hashes,
            **tables,
            "Pictures": "\n\n".join(f"![{name.removesuffix('.png')}]({name})" for name in plots),
        },
    )


def _detectors(result: Mapping[str, Any]) -> tuple[list[str], list[Row]]:
    rows = []
    for name, n in result["detectors"].items():
        spans = n["intervals"]
        rows.append(
            [
                name,
                f"{n['found']} of {n['events']} {_span(spans['found'])}".rstrip(),
                f"{n['false_alarms']}",
                f"{_short(n['false_alarms_per_hour'])} {_span(spans['false_alarms_per_hour'])}".rstrip(),
                _short(n["delay_median"]),
                f"{_short(n['roc_auc'])} {_span(spans['roc_auc'])}".rstrip(),
                f"{_short(n['average_precision'])} {_span(spans['average_precision'])}".rstrip(),
                _short(n["vus_pr"]),
                _short(n["range_f1"]),
            ]
        )
    header = ["detector", "events found", "false alarms", "per hour", "delay median s", "ROC AUC", "AP", "VUS-PR"]
    return [*header, "range F1"], rows


def _causes(causes: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[Row]]:
    kinds = list(next((row["said"] for row in causes if "said" in row), {}))
    rows = []
    for row in causes:
        said = [str(row["said"][kind]) if "said" in row else "" for kind in kinds]
        quiet = not row["events"]
        found = f"{row['false_alarms']} false" if quiet else f"{row['found']} of {row['events']}"
        span = "" if quiet else _span(row["found_interval"])
        delay = "" if quiet else _short(row["delay_median"])
        rows.append(
            [row["cause"], f"{found} {span}".rstrip(), delay, str(row["rows"]), _short(row["rows_in_alarm"]), *said]
        )
    header = ["cause", "events found", "delay median s", "rows", "share in alarm"]
    return [*header, *(f"said {kind}" for kind in kinds)], rows


def _forecasts(result: Mapping[str, Any]) -> list[tuple[str, list[str], list[Row]]]:
    header = ["horizon", "target", "MAE", "pinball", "coverage", "skill over persistence", "over a day before"]
    errors, others = [], []
    for row in result["forecasts"]:
        spans = row["intervals"]
        skills = [row["simple"][name]["skill"] for name in ("persistence", "a day before")]
        errors.append(
            [
                str(row["horizon"]),
                row["target"],
                *(f"{_short(row[key])} {_span(spans[key])}".rstrip() for key in ("mae", "pinball", "coverage")),
                *map(_short, skills),
                *_best(row["comparison"]),
                _entities(row["entities"]),
                str(len(row["repeating"])),
            ]
        )
        for name, found in {**row["simple"], **row.get("peers", {})}.items():
            others.append([str(row["horizon"]), row["target"], name, _short(found["mae"]), _short(found["skill"]), ""])
        if "autoets" in row:
            asked = row["autoets"]
            numbers = [_short(asked["mae"]), _short(asked["skill"])]
            note = f"at {asked['n']} rows, where the model has {_short(asked['model_mae'])}"
            others.append([str(row["horizon"]), row["target"], "AutoETS", *numbers, note])
    header += ["best of the others", "skill over it", "verdict", "entities worse than their last value", "repeating"]
    tables = [("Figures", header, errors)]
    if "peers" in result:
        tables.append(
            ("The others", ["horizon", "target", "forecast", "MAE", "skill of the model over it", ""], others)
        )
    return tables


def _best(comparison: Mapping[str, Any] | None) -> Row:
    if comparison is None:
        return ["-", "-", "-"]
    skill = f"{_short(comparison['skill'])} {_span(comparison['interval'])}".rstrip()
    return [comparison["with"], skill, comparison["verdict"]]


def _entities(found: Mapping[str, Any]) -> str:
    if not found["count"]:
        return "-"
    return f"{found['worse']} of {found['count']}, least skill {_short(found['worst_skill'])} ({found['worst']})"


def _signed(found: Mapping[str, Any]) -> str:
    return "-" if found["difference"] is None else f"{found['difference']:+.3f}"


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _span(interval: Sequence[float | None] | None) -> str:
    """Write an interval, nothing where there is none."""
    if interval is None or interval[0] is None or interval[1] is None:
        return ""
    return f"[{interval[0]:.3g}, {interval[1]:.3g}]"

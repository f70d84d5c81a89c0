"""`dwcp-stream evaluate`: judge published models on files, beside simple rules."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dwcp_stream.cli.common import emit, entity_option, json_option, progress, settings_option
from dwcp_stream.errors import ConfigError
from dwcp_stream.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dwcp_stream.registry import ModelRepository
    from dwcp_stream.streams import StreamDefinition
    from dwcp_stream.streams.definition import ModelBinding


@click.command(
    epilog="""\b
Examples:
  dwcp-stream evaluate consensus --data r3.csv.gz --entity lab --report judged/
  dwcp-stream evaluate link-forecast --data links.parquet --version 2 --json | jq '.models[].forecasts[0]'
"""
)
@click.argument("what", metavar="STREAM|MODEL")
@click.option(
    "--data",
    "files",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    multiple=True,
    required=True,
    metavar="FILE...",
    help="CSV or Parquet (also .gz); detectors need a label column. Several files may follow.",
)
@click.argument("more_files", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="")
@click.option("--version", "which", default="champion", show_default=True, help="Alias or number of the version.")
@click.option("--label", metavar="COLUMN", help="Column that is 1 in a fault; default: the model's, else `label`.")
@entity_option
@click.option(
    "--report",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Write report.md with the tables and curves (PNG) there, in a folder for each model.",
)
@settings_option
@json_option
def command(
    what: str,
    files: tuple[Path, ...],
    more_files: tuple[Path, ...],
    which: str,
    label: str | None,
    entity: str | None,
    folder: Path | None,
    settings: Settings,
    as_json: bool,
) -> None:
    """Judge the models of STREAM, or one MODEL, on files.

    Detectors: events found, false alarms per hour, delay, ROC AUC and average precision per row, beside the
    trivial rules of the stream. Rows with x_recovery = 1 count neither way. Forecasters: MAE, pinball loss and
    coverage of the 80 % interval by horizon and target, and skill over repeating the last value; `repeating` counts
    the entities for which the model does no better and repeats it (--json names them). The score is judged, not the
    alert policy: use `backtest` to see alerts. --report adds ROC, precision and recall, reliability
    of a probability, and forecasts beside what came.

    Needs the extra `train` (pip install 'dwcp-stream[train]').
    """
    from dwcp_stream.registry import ModelRepository
    from dwcp_stream.streams import load_streams
    from dwcp_stream.training.dataset import load_grid
    from dwcp_stream.training.judging import judge_detector, judge_forecaster

    stream, bindings = _find(load_streams(settings.streams_dir), what)
    repository = ModelRepository(settings.models_dir)
    column = [label or binding.label or "label" for binding in bindings]
    grid = load_grid(stream, (*files, *more_files), extra=(*column, "x_recovery"), entity=entity)
    results = []
    for binding, name in zip(bindings, column, strict=True):
        model = _load(repository, binding, which).bind(stream)
        with progress(model.name, total=1.0) as advance:
            done = _advance_to(advance)
            plots: dict[str, bytes] | None = {} if folder else None
            judged = (
                judge_forecaster(model, grid, done, plots)
                if model.task == "forecast"
                else judge_detector(model, grid, name, done, plots)
            )
        result = {"model": model.name, "version": model.version, "task": model.task, **judged}
        if folder is not None and plots is not None:
            result["report"] = str(_write(folder / model.name, result, plots, (*files, *more_files)))
        results.append(result)
    emit({"stream": stream.name, "files": [str(p) for p in (*files, *more_files)], "models": results}, as_json, _render)


def _write(folder: Path, result: dict[str, Any], plots: "dict[str, bytes]", files: "Sequence[Path]") -> Path:
    """Write report.md and the pictures; returns the report's path."""
    from dwcp_stream.training.publish import data_hash
    from dwcp_stream.training.report import document, table

    header, rows = _detectors(result) if "detectors" in result else _forecasts(result)
    names = ", ".join(path.name for path in files)
    text = document(
        f"{result['model']} version {result['version']} on {names}",
        {
            "": f"SHA-256 of the data: {data_hash(files)}. Made by `dwcp-stream evaluate {result['model']}`.",
            "Figures": table(header, rows),
            "Pictures": "\n\n".join(f"![{name.removesuffix('.png')}]({name})" for name in plots),
        },
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, png in plots.items():
            (folder / name).write_bytes(png)
        (folder / "report.md").write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"cannot be written: {error.strerror or error}",
            where=str(folder),
            remedy="Choose another --report",
        ) from error
    return folder / "report.md"


def _find(streams: "dict[str, StreamDefinition]", what: str) -> "tuple[StreamDefinition, list[ModelBinding]]":
    if what in streams:
        return streams[what], list(streams[what].models)
    for stream in streams.values():
        for binding in stream.models:
            if binding.name == what:
                return stream, [binding]
    raise ConfigError(
        f"{what!r} is no stream and no model of one",
        remedy=f"Use one of {', '.join([*sorted(streams), *(b.name for s in streams.values() for b in s.models)])}",
    )


def _load(repository: "ModelRepository", binding: "ModelBinding", which: str) -> Any:
    return repository.load(binding.name, binding.alias if which == "champion" else which)


def _advance_to(advance: Any) -> Any:
    done = 0.0

    def report(share: float) -> None:
        nonlocal done
        advance(max(share - done, 0.0))
        done = max(share, done)

    return report


def _render(result: dict[str, Any]) -> Any:
    from rich.console import Group
    from rich.table import Table

    tables = []
    for model in result["models"]:
        header, rows = _detectors(model) if "detectors" in model else _forecasts(model)
        table = Table(*header, title=f"{model['model']} version {model['version']}", title_justify="left")
        for row in rows:
            table.add_row(*row)
        tables.append(table)
    return Group(*tables)


def _detectors(model: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    keys = ["events", "found", "false_alarms", "false_alarms_per_hour", "delay_median", "roc_auc", "average_precision"]
    rows = [[name, *(_short(numbers[key]) for key in keys)] for name, numbers in model["detectors"].items()]
    return ["detector", *(key.replace("_", " ") for key in keys)], rows


def _forecasts(model: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    first = ["horizon", "target", "MAE", "pinball", "coverage"]
    header = [*first, "skill over persistence", "over a day before", "repeating"]
    rows = []
    for row in model["forecasts"]:
        skills = [row["simple"][name]["skill"] for name in ("persistence", "a day before")]
        numbers = [row["mae"], row["pinball"], row["coverage"], *skills]
        rows.append([str(row["horizon"]), row["target"], *map(_short, numbers), str(len(row["repeating"]))])
    return header, rows


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"

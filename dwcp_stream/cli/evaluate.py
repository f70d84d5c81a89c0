"""`dwcp-stream evaluate`: judge published models on files, beside simple rules and other people's methods."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dwcp_stream.cli.common import advance_to, emit, entity_option, json_option, progress, settings_option
from dwcp_stream.errors import ConfigError
from dwcp_stream.settings import Settings

if TYPE_CHECKING:
    from dwcp_stream.registry import ModelRepository
    from dwcp_stream.streams import StreamDefinition
    from dwcp_stream.streams.definition import ModelBinding

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
CURVES = "training.png"


@click.command(
    epilog="""\b
Examples:
  dwcp-stream evaluate consensus --data r3.csv.gz --entity lab --report judged/
  dwcp-stream evaluate consensus --data r3.csv.gz --peers --train n1.csv.gz --train n2.csv.gz
  dwcp-stream evaluate link-forecast --data links.parquet --version 2 --json | jq '.models[].forecasts[0]'
"""
)
@click.argument("what", metavar="STREAM|MODEL")
@click.option(
    "--data",
    "files",
    type=FILE,
    multiple=True,
    required=True,
    metavar="FILE...",
    help="CSV or Parquet (also .gz); detectors need a label column. Several files may follow.",
)
@click.argument("more_files", nargs=-1, type=FILE, metavar="")
@click.option("--version", "which", default="champion", show_default=True, help="Alias or number of the version.")
@click.option("--label", metavar="COLUMN", help="Column that is 1 in a fault; default: the model's, else `label`.")
@click.option("--cause", metavar="COLUMN", help="Column that names causes; default: the first label that holds words.")
@click.option("--peers", is_flag=True, help="Fit other people's methods in the same run, and judge them too.")
@click.option(
    "--train",
    "train_files",
    type=FILE,
    multiple=True,
    metavar="FILE",
    help="With --peers: fit them on this file (may be repeated); default: the first half of each entity's rows.",
)
@click.option("--seed", default=0, show_default=True, help="Of the intervals' draws and of the peers.")
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
    *,
    what: str,
    files: tuple[Path, ...],
    more_files: tuple[Path, ...],
    which: str,
    label: str | None,
    cause: str | None,
    peers: bool,
    train_files: tuple[Path, ...],
    seed: int,
    entity: str | None,
    folder: Path | None,
    settings: Settings,
    as_json: bool,
) -> None:
    """Judge the models of STREAM, or one MODEL, on files.

    Detectors: events found, false alarms per hour, delay, ROC AUC, average precision and VUS-PR per row, range F1,
    beside the trivial rules of the stream, and by cause where a column names them. Rows with x_recovery or
    disturbed = 1 count neither way. Forecasters: MAE, pinball loss and coverage of the 80 % interval by horizon and
    target, and skill over repeating the last value; `repeating` counts the entities for which the model repeats it
    (--json names them).
    Figures have 95 % intervals; a difference counts only outside its own. The score is judged, not the alert policy:
    use `backtest` to see alerts. Files that the model was trained on are named, as its figures flatter there.

    --peers adds, by task: River's HalfSpaceTrees, PCA and PyOD's ECOD, COPOD and IForest; logistic regression and
    HistGradientBoosting on the newest row; least squares on past rows and AutoETS. PyOD and statsforecast are used if
    they are installed. Without --train the first half of each entity's rows is for the peers, and all figures are of
    the other half.

    Needs the extra `train` (pip install 'dwcp-stream[train]').
    """
    from dwcp_stream.registry import ModelRepository
    from dwcp_stream.streams import load_streams
    from dwcp_stream.training.causes import COLUMNS, NEGATIVE
    from dwcp_stream.training.dataset import load_grid
    from dwcp_stream.training.forecast_judging import judge_forecaster
    from dwcp_stream.training.judging import Options, judge_detector
    from dwcp_stream.training.labels import LEFT_OUT
    from dwcp_stream.training.peers.fitting import first_halves, own_files
    from dwcp_stream.training.publish import trained_on

    if train_files and not peers:
        raise click.UsageError("--train says what to fit peers on: give --peers too")
    stream, bindings = _find(load_streams(settings.streams_dir), what)
    repository = ModelRepository(settings.models_dir)
    names = [label or binding.label or "label" for binding in bindings]
    extra = dict.fromkeys((*names, *LEFT_OUT, *([cause] if cause else []), *COLUMNS, NEGATIVE))
    grid = load_grid(stream, (*files, *more_files), extra=tuple(extra), entity=entity)
    fitting = None
    if peers and train_files:
        train = load_grid(stream, train_files, extra=(*names, *LEFT_OUT), entity=entity)
        fitting = own_files(train, ", ".join(path.name for path in train_files), grid)
    elif peers:
        fitting = first_halves(grid)
    options = Options(fitting=fitting, seed=seed, cause=cause)
    results = []
    for binding, name in zip(bindings, names, strict=True):
        model = _load(repository, binding, which).bind(stream)
        plots: dict[str, bytes] | None = {} if folder else None
        with progress(model.name, total=1.0) as advance:
            done = advance_to(advance)
            judged = (
                judge_forecaster(model, grid, done, plots, options)
                if model.task == "forecast"
                else judge_detector(model, grid, name, done, plots, options)
            )
        seen = trained_on(model.manifest, (*files, *more_files))
        result = {"model": model.name, "version": model.version, "task": model.task, "trained_on": seen, **judged}
        if folder is not None and plots is not None:
            curves = _curves(repository, model.name, model.version)
            plots = plots | ({} if curves is None else {CURVES: curves})
            words = _command_line(model.name, which, label, cause, seed, entity, peers=peers)
            result["report"] = str(
                _write(folder / model.name, result, plots, words, (*files, *more_files), train_files)
            )
        results.append(result)
    emit({"stream": stream.name, "files": [str(p) for p in (*files, *more_files)], "models": results}, as_json, _render)


def _curves(repository: "ModelRepository", name: str, version: int) -> bytes | None:
    """Return the picture of a version's training, if it holds one."""
    from dwcp_stream.registry.files import LIMITS

    try:
        return repository.storage.read(f"{name}/{version}/{CURVES}", LIMITS[".png"])
    except FileNotFoundError:
        return None


def _write(
    folder: Path,
    result: dict[str, Any],
    plots: "dict[str, bytes]",
    words: list[str],
    files: tuple[Path, ...],
    train_files: tuple[Path, ...],
) -> Path:
    """Write report.md and the pictures; returns the report's path."""
    from dwcp_stream.training.evaluation_report import write_report

    words = [*words, *(word for path in train_files for word in ("--train", path.name))]
    line = shlex.join([*words, "--data", *(path.name for path in files)])
    try:
        text = write_report(result, (*files, *train_files), line, plots)
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


def _command_line(
    model: str, which: str, label: str | None, cause: str | None, seed: int, entity: str | None, *, peers: bool
) -> list[str]:
    """Begin the command that repeats the run for one model."""
    words = ["dwcp-stream", "evaluate", model, "--seed", str(seed)]
    words += ["--version", which] if which != "champion" else []
    words += ["--peers"] if peers else []
    for option, value in (("--label", label), ("--cause", cause), ("--entity", entity)):
        words += [option, value] if value else []
    return words


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


def _render(result: dict[str, Any]) -> Any:
    from rich.console import Group
    from rich.markup import escape
    from rich.table import Table

    from dwcp_stream.training.evaluation_report import notes, summary

    shown: list[Any] = []
    for model in result["models"]:
        for heading, header, rows in summary(model):
            table = Table(title=f"{model['model']} version {model['version']}: {heading}", title_justify="left")
            for name in header:
                table.add_column(name, overflow="fold")
            for row in rows:
                table.add_row(*map(escape, row))
            shown.append(table)
        shown += notes(model)
    return Group(*shown)

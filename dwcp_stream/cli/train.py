"""`dwcp-stream train`: make a stream's models from files and publish them."""

import os
import shlex
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from dwcp_stream.cli.common import advance_to, emit, entity_option, json_option, progress, settings_option
from dwcp_stream.cli.recent import Span, render_recent, train_recent
from dwcp_stream.errors import ConfigError
from dwcp_stream.settings import PACKED, Settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dwcp_stream.streams import StreamDefinition
    from dwcp_stream.streams.definition import ModelBinding
    from dwcp_stream.training.job import Candidate, Job, Space, Trainer


@click.command(
    epilog="""\b
Examples:
  dwcp-stream train link --data links.parquet --out models/
  dwcp-stream train consensus --data n1.csv.gz r1.csv.gz r2.csv.gz r3.csv.gz --out /tmp/models
  dwcp-stream train node --data nodes.parquet --model node-gbt --seed 3 --json
  dwcp-stream train link --recent 24h
  dwcp-stream train link --recent 30d --source archive --model link-forecast
"""
)
@click.argument("stream_name", metavar="STREAM")
@click.option(
    "--data",
    "files",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    multiple=True,
    metavar="FILE...",
    help="CSV or Parquet (also .gz) with a column per field, the time and the entity; several files may follow.",
)
@click.argument("more_files", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="")
@click.option("--recent", type=Span(), help="Instead of --data: telemetry of so long, such as 90m, 24h or 30d.")
@click.option(
    "--source",
    type=click.Choice(["kafka", "archive"]),
    default="kafka",
    show_default=True,
    help="With --recent: from the stream's topic, or from what `archive` wrote.",
)
@click.option(
    "--out",
    metavar="DIR",
    help="Model repository to publish to, a folder or a URL as models_dir has it; default: models_dir.",
)
@click.option("--model", "model_name", metavar="NAME", help="Only this one of the stream's models.")
@click.option("--epochs", type=click.IntRange(min=1), help="Passes over the data; default: the trainer's choice.")
@click.option("--trials", type=click.IntRange(min=2), help="Search the trainer's parameters in so many trainings.")
@click.option("--seed", default=0, show_default=True, help="Same seed, same data, same model.")
@click.option("--licence", metavar="TEXT", help="Licence of the data, for manifest and model card.")
@entity_option
@settings_option
@json_option
@click.pass_context
def command(
    context: click.Context,
    stream_name: str,
    files: tuple[Path, ...],
    more_files: tuple[Path, ...],
    recent: float | None,
    source: Literal["kafka", "archive"],
    out: str | None,
    model_name: str | None,
    epochs: int | None,
    trials: int | None,
    seed: int,
    licence: str | None,
    entity: str | None,
    settings: Settings,
    as_json: bool,
) -> None:
    """Train the models of STREAM on files, or on recent telemetry, and publish them as new versions.

    Each trainer splits the data itself, by time and by entity, never uses test rows to choose anything, and
    writes a report beside the model: its figures next to the trivial rules and the best simple baseline. A new
    version does not become champion, unless it is the model's first: compare, then move the alias.

    With --trials the parameters are searched first, by the loss on validation rows. The search is kept in
    DIR/.tuning (of data_dir, if DIR is a URL): the same command with more trials goes on with it, and so does one that
    was interrupted.

    With --recent, what alerts told of is left out, or is the label of incident models, as far as operators said
    whether it was right (`dwcp-stream feedback`). The last fifth of the time is held out: a candidate that is worse
    there than the champion is not published, and the exit code is 1.

    Needs the extra `train` (pip install 'dwcp-stream[train]').
    """
    if (recent is None) == (not files):
        raise click.UsageError("Give either --data FILE or --recent TIME.")
    # jax reads this once, when it is imported: one thread per operation leaves a core to the rest, and sums
    # come out in one order
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")

    from dwcp_stream.registry import ModelRepository
    from dwcp_stream.registry.storage import FolderStorage
    from dwcp_stream.streams import load_streams
    from dwcp_stream.training.job import Job
    from dwcp_stream.training.publish import publish
    from dwcp_stream.training.trainers import find_space, find_trainer

    streams = load_streams(settings.streams_dir)
    if stream_name not in streams:
        raise ConfigError(
            f"there is no stream {stream_name!r}",
            where=str(settings.streams_dir),
            remedy=f"Use one of {', '.join(sorted(streams))}",
        )
    stream = streams[stream_name]
    if recent is not None:
        if trials or entity or more_files:
            raise click.UsageError("--trials, --entity and files go with --data.")
        settings = settings.model_copy(update={"models_dir": out} if out else {})
        given = {"seed": seed, "epochs": epochs, "licence": licence}
        result = train_recent(settings, stream, _bindings(stream, model_name), recent, source, **given)
        emit(result, as_json, render_recent)
        context.exit(0 if all(row["version"] for row in result["trained"]) else 1)
    if not out and PACKED in Path(settings.models_dir).parents:
        raise ConfigError(
            "these models are the package's own, and the next upgrade replaces them",
            where=str(settings.models_dir),
            remedy="Give --out models, and set DWCP_MODELS_DIR to that folder",
        )
    repository = ModelRepository(out or settings.models_dir)
    scratch = repository.root if isinstance(repository.storage, FolderStorage) else settings.data_dir
    told = {"--epochs": epochs, "--trials": trials, "--entity": entity, "--licence": licence}
    trained = []
    for binding in _bindings(stream, model_name):
        trainer = find_trainer(binding, stream.name)
        with progress(f"{binding.name}", total=1.0) as advance:
            job = Job(
                stream=stream,
                binding=binding,
                files=(*files, *more_files),
                seed=seed,
                epochs=epochs,
                command=_command_line(stream_name, binding.name, seed, told, (*files, *more_files)),
                entity=entity,
                progress=advance_to(advance),
            )
            if trials is None:
                candidate = trainer(job)
            else:
                candidate = _tuned(job, trainer, find_space(binding, stream.name), trials, scratch)
            if licence:
                candidate = replace(candidate, licence=licence)
            version = publish(candidate, job, repository)
        trained.append(
            {
                "model": binding.name,
                "version": version,
                "folder": repository.where(binding.name, version),
                "champion": repository.aliases(binding.name).get("champion") == version,
                "metrics": dict(candidate.metrics),
            }
        )
    emit({"stream": stream_name, "trained": trained}, as_json, _render)


def _tuned(job: "Job", trainer: "Trainer", space: "Space", trials: int, root: Path) -> "Candidate":
    """Search, and return the best candidate with what was found in its metrics and report."""
    from dwcp_stream.training.tuning import tune

    found, candidate = tune(job, trainer, space, trials, root)
    if candidate is None:  # an earlier run trained it
        candidate = trainer(replace(job, parameters=found.parameters))
    metrics = {**candidate.metrics, "tuning": asdict(found)}
    chosen = ", ".join(f"{name} {value:.4g}" for name, value in found.parameters.items())
    said = (
        f"Of {found.trials} trials the best on validation rows has a loss of {found.best:.6g}, beside "
        f"{found.usual:.6g} of the trainer's own parameters. {chosen}."
    )
    report = f"{candidate.report.rstrip()}\n\n## Search of parameters\n\n{said}\n"
    return replace(candidate, metrics=metrics, report=report)


def _bindings(stream: "StreamDefinition", only: str | None) -> list["ModelBinding"]:
    chosen = [binding for binding in stream.models if only in {None, binding.name}]
    if not chosen:
        raise ConfigError(
            f"the stream {stream.name} has no model {only!r}" if only else "the stream has no models",
            where=stream.name,
            remedy=f"Use one of {', '.join(b.name for b in stream.models) or 'none'}",
        )
    return chosen


def _command_line(stream: str, model: str, seed: int, told: "Mapping[str, object]", files: tuple[Path, ...]) -> str:
    """Write the command that repeats the run, with the files' names: their folders are the reader's own."""
    words = ["dwcp-stream", "train", stream, "--model", model, "--seed", str(seed)]
    for option, value in told.items():
        words += [option, str(value)] if value else []
    return shlex.join([*words, "--data", *(path.name for path in files)])


def _render(result: dict[str, Any]) -> str:
    lines = []
    for row in result["trained"]:
        state = "champion" if row["champion"] else "not champion yet: compare it, then move the alias"
        lines += [f"{row['model']} version {row['version']} ({state})", f"  report: {row['folder']}/report.md"]
    return "\n".join(lines)

"""Judge the published link model on simulated links that it never saw: `python -m lab.evaluations.links`.

The simulator makes links of another seed than those of training; `dwcp-stream backtest --scores` runs the published
model over them, and its forecasts stand beside repeating the last value, the value of a day before, least squares on
twelve rows (also with the rows of a day before) and, if asked, AutoETS. Peers may fit on the first third of each link.
"""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import click
import polars as pl

from dwcp_stream.streams import StreamDefinition, load_stream
from lab.evaluations import forecast_peers as peers
from lab.evaluations.forecast_sets import Task
from lab.evaluations.forecasts import command, horizons_of, render
from lab.links import simulate_links

DAY = 86_400.0


def tasks_of(stream: StreamDefinition, model: str, table: pl.DataFrame) -> list[Task]:
    """Return a task per target of the stream's model; there are no training rows: the model exists."""
    binding = next(b for b in stream.models if b.name == model)
    step = float(stream.step)
    named = table.with_columns(entity=pl.concat_str(stream.entity, separator="/"))
    return [
        Task(
            name=target, stream=stream.name, target=target, step=step, horizons=binding.horizons,
            season=round(DAY / step), entity=None, train=named.clear(), test=named.select("ts", "entity", target),
            seen=False,
        )
        for target in binding.targets
    ]  # fmt: skip


def evaluate(
    table: pl.DataFrame, streams: Path, models: Path | None, folder: Path, *, with_autoets: bool
) -> list[dict[str, Any]]:
    """Backtest the champion of the stream's forecast on a table of links, and return figures per target.

    Parameters
    ----------
    table
        Rows as the simulator makes them.
    streams, models
        Folder of definitions with `link.toml`; model repository, None for that of the settings.
    folder
        Empty, for the files.
    with_autoets
        Ask AutoETS, too.
    """
    os.environ["DWCP_STREAMS_DIR"] = str(streams)
    stream = load_stream(streams / "link.toml")
    model = next(b.name for b in stream.models if b.task == "forecast")
    rows, scores = folder / "links.parquet", folder / "scores.parquet"
    table.write_parquet(rows)
    words = ["backtest", str(rows), "--stream", stream.name, "--scores", str(scores)]
    command([*words, *(["--models", str(models)] if models else [])])
    made = pl.read_parquet(scores).filter(pl.col("model") == model).with_columns(pl.col("ts").cast(pl.Float64))
    return [
        {"task": task.name, "horizons": horizons_of(task, made, with_autoets=with_autoets)}
        for task in tasks_of(stream, model, table)
    ]


@click.command(help=__doc__)
@click.option("--links", default=12, show_default=True, help="How many links, ten to a cluster.")
@click.option("--days", default=6.0, show_default=True, help="Length of the history.")
@click.option("--seed", default=11, show_default=True, help="Of the simulator; the shipped model was trained on 7.")
@click.option("--models", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Model repository.")
@click.option("--streams", type=click.Path(exists=True, file_okay=False, path_type=Path),
              default=Path("config/streams"), show_default=True, help="Folder that holds link.toml.")  # fmt: skip
@click.option("--autoets", is_flag=True, help="Also ask AutoETS; needs statsforecast.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def main(
    *, links: int, days: float, seed: int, models: Path | None, streams: Path, autoets: bool, as_json: bool
) -> None:
    """Judge the link model."""
    if autoets and not peers.has_autoets():
        raise click.ClickException("--autoets needs statsforecast: install it into a folder on PYTHONPATH")
    with tempfile.TemporaryDirectory() as folder:
        table = simulate_links(links, days, seed)
        results = evaluate(table, streams, models, Path(folder), with_autoets=autoets)
    click.echo(json.dumps({"links": links, "days": days, "seed": seed, "results": results}, indent=1)
               if as_json else render(results))  # fmt: skip


if __name__ == "__main__":
    main()

"""Evaluate the default anomaly model on any labelled CSV, beside other detectors.

    python -m lab.evaluations.labelled --train n1.csv --train n2.csv --test r1.csv --test r2.csv --step 1 --label fault
    python -m lab.evaluations.labelled --test runs.csv.gz --head 20 --entity run --time epoch_s --step 1 --label label

Without --train the first --head rows of each entity are for training, and only the others are judged. Fields are all
columns of numbers but those named otherwise (--drop), or just those given (--field). VUS-PR with a window of 20 and ROC
AUC, means over the entities that have both kinds of rows; peers have no threshold, so only the model has alarms.
"""

import tempfile
from pathlib import Path

import click
import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from dwcp_stream.training.vus import vus_pr
from lab.evaluations.harness import aligned, definition, samples, train_and_score
from lab.evaluations.output import emit_table
from lab.evaluations.peers import peers

MODEL = "dwcp-stream default"
Floats = NDArray[np.float64]
File = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.option("--train", "train_files", type=File, multiple=True, help="Files to train on; without labels is fine.")
@click.option("--test", "test_files", type=File, multiple=True, required=True)
@click.option("--head", type=click.IntRange(min=1), help="Rows of each entity to train on, instead of --train.")
@click.option("--step", type=float, required=True, help="Seconds from row to row.")
@click.option("--time", "time_column", default="ts", show_default=True)
@click.option("--label", required=True, help="Column that is not 0 (or, of words, not empty) in an abnormal row.")
@click.option("--entity", help="Column of the entity; default: the file's name.")
@click.option("--field", "chosen", multiple=True)
@click.option("--drop", multiple=True)
@click.option("--use", help="Column that is 0 in rows that are not to be judged.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def main(
    train_files: tuple[Path, ...],
    test_files: tuple[Path, ...],
    head: int | None,
    step: float,
    time_column: str,
    label: str,
    entity: str | None,
    chosen: tuple[str, ...],
    drop: tuple[str, ...],
    use: str | None,
    as_json: bool,
) -> None:
    """Train on some rows, score others, and judge."""
    if bool(train_files) == bool(head):
        raise click.UsageError("Give either --train or --head")
    tests = read(test_files, entity)
    first = next(iter(tests.values()))
    aside = {time_column, label, entity, use, *drop}
    names = list(chosen) or [c for c in first.columns if c not in aside and first[c].dtype.is_numeric()]
    trains = read(train_files, entity) if train_files else {name: table[:head] for name, table in tests.items()}
    # names of columns need not be names of fields
    fields = [f"f{i}" for i in range(len(names))]

    def laid_out(tables: dict[str, pl.DataFrame]) -> pl.DataFrame:
        parts = []
        for name, table in tables.items():
            values = dict(zip(fields, matrix(table, names).T, strict=True))
            parts.append(samples(name, table[time_column].cast(pl.Float64).to_numpy(), values))
        return pl.concat(parts).with_columns(pl.selectors.float().fill_nan(None))

    with tempfile.TemporaryDirectory() as path:
        where = Path(path)
        files = [where / "train.csv", where / "test.csv"]
        laid_out(trains).write_csv(files[0])
        laid_out(tests).write_csv(files[1])
        found = train_and_score("labelled", definition("labelled", fields, step), files[0], files[1], where)
    fitted = np.nan_to_num(np.concatenate([matrix(table, names) for table in trains.values()]))
    rows = []
    for name, table in tests.items():
        judged = np.arange(len(table)) >= (head or 0)
        judged &= table[use].to_numpy() > 0 if use else True
        on = marks(table[label])[judged]
        if on.all() or not on.any():
            continue
        ts = table[time_column].cast(pl.Float64).to_numpy()
        scores = {MODEL: np.nan_to_num(aligned(found.filter(pl.col("entity") == name), ts), nan=0.0)}
        values = np.nan_to_num(matrix(table, names))
        scores |= {peer: make(fitted, values) for peer, make in peers().items()}
        rows += [{"entity": name, "detector": d, **judge(on, s[judged])} for d, s in scores.items()]
    emit_table(summary(rows), as_json)


def read(files: tuple[Path, ...], entity: str | None) -> dict[str, pl.DataFrame]:
    """Rows by entity, each in the order of its file."""
    tables = {}
    for path in files:
        table = pl.read_csv(path, infer_schema_length=None)
        if entity is None:
            tables[path.name.split(".")[0]] = table
        else:
            for (name,), part in table.group_by([entity], maintain_order=True):
                tables[str(name)] = part
    return tables


def matrix(table: pl.DataFrame, names: list[str]) -> Floats:
    """Columns as an array [N, F], NaN where a cell is empty."""
    return np.asarray(table.select(pl.col(names).cast(pl.Float64).fill_null(float("nan"))).to_numpy(), np.float64)


def marks(column: pl.Series) -> NDArray[np.bool_]:
    """Which rows are abnormal."""
    if column.dtype.is_numeric() or column.dtype == pl.Boolean:
        return np.asarray(column.cast(pl.Float64).fill_null(0.0).to_numpy() != 0)
    return np.asarray((column.fill_null("") != "").to_numpy())


def judge(on: NDArray[np.bool_], score: Floats) -> dict[str, float]:
    """Ranks of labelled rows, and what the threshold 1 does."""
    return {
        "vus_pr": round(vus_pr(on, score), 4),
        "roc_auc": round(float(roc_auc_score(on, score)), 4),
        "labelled_over": round(float((score[on] > 1).mean()), 4),
        "quiet_over": round(float((score[~on] > 1).mean()), 4),
    }


def summary(rows: list[dict[str, object]]) -> dict[str, object]:
    """Means over entities by detector."""
    result: dict[str, object] = {"entities": len({row["entity"] for row in rows})}
    for detector in dict.fromkeys(str(row["detector"]) for row in rows):
        own = [row for row in rows if row["detector"] == detector]
        keys = ("vus_pr", "roc_auc", "labelled_over", "quiet_over") if detector == MODEL else ("vus_pr", "roc_auc")
        result[detector] = {key: round(float(np.mean([float(str(row[key])) for row in own])), 4) for key in keys}
    return result


if __name__ == "__main__":
    main()

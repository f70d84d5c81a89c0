"""Writing what a simulator made: Parquet, CSV or gzipped CSV, by the file's name."""

import gzip
from pathlib import Path

import click
import numpy as np
import polars as pl

from lab.incidents import PHASES, History, Kind
from lab.signals import Floats


def history_columns(history: History, kinds: list[Kind], keep: np.ndarray) -> dict[str, object]:
    """Return the columns that say what happened: label, kind, phase, severity."""
    names = np.array([k.name for k in kinds] + [""])
    return {
        "label": history.label[keep].astype(np.int64),
        "kind": names[history.kind[keep]].tolist(),
        "phase": np.array(PHASES)[history.phase[keep]].tolist(),
        "severity": np.round(history.severity[keep], 3),
    }


def arrived(rng: np.random.Generator, history: History, missing: float) -> np.ndarray:
    """Return which samples arrive: all but a share `missing`, fewer while an episode silences the entity."""
    return np.asarray(rng.random(history.steps) >= missing + history.silence)


def measured(rng: np.random.Generator, values: Floats, share: float) -> Floats:
    """Return the values as a collector would: six significant digits, a share of them missing (NaN)."""
    unit = 10.0 ** (5 - np.floor(np.log10(np.maximum(np.abs(values), 1e-12))))
    return np.where(rng.random(values.shape) < share, np.nan, np.round(values * unit) / unit)


def write_table(table: pl.DataFrame, path: Path) -> None:
    """Write a table; the ending of the name (.parquet, .csv, .csv.gz) says how.

    Raises
    ------
    ValueError
        If the ending is another one.
    """
    plain = table.with_columns(pl.selectors.float().fill_nan(None))
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.name.endswith(".parquet"):
        plain.write_parquet(path)
    elif path.name.endswith(".csv"):
        plain.write_csv(path)
    elif path.name.endswith(".csv.gz"):
        # no file name and no clock in the header: the same rows give the same bytes
        with path.open("wb") as raw, gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as out:
            out.write(plain.write_csv().encode())
    else:
        message = f"{path}: cannot tell the format; end the name in .parquet, .csv or .csv.gz"
        raise ValueError(message)


def report(table: pl.DataFrame, path: Path) -> None:
    """Say on stderr what was written."""
    entities = table.select(pl.struct(pl.selectors.ends_with("_id")).n_unique()).item()
    share = float(table["label"].to_numpy().mean())
    click.echo(f"{path}: {len(table)} rows, {entities} entities, {share:.2%} of rows in an incident", err=True)

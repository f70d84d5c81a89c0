"""Train and score the way a user does: a definition, `dwcp-stream train`, `dwcp-stream backtest --scores`."""

import contextlib
import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from dwcp_stream.cli.main import run

Floats = NDArray[np.float64]
WINDOW = 30
"""Rows of the window in every definition here: what an author would write without knowing the data."""


def definition(name: str, fields: Sequence[str], step: float | str, *, window: int = WINDOW) -> str:
    """Write a stream definition with one default anomaly model, `NAME-any`, and the entity `series`."""
    lines = [
        f'name = "{name}"',
        f'topic = "lab.{name}"',
        'entity = ["series"]',
        f'step = "{step}"' if isinstance(step, str) else f"step = {step}",
        f"window = {window}",
        "expire_after = 604800.0",
        *(f'[[fields]]\nname = "{field}"' for field in fields),
        f'[[models]]\nname = "{name}-any"\ntask = "anomaly"',
    ]
    return "\n".join(lines) + "\n"


def samples(series: str, ts: Floats, columns: dict[str, Floats]) -> pl.DataFrame:
    """Lay out samples of one entity as a table."""
    return pl.DataFrame({"ts": ts, "series": [series] * len(ts), **columns})


def train_and_score(name: str, text: str, train: Path | None, test: Path, folder: Path) -> pl.DataFrame:
    """Train on one file and score another, both by the command line.

    Parameters
    ----------
    name, text
        The stream and its definition.
    train, test
        Files of samples; nothing to train on: the detector that needs no training.
    folder
        For the definition, the models and the scores.

    Returns
    -------
    polars.DataFrame
        The backtest's rows: entity, ts, model, version, score, state.

    Raises
    ------
    RuntimeError
        If a command fails; its message is in the error.
    """
    (folder / "streams").mkdir(parents=True, exist_ok=True)
    (folder / "streams" / f"{name}.toml").write_text(text)
    models, scores = folder / "models", folder / f"{test.stem}.scores.csv"
    with _streams(folder / "streams"):
        if train is not None:
            _command("train", name, "--data", str(train), "--out", str(models), "--json")
        _command("backtest", str(test), "--stream", name, "--models", str(models), "--scores", str(scores), "--json")
    return pl.read_csv(scores)


def aligned(scores: pl.DataFrame, ts: Floats) -> Floats:
    """Scores [N] at the times [N] of one entity's samples; NaN where there was no verdict."""
    by_time = dict(zip(scores["ts"].to_list(), scores["score"].to_list(), strict=True))
    return np.array([by_time.get(float(t), np.nan) for t in ts])


@contextlib.contextmanager
def _streams(folder: Path) -> Iterator[None]:
    before = os.environ.get("DWCP_STREAMS_DIR")
    os.environ["DWCP_STREAMS_DIR"] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ["DWCP_STREAMS_DIR"]
        else:
            os.environ["DWCP_STREAMS_DIR"] = before


def _command(*words: str) -> None:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run(words)
    if code:
        message = f"dwcp-stream {' '.join(words)} failed: {err.getvalue()}{out.getvalue()}"
        raise RuntimeError(message)

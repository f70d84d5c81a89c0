"""A made-up stream of hosts with incidents, and small jobs on it."""

from pathlib import Path

import msgspec
import numpy as np
import polars as pl

from dwcp_stream.streams import StreamDefinition
from dwcp_stream.training.job import Job

DEFINITION = """
name = "demo"
topic = "dwcp.telemetry.demo"
entity = ["host"]
step = 10.0
window = 12
[[fields]]
name = "f0"
[[fields]]
name = "f1"
[[fields]]
name = "still"
[[fields]]
name = "f2"
[[fields]]
name = "mode"
kind = "categorical"
vocabulary = ["on", "off"]
[[models]]
name = "anything"
task = "incident"
label = "label"
"""

STREAM = msgspec.toml.decode(DEFINITION, type=StreamDefinition)


def history(entities: int, rows: int, seed: int, *, scale: float = 1.0, gaps: float = 0.03) -> pl.DataFrame:
    """Make hosts of very different levels; in an incident f0 rises by four of its spreads."""
    rng = np.random.default_rng(seed)
    parts = []
    for host in range(entities):
        label = np.zeros(rows, int)
        for start in (rows // 3, 2 * rows // 3):
            label[start : start + 12] = 1
        x = (rng.normal(0, 1, (rows, 3)) + rng.uniform(10, 60)) * scale
        x[:, 0] += 4 * scale * label
        x[rng.random(x.shape) < gaps] = np.nan
        parts.append(
            pl.DataFrame(
                {
                    "ts": 1.7e9 + 10 * np.arange(rows) + host,
                    "host": f"h{seed}-{host}",
                    "f0": x[:, 0],
                    "f1": x[:, 1],
                    "still": 7.0,
                    "f2": x[:, 2],
                    "mode": np.where(rng.random(rows) < 0.5, "on", "off").tolist(),
                    "label": label,
                }
            )
        )
    return pl.concat(parts).fill_nan(None)


def job_for(stream: StreamDefinition, table: pl.DataFrame, folder: Path, *, epochs: int = 20) -> Job:
    path = folder / "train.csv"
    table.write_csv(path)
    return Job(stream=stream, binding=stream.models[0], files=(path,), seed=1, epochs=epochs, command="train demo")

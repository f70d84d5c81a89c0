"""What a model card says of training files: hashes, samples, entities, span."""

import hashlib
from pathlib import Path

import numpy as np

from dwcp_stream.registry.card import TrainingData
from dwcp_stream.training.dataset import load_grid
from dwcp_stream.training.job import Job


def file_hash(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def training_data(job: Job) -> TrainingData | None:
    """Read a job's files once more and sum them up; None if it has none."""
    if not job.files:
        return None
    grid = load_grid(job.stream, job.files, entity=job.entity)
    ts = grid.ts[grid.filled]
    return TrainingData(
        hashes={path.name: file_hash(path) for path in job.files},
        rows=len(ts),
        entities=len(np.unique(grid.entity[grid.filled])),
        first=float(ts.min()) if len(ts) else None,
        last=float(ts.max()) if len(ts) else None,
    )

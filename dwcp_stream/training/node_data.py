"""Node telemetry for training: which rows teach, which choose the threshold, which judge."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from dwcp_stream.errors import PayloadError
from dwcp_stream.training.alarms import Rows
from dwcp_stream.training.dataset import Grid, load_grid
from dwcp_stream.training.features import FIELDS, WINDOW, field_columns
from dwcp_stream.training.job import Job

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]

TIME_CUT: Final = 0.6  # share of the time before which training and validation rows lie
SHARES: Final = {"valid": 0.2, "test": 0.3}  # shares of the entities
HISTORY: Final = ("phase", "severity", "kind")  # what the lab says beside the label; optional


@dataclass(frozen=True)
class Part:
    """The scored rows of one part of the data, by entity, then time."""

    grid: Grid
    ends: Ints
    label_column: str

    @cached_property
    def label(self) -> NDArray[np.bool_]:
        """Whether an incident is going on."""
        return np.asarray(np.nan_to_num(self._column(self.label_column)) > 0)

    @cached_property
    def rows(self) -> Rows:
        """The rows as `alarms` judges them."""
        phase, severity = self._optional("phase"), self._optional("severity")
        return Rows(
            entity=self.grid.entity[self.ends],
            ts=np.asarray(self.grid.ts[self.ends], np.float64),
            label=self.label,
            plateau=None if phase is None else np.asarray(phase == "plateau"),
            severity=None if severity is None else np.asarray(severity, np.float64),
        )

    @property
    def last(self) -> Floats:
        """The newest row of each window, [N, 12]."""
        return np.asarray(self.grid.values[self.ends][:, field_columns(self.grid.stream)], np.float32)

    def windows(self, which: Any = slice(None)) -> NDArray[np.float32]:
        """Windows [N, 15, 12] of some of the rows."""
        values, _ = self.grid.windows(self.ends[which])
        return np.asarray(values[:, -WINDOW:, field_columns(self.grid.stream)], np.float32)

    def run(self, model: bytes, outputs: Sequence[str], *, batch: int = 512) -> list[NDArray[Any]]:
        """Run an ONNX model over every row, a batch at a time; returns the outputs asked for."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        found: list[list[NDArray[Any]]] = [[] for _ in outputs]
        for start in range(0, len(self.ends), batch):
            which = slice(start, start + batch)
            time = np.asarray(self.grid.windows(self.ends[which])[1][:, -WINDOW:], np.float64)
            results = session.run(list(outputs), {"window": self.windows(which), "time": time})
            for collected, result in zip(found, results, strict=True):
                collected.append(result)
        return [np.concatenate(collected) for collected in found]

    def _column(self, name: str) -> NDArray[Any]:
        return self.grid.columns[name][self.ends]

    def _optional(self, name: str) -> NDArray[Any] | None:
        return self._column(name) if name in self.grid.columns else None


@dataclass(frozen=True)
class NodeData:
    """Training, validation and test rows: no entity is in two parts, and test lies after the others."""

    train: Part
    valid: Part
    test: Part
    cut: float


def load_node_data(job: Job) -> NodeData:
    """Read a job's files and split them by entity and time; rows whose label is unknown are in no part.

    Raises
    ------
    PayloadError
        If a file has no label column, or there are fewer than three entities, or a part has no incident.
    """
    label = job.binding.label or "label"
    grid = load_grid(job.stream, job.files, extra=[label, *HISTORY], entity=job.entity)
    where = ", ".join(str(path) for path in job.files)
    if label not in grid.columns:
        raise PayloadError(f"no column {label!r}", where=where, remedy="Give a file with labels, 1 for incident")
    count = len(grid.entities)
    if count < 3:
        raise PayloadError(f"{count} entities", where=where, remedy="Give three or more: they are split in three")
    sizes = {name: max(1, round(share * count)) for name, share in SHARES.items()}
    order = np.random.default_rng(job.seed).permutation(count)
    part_of = np.zeros(count, np.int64)
    part_of[order[: sizes["valid"]]] = 1
    part_of[order[sizes["valid"] : sizes["valid"] + sizes["test"]]] = 2
    ends = grid.ends()
    ends = ends[np.isfinite(grid.columns[label][ends])]
    ts, part = grid.ts[ends], part_of[grid.entity[ends]]
    cut = float(ts.min() + TIME_CUT * (ts.max() - ts.min()))
    train, valid, test = (
        Part(grid, ends[(part == number) & ((ts >= cut) if number == 2 else (ts < cut))], label) for number in range(3)
    )
    for name, each in (("training", train), ("validation", valid), ("test", test)):
        if not each.label.any() or each.label.all():
            raise PayloadError(
                f"the {name} part has {int(each.label.sum())} labelled rows of {len(each.ends)}",
                where=where,
                remedy="Give a longer file or more entities, with incidents and normal time",
            )
    return NodeData(train, valid, test, cut)


def thinned(part: Part, most: int, seed: int) -> tuple[Ints, NDArray[np.float32]]:
    """Pick all labelled rows and at most `most` others: positions, and weights that restore the shares."""
    normal, labelled = np.flatnonzero(~part.label), np.flatnonzero(part.label)
    kept = np.random.default_rng(seed).choice(normal, min(most, len(normal)), replace=False)
    rows = np.sort(np.concatenate([labelled, kept]))
    weight = np.where(part.label[rows], 1.0, len(normal) / max(len(kept), 1))
    return rows, weight.astype(np.float32)


def typical_values(part: Part, *, least: int = 200) -> NDArray[np.float32]:
    """Median of each gauge in unlabelled rows, by mode and tier.

    Returns
    -------
    ndarray of shape (modes * tiers + 1, 10)
        Row `mode * tiers + tier`; a pair with fewer than `least` rows, and the last row, hold the medians of
        all.
    """
    stream, rows = part.grid.stream, part.last[~part.label]
    modes, tiers = (len(stream.fields[stream.field_index(name)].vocabulary) for name in FIELDS[-2:])
    overall = np.nan_to_num(np.nanmedian(rows[:, :10], axis=0))
    table = np.tile(overall, (modes * tiers + 1, 1)).astype(np.float32)
    pair = rows[:, 10] * tiers + rows[:, 11]
    for number in np.unique(pair[np.isfinite(pair)]):
        of_pair = rows[pair == number, :10]
        if len(of_pair) >= least:
            middle = np.nanmedian(of_pair, axis=0)
            table[int(number)] = np.where(np.isnan(middle), overall, middle)
    return table

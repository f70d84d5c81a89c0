"""Labelled rows of a stream, and the parts they are split into: by entity, or by time where entities are few."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dwcp_stream.errors import PayloadError
from dwcp_stream.training.dataset import Grid, load_grid
from dwcp_stream.training.job import Job

Bools = NDArray[np.bool_]
Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]

FOLDS: Final = 5
LEAST_ROWS: Final = 8  # labelled rows, and unlabelled ones, below which nothing can be learnt


@dataclass(frozen=True)
class IncidentData:
    """Scored rows of all files, by file, entity and time.

    Attributes
    ----------
    grid
        Rows on the time grid.
    ends
        [N] rows that the daemon would score.
    label
        [N] 1 in an incident, 0 outside, NaN for rows that count neither way.
    """

    grid: Grid
    ends: Ints
    label: Floats

    @cached_property
    def group(self) -> Ints:
        """[N] number of the entity; an entity in two files is two."""
        return np.asarray(self.grid.source[self.ends] * (len(self.grid.entities) + 1) + self.grid.entity[self.ends])

    @cached_property
    def begins(self) -> Bools:
        """[N] whether the daemon knows nothing of the entity: its first row, or after it had expired."""
        silent = np.diff(self.grid.ts[self.ends]) > self.grid.stream.expire_after
        return np.concatenate([[True], (np.diff(self.group) != 0) | silent])

    @property
    def known(self) -> Bools:
        """[N] rows with a label."""
        return np.isfinite(self.label)

    @property
    def incident(self) -> Bools:
        """[N] rows in an incident."""
        return np.asarray(np.nan_to_num(self.label) > 0)

    @property
    def normal(self) -> Bools:
        """[N] rows that are labelled as no incident."""
        return self.known & ~self.incident

    @cached_property
    def event(self) -> Ints:
        """[N] number of the incident that a row belongs to, -1 for none; a row without a label does not end one."""
        label, group = self.label, self.group
        known = np.flatnonzero(self.known)
        on = label[known] > 0
        new = np.concatenate([[True], (group[known][1:] != group[known][:-1]) | ~on[:-1]])
        event = np.full(len(label), -1, np.int64)
        event[known] = np.where(on, np.cumsum(on & new) - 1, -1)
        return event

    @property
    def newest(self) -> NDArray[np.float32]:
        """[N, F] newest row of each window."""
        return self.grid.values[self.ends]


@dataclass(frozen=True)
class Folds:
    """Parts that are judged in turn by a model of the others.

    Attributes
    ----------
    number
        [N] part of each row.
    by_entity
        Whether a part holds whole entities; if not, it is a stretch of time of each.
    """

    number: Ints
    by_entity: bool

    @property
    def count(self) -> int:
        """Number of parts."""
        return int(self.number.max()) + 1


def load_incident_data(job: Job) -> IncidentData:
    """Read a job's files.

    Raises
    ------
    PayloadError
        If there is no label column, it does not hold numbers, or one of the two classes is (nearly) absent.
    """
    label = job.binding.label or "label"
    where = ", ".join(path.name for path in job.files)
    grid = load_grid(job.stream, job.files, extra=(label,), entity=job.entity)
    if label not in grid.columns:
        raise PayloadError(
            f"no column {label!r}",
            where=where,
            remedy=f"Add it to each file: 1 in an incident, 0 outside, empty where unknown; or name another column "
            f"as `label` of the model {job.binding.name} in the stream's definition",
        )
    marks = grid.columns[label]
    if marks.dtype == object:
        words = sorted({str(word) for word in marks} - {""})[:3]
        raise PayloadError(
            f"the column {label!r} holds words such as {', '.join(words) or 'nothing at all'}",
            where=where,
            remedy="Write 1 in an incident, 0 outside, nothing where it is unknown",
        )
    ends = grid.ends()
    data = IncidentData(grid, ends, np.asarray(marks[ends], np.float64))
    incident, normal = int(data.incident.sum()), int(data.normal.sum())
    if min(incident, normal) < LEAST_ROWS:
        raise PayloadError(
            f"{incident} rows in an incident and {normal} normal ones in the column {label!r}",
            where=where,
            remedy=f"Give at least {LEAST_ROWS} of both; without labels, train a model with the task anomaly",
        )
    return data


def split(data: IncidentData, seed: int, most: int = FOLDS) -> Folds:
    """Split rows into parts, each with incidents.

    Whole entities go to a part where at least `most` entities have incidents. Otherwise each entity's time is
    cut half way between incidents, and neighbouring stretches go together. A single incident is cut in two.
    """
    group, incident = data.group, data.incident
    groups = np.unique(group)
    position = np.searchsorted(groups, group)
    labelled = np.bincount(position[incident], minlength=len(groups))
    if (labelled > 0).sum() >= most:
        rows = np.bincount(position, minlength=len(groups))
        return Folds(_by_entity(labelled, rows, seed, most)[position], True)
    return Folds(_by_time(data, most), False)


def _by_entity(labelled: Ints, rows: Ints, seed: int, count: int) -> Ints:
    """Part of each entity: the part that is emptiest so far, first of labelled rows, then of rows."""
    order = np.random.default_rng(seed).permutation(len(rows))
    order = order[np.argsort(-labelled[order], kind="stable")]
    part = np.zeros(len(rows), np.int64)
    held, size = np.zeros(count), np.zeros(count)
    for entity in order:
        measure = held if labelled[entity] > 0 else size
        part[entity] = int(np.lexsort((size, measure))[0])
        held[part[entity]] += labelled[entity]
        size[part[entity]] += rows[entity]
    return part


def _by_time(data: IncidentData, most: int) -> Ints:
    event = data.event.copy()
    count = int(event.max()) + 1
    if count == 1:
        rows = np.flatnonzero(event == 0)
        event[rows[len(rows) // 2 :]] = 1
        count = 2
    first = np.searchsorted(np.where(event < 0, -1, event)[(order := np.argsort(event, kind="stable"))], range(count))
    first = order[first]
    last = order[np.searchsorted(event[order], range(count), side="right") - 1]
    number = np.empty(len(event), np.int64)
    begin = 0
    for i in range(count):
        end = len(event) if i == count - 1 else _between(data, int(last[i]), int(first[i + 1]))
        number[begin:end] = i * min(most, count) // count
        begin = end
    return number


def _between(data: IncidentData, last: int, first: int) -> int:
    """Row at which the next incident's stretch begins: where another entity does, or half way."""
    changes = np.flatnonzero(np.diff(data.group[last : first + 1])) + last + 1
    return int(changes[len(changes) // 2]) if len(changes) else (last + first + 1) // 2


def apart(data: IncidentData, part: Bools) -> Bools:
    """[N] rows that share no row of a window with the rows of a part."""
    marked = np.zeros(len(data.grid.ts) + 1, np.int64)
    marked[data.ends[part]] = 1
    counts = np.concatenate([[0], np.cumsum(marked)])
    reach = data.grid.stream.window - 1
    low, high = np.maximum(data.ends - reach, 0), np.minimum(data.ends + reach, len(marked) - 1)
    # rows of another entity lie at least a window's empty rows away, so that they are never caught here
    return np.asarray(counts[high + 1] == counts[low])

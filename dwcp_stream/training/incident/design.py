"""What the incident model's graph is built from: its fields, their scales, and the lengths it looks back.

Everything here is fitted on unlabelled training rows and written into the graph as constants.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dwcp_stream.errors import PayloadError
from dwcp_stream.streams import StreamDefinition

F32 = NDArray[np.float32]
Floats = NDArray[np.floating[Any]]

LIMIT: Final = 40.0  # of a scaled value: sinh of it is still finite in float32
LEAST_SPREAD: Final = 1e-3  # of a scaled value, whose middle half is about one wide
SHORT: Final = 3  # rows that the shorter statistics look back; the longer ones see the whole window
LEAST_GAPS: Final = 1e-3  # share of missing values from which it is worth a look
MOST_GROUPS: Final = 1000  # entities that typical spreads are taken from
MOST_WORDS: Final = 32  # of one vocabulary that get a feature of their own


@dataclass(frozen=True)
class Design:
    """Constants of the graph.

    Attributes
    ----------
    fields
        Names of the fields that the model reads: P numeric ones, then those with a vocabulary.
    words
        Per field with a vocabulary the codes that get a feature of their own.
    center, scale
        [P], in the fields' units; a value x becomes asinh((x - center) / scale).
    spread
        [P] typical mean distance of scaled values from their entity's own level.
    gappy
        Positions of the numeric fields that miss values in the training rows.
    window
        Rows of the graph's window.
    calm, strange
        Mean distance over the fields, in spreads, up to which a row fully belongs to its entity's normal, and
        from which it hardly does.
    """

    fields: tuple[str, ...]
    words: tuple[tuple[int, ...], ...]
    center: F32
    scale: F32
    spread: F32
    gappy: tuple[int, ...]
    window: int
    calm: float = 3.0
    strange: float = 6.0

    @property
    def numeric(self) -> int:
        """P, the number of numeric fields."""
        return len(self.center)

    @property
    def state_size(self) -> int:
        """Numbers that the graph remembers of an entity: level, spread and weight of each numeric field."""
        return 3 * self.numeric

    @property
    def lengths(self) -> tuple[int, ...]:
        """Rows that statistics look back, ascending; the last is the whole window."""
        return tuple(sorted({min(SHORT, self.window), self.window}))

    def columns(self, stream: StreamDefinition) -> list[int]:
        """Return where the model's fields are in the stream's windows."""
        return [stream.field_index(name) for name in self.fields]

    def scaled(self, values: Floats) -> NDArray[np.float64]:
        """Scale values [..., P]; the plain definition of what the graph does."""
        distance = (np.asarray(values, np.float64) - self.center) / self.scale
        return np.asarray(np.clip(np.arcsinh(distance), -LIMIT, LIMIT))


def fit_design(
    stream: StreamDefinition, values: Floats, group: NDArray[np.int64], normal: NDArray[np.bool_], *, where: str = ""
) -> Design:
    """Choose fields and scales.

    Parameters
    ----------
    stream
        Its definition.
    values
        [N, F] training rows, all fields of the stream, NaN = missing.
    group
        [N] entity of each row.
    normal
        [N] rows that are not labelled; scales come from these.
    where
        Files, for the error.

    Returns
    -------
    Design
        Without the fields that never change in these rows: nothing can be learnt from them.

    Raises
    ------
    PayloadError
        If no field is left.
    """
    coded = set(stream.categorical)
    moving = [i for i in range(values.shape[1]) if _moves(values[:, i])]
    numeric, with_words = [i for i in moving if i not in coded], [i for i in moving if i in coded]
    if not numeric:
        raise PayloadError(
            "no numeric field changes in the training rows",
            where=where,
            remedy="Check that the columns are named as in the stream's definition, and hold numbers",
        )
    center, scale = np.transpose([_scale(values[normal, i], values[:, i]) for i in numeric])
    draft = Design(
        fields=tuple(stream.fields[i].name for i in (*numeric, *with_words)),
        words=tuple(_words(values[:, i]) for i in with_words),
        center=center.astype(np.float32),
        scale=scale.astype(np.float32),
        spread=np.ones(len(numeric), np.float32),
        gappy=tuple(p for p, i in enumerate(numeric) if np.isnan(values[:, i]).mean() > LEAST_GAPS),
        window=stream.window,
    )
    scaled = draft.scaled(values[normal][:, numeric])
    return replace_spread(draft, _spreads(scaled, group[normal]))


def replace_spread(design: Design, spread: Floats) -> Design:
    """Return the design with other spreads [P], none under the least."""
    return Design(**{**vars(design), "spread": np.maximum(spread, LEAST_SPREAD).astype(np.float32)})


def _moves(column: Floats) -> bool:
    known = column[np.isfinite(column)]
    return len(known) > 1 and bool((known != known[0]).any())


def _scale(normal: Floats, every: Floats) -> tuple[float, float]:
    """Median, and the width of the middle half in standard deviations of a Gaussian; wider measures if that is 0."""
    known = normal[np.isfinite(normal)].astype(np.float64)
    known = known if len(known) else every[np.isfinite(every)].astype(np.float64)
    low, center, high = np.quantile(known, [0.25, 0.5, 0.75])
    everything = every[np.isfinite(every)].astype(np.float64)
    widths = ((high - low) / 1.349, known.std(), float(np.abs(everything - center).max()))
    # a field that hardly ever moves has a middle half of width 0 or of rounding errors
    return float(center), next((w for w in widths if w > 1e-6 * max(abs(center), 1e-30)), 1.0)


def _words(column: Floats) -> tuple[int, ...]:
    codes, count = np.unique(column[np.isfinite(column)], return_counts=True)
    return tuple(sorted(int(code) for code in codes[np.argsort(-count, kind="stable")][:MOST_WORDS]))


def _spreads(scaled: Floats, group: NDArray[np.int64]) -> Floats:
    """Median over entities of the mean distance from the entity's median; the mean where that is 0."""
    groups = [rows for rows in _groups(group) if len(rows) > 1]
    groups = groups[:: len(groups) // MOST_GROUPS + 1]
    if not groups:  # a row each: there is no such thing as an entity's own spread, values differ by about 1
        return np.ones(scaled.shape[1])
    found: list[Floats] = []
    for rows in groups:
        values = scaled[rows]
        known = np.isfinite(values)
        enough = known.sum(axis=0) > 1
        middle = np.zeros(values.shape[1])
        middle[enough] = np.nanmedian(values[:, enough], axis=0)
        distance = np.where(known, np.minimum(np.abs(values - middle), 5.0), 0.0)
        found.append(np.where(enough, distance.sum(axis=0) / np.maximum(known.sum(axis=0), 1), np.nan))
    table = np.array(found)
    counted = np.isfinite(table).any(axis=0)
    median, mean = np.zeros(table.shape[1]), np.zeros(table.shape[1])
    median[counted], mean[counted] = np.nanmedian(table[:, counted], axis=0), np.nanmean(table[:, counted], axis=0)
    return np.where(~counted, 1.0, np.where(median > 0, median, mean))


def _groups(group: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    order = np.argsort(group, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(group[order])) + 1) if len(order) else []

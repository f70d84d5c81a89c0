"""What a forecaster is made of, chosen from training rows: columns, transformation, seasons and their usual course."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dwcp_stream.errors import PayloadError
from dwcp_stream.streams.definition import ModelBinding
from dwcp_stream.training.dataset import Grid, Ints
from dwcp_stream.training.forecast.layout import Layout, Season, Transform
from dwcp_stream.training.forecast.memory import Shapes

DAY, WEEK = 86_400.0, 604_800.0
MAX_WINDOW, MAX_COVARIATES = 64, 8
MAX_SLOTS, MAX_STATE = 288, 8192
"""Slots of a season, and numbers that one season may take in an entity's state."""
WIDE = 2.0
"""A positive target is seen as a logarithm if its 99th percentile is so many times its first, within an entity."""
ROUGH = 0.35
"""But not if its logarithm moves by more than that from row to row: what is forecast too high is then far too high."""
PERIODS = 3.0
"""Whole periods that an entity's training rows must span for a season to be tried."""
PEAK = 0.3
"""Autocorrelation that the rows' own period must reach."""


def plan(grid: Grid, binding: ModelBinding, train: Ints) -> Layout:
    """Choose everything but the seasons.

    Parameters
    ----------
    grid, binding
        The rows and what is to be forecast.
    train
        Rows that may be looked at.

    Raises
    ------
    PayloadError
        If a target is a word, or has no value in the training rows.
    """
    stream = grid.stream
    targets, horizons = binding.targets, binding.horizons
    if not targets:
        raise PayloadError("no field can be forecast", where=binding.name, remedy="Name targets that are gauges")
    transforms = []
    for name in targets:
        field = stream.fields[stream.field_index(name)]
        if field.coded:
            raise PayloadError(f"the target {name!r} is a word", where=binding.name, remedy="Name numeric fields")
        transforms.append(_transform(grid, train, stream.field_index(name), name, field.min, field.max))
    others = tuple(f.name for f in stream.fields if not f.coded and f.kind != "constant" and f.name not in targets)
    names = (*targets, *others)
    chosen = _telling(grid, train, [stream.field_index(n) for n in names], len(targets), horizons)
    others = tuple(names[i] for i in chosen if i >= len(targets))
    fields = (*targets, *others)
    covariates = tuple(fields.index(names[i]) for i in chosen)
    steps = np.diff(grid.ts[train])
    usual = float(np.median(steps[steps > 0])) if (steps > 0).any() else 1.0
    return Layout(
        fields=fields,
        targets=targets,
        transforms=tuple(transforms),
        covariates=covariates,
        horizons=horizons,
        window=min(stream.window, MAX_WINDOW),
        stride=stream.stride,
        step=usual if isinstance(stream.step, str) else float(stream.step),
        irregular=stream.irregular,
    )


def transformed(values: NDArray[np.float32], shape: Layout) -> NDArray[np.float32]:
    """Targets [..., Y] as the graph sees them."""
    result = np.array(values, np.float32)
    for i, t in enumerate(shape.transforms):
        if t.log:
            result[..., i] = np.log(np.fmax(result[..., i], np.float32(t.floor))) + 0 * values[..., i]
    return result


def restored(values: NDArray[np.floating], shape: Layout) -> NDArray[np.float64]:
    """Undo `transformed`."""
    result = np.array(values, np.float64)
    for i, t in enumerate(shape.transforms):
        if t.log:
            result[..., i] = np.exp(result[..., i])
    return result


def season_choices(shape: Layout, grid: Grid, train: Ints) -> list[tuple[Season, ...]]:
    """Return sets of seasons worth a trial, plainest first: none, a day, a day and a week, the rows' own period."""
    spans = [float(np.ptp(grid.ts[rows])) for rows in by_entity(grid, train)]
    span = float(np.median(spans))
    fits = [s for s in (DAY, WEEK) if s / shape.step >= 4 and span >= PERIODS * s]
    choices: list[tuple[float, ...]] = [
        (),
        *([(DAY,)] if DAY in fits else []),
        *([(DAY, WEEK)] if WEEK in fits else []),
    ]
    own = own_period(grid, train, shape)
    if own is not None and all(abs(own * shape.step / s - 1.0) > 0.05 for s in fits):
        choices += [(own * shape.step,), *([(own * shape.step, DAY)] if DAY in fits else [])]
    most = min(MAX_SLOTS, MAX_STATE // (2 * len(shape.targets)))
    if most < 4:
        return [()]
    return [tuple(Season(s, max(2, min(most, round(s / shape.step)))) for s in choice) for choice in choices]


def own_period(grid: Grid, train: Ints, shape: Layout) -> int | None:
    """Rows after which the training rows repeat themselves: the first high peak of the autocorrelation, or None."""
    total: list[NDArray[np.float64]] = []
    for rows in by_entity(grid, train)[:8]:
        values = transformed(grid.values[rows][:, _columns(grid, shape)], shape).astype(np.float64)
        for column in values.T[:8]:
            known = np.isfinite(column)
            if known.sum() >= 32 and np.ptp(column[known]) > 0:
                total.append(_autocorrelation(np.where(known, column, np.median(column[known]))))
    if not total:
        return None
    size = min(map(len, total))
    mean = np.mean([a[:size] for a in total], axis=0)
    first_dip = int(np.argmax(mean < 0)) if (mean < 0).any() else 0
    if not first_dip or first_dip + 1 >= size:
        return None
    peak = first_dip + int(np.argmax(mean[first_dip:]))
    inside = 4 <= peak < size - 1 and mean[peak] >= PEAK
    return peak if inside else None


def usual_courses(shape: Layout, grid: Grid, train: Ints) -> Shapes:
    """Mean course of each season over training rows, [Y, slots] each.

    An entity's course is what is left when the mean of each period is taken away. Where entities differ in size (see
    `Transform.relative`) it is put in units of the entity's mean step, which is what the graph's scale estimates.
    """
    groups = by_entity(grid, train)
    courses = []
    for season in shape.seasons:
        sums = np.zeros((len(shape.targets), season.slots))
        counts = np.zeros_like(sums)
        for rows in groups:
            values = transformed(grid.values[rows][:, _columns(grid, shape)], shape).astype(np.float64)
            slot = slots_of(grid.ts[rows], season, shape.step)
            period = np.floor(grid.ts[rows] / season.seconds).astype(np.int64)
            period -= period.min()
            for i, column in enumerate(values.T):
                known = np.isfinite(column)
                steps = np.abs(np.diff(column))
                steps = steps[np.isfinite(steps)]
                unit = float(steps.mean()) if shape.transforms[i].relative and len(steps) else 1.0
                if not known.any() or unit == 0.0:
                    continue
                n = np.bincount(period[known])
                mean = np.bincount(period[known], column[known]) / np.maximum(n, 1)
                off = (column[known] - mean[period[known]]) / unit
                sums[i] += np.bincount(slot[known], off, season.slots)
                counts[i] += np.bincount(slot[known], minlength=season.slots)
        courses.append((sums / np.maximum(counts, 1)).astype(np.float32))
    return tuple(courses)


def slots_of(ts: NDArray[np.float64], season: Season, step: float) -> Ints:
    """Slot of times; the numpy twin of the graph's."""
    periods = (ts + 0.5 * min(step, season.seconds / season.slots)) / season.seconds
    place = np.floor((periods - np.floor(periods)) * season.slots)
    return np.minimum(place, season.slots - 1).astype(np.int64)


def by_entity(grid: Grid, rows: Ints) -> list[Ints]:
    """Rows of each entity, in order of time."""
    order = rows[np.lexsort((grid.ts[rows], grid.entity[rows]))]
    return np.split(order, np.flatnonzero(np.diff(grid.entity[order])) + 1) if len(order) else []


def _columns(grid: Grid, shape: Layout) -> list[int]:
    return [grid.stream.field_index(name) for name in shape.targets]


def _transform(grid: Grid, train: Ints, column: int, name: str, low: float | None, high: float | None) -> Transform:
    values = grid.values[train, column].astype(np.float64)
    known = values[np.isfinite(values)]
    if not len(known):
        raise PayloadError(f"the target {name!r} has no value", remedy="Name targets that the files have")
    ratios = []
    if known.min() > 0:
        for rows in by_entity(grid, train):
            own = grid.values[rows, column].astype(np.float64)
            own = own[np.isfinite(own)]
            if len(own):
                ratios.append(np.quantile(own, 0.99) / np.quantile(own, 0.01))
    log = bool(ratios) and float(np.median(ratios)) >= WIDE and _smooth(grid, train, column)
    floor = float(np.float32(0.1 * known.min())) if log else 0.0
    groups = by_entity(grid, train)
    seen = [np.log(grid.values[rows, column]) if log else grid.values[rows, column] for rows in groups]
    steps = [float(np.nanmean(np.abs(np.diff(own)))) for own in seen if np.isfinite(np.diff(own)).any()]
    moving = [step for step in steps if step > 0]
    usual = float(np.median(moving)) if moving else max(1e-6 * float(np.abs(known).mean()), 1e-30)
    return Transform(log, floor, low, high, usual, relative=not log and len(groups) > 1)


def _smooth(grid: Grid, train: Ints, column: int) -> bool:
    """Tell whether a positive target's logarithm moves by little from row to row."""
    moves = [np.abs(np.diff(np.log(grid.values[rows, column]))) for rows in by_entity(grid, train)]
    known = [float(np.nanmean(own)) for own in moves if np.isfinite(own).any()]
    return bool(known) and float(np.median(known)) <= ROUGH


def _autocorrelation(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Autocorrelation up to a third of the length, of what is left when a straight line is taken away."""
    t = np.arange(len(x))
    x = x - np.polyval(np.polyfit(t, x, 1), t)
    power = np.abs(np.fft.rfft(x, 2 * len(x))) ** 2
    sums = np.fft.irfft(power)[: len(x) // 3]
    return np.asarray(sums / max(sums[0], 1e-300))


def _telling(grid: Grid, train: Ints, columns: Sequence[int], targets: int, horizons: Sequence[int]) -> list[int]:
    """Positions in `columns` whose distance to the row before goes with a target's next change, best first."""
    if len(columns) == 1:
        return []
    values = grid.values[:, list(columns)].astype(np.float64)
    rows = train[(train > 0) & (train + horizons[0] < len(values))]
    rows = rows[grid.entity[rows + horizons[0]] == grid.entity[rows]][-50_000:]
    worth = np.zeros(len(columns))
    for y in range(targets):
        change = values[rows + horizons[0], y] - values[rows, y]
        for i in range(len(columns)):
            worth[i] = max(worth[i], _rank_correlation(values[rows, i] - values[rows - 1, i], change))
    best = np.argsort(-worth, kind="stable")[:MAX_COVARIATES]
    return sorted(int(i) for i in best if worth[i] > 0)


def _rank_correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Size of Spearman's correlation of the rows where both are known; 0 where it has no meaning."""
    known = np.isfinite(a) & np.isfinite(b)
    if known.sum() < 8 or np.ptp(a[known]) == 0 or np.ptp(b[known]) == 0:
        return 0.0
    ranks = [np.argsort(np.argsort(v[known], kind="stable"), kind="stable").astype(np.float64) for v in (a, b)]
    return float(abs(np.corrcoef(ranks[0], ranks[1])[0, 1]))

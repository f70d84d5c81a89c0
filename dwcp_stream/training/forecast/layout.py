"""Columns, seasons and state of a forecaster: sizes only, no weights."""

from dataclasses import dataclass, replace
from itertools import pairwise

MEDIANS = (3, 5, 9)
"""Rows over which the newest value is compared with a median: one odd sample moves the first by little."""
MAX_LAGS = 24
TRACKED = 32
"""Forecasts of a horizon that are remembered until their time comes; of a longer one the first of each span."""
PER_FORECAST = 5
"""Numbers kept of a forecast and target: q10, q50, q90, the model's own median, the value that was repeated."""
NUMBERS = 1 << 20
"""Row numbers are kept modulo this: float32 holds every whole number up to 16 times as many."""


@dataclass(frozen=True)
class Season:
    """A period that the target may repeat itself after, cut into slots counted from the epoch.

    Attributes
    ----------
    seconds
        Its length.
    slots
        Values remembered per period.
    """

    seconds: float
    slots: int


@dataclass(frozen=True)
class Transform:
    """How a target is seen.

    Attributes
    ----------
    log, floor
        Whether as its logarithm, and the least value that this is taken of.
    low, high
        Bounds of forecasts, in the target's unit.
    step
        Usual distance of two rows in training, as the target is seen: the scale until an entity has shown its own.
    relative
        Whether the usual courses are in units of the scale, because entities differ.
    """

    log: bool
    floor: float
    low: float | None
    high: float | None
    step: float = 1.0
    relative: bool = False


@dataclass(frozen=True)
class Layout:
    """What a forecaster reads and remembers.

    Attributes
    ----------
    fields
        The graph's columns: the targets, then further covariates.
    targets, transforms
        Y names, and how each is seen.
    covariates
        Positions in `fields` of the columns whose newest move may tell of the targets'.
    horizons
        H horizons in rows.
    window, stride
        Rows of the graph's window, and rows between two windows.
    step
        Seconds between rows; for an irregular stream the usual distance in training.
    irregular
        Whether rows are counted rather than timed.
    seasons
        None, or day, week and what else was found.
    """

    fields: tuple[str, ...]
    targets: tuple[str, ...]
    transforms: tuple[Transform, ...]
    covariates: tuple[int, ...]
    horizons: tuple[int, ...]
    window: int
    stride: int
    step: float
    irregular: bool
    seasons: tuple[Season, ...] = ()

    def with_seasons(self, seasons: tuple[Season, ...]) -> "Layout":
        """Return the same layout with other seasons."""
        return replace(self, seasons=seasons)

    @property
    def lags(self) -> int:
        """Rows before the newest that the linear part weighs one by one."""
        return min(self.window - 1, MAX_LAGS)

    @property
    def medians(self) -> tuple[int, ...]:
        """Widths of the medians that fit the window."""
        return tuple(k for k in MEDIANS if k <= self.window)

    @property
    def common(self) -> int:
        """Features of a target that all horizons share: I."""
        seasons = 2 * len(self.seasons) + 1 if self.seasons else 0
        return self.lags + len(self.medians) + 3 + 2 * len(self.covariates) + seasons

    @property
    def cold(self) -> float:
        """Windows of an entity until its shortest season has been seen once; the last common feature says so."""
        return min((s.seconds / self.step / self.stride for s in self.seasons), default=0.0)

    @property
    def seasonal(self) -> int:
        """Features of a target and horizon: J."""
        return 2 * len(self.seasons)

    @property
    def memory(self) -> int:
        """Numbers that the features carry on: the row number, (count, scale, level) per target, seasons."""
        return 1 + 3 * len(self.targets) + sum(2 * s.slots for s in self.seasons) * len(self.targets)

    def tracked(self, horizon: int) -> int:
        """How many forecasts of a horizon wait for their time at once."""
        return min(horizon, TRACKED)

    @property
    def blocks(self) -> tuple[tuple[int, int], ...]:
        """Begin and end in the state of the forecasts that wait, per horizon."""
        width = PER_FORECAST * len(self.targets) + 1
        ends = [self.memory]
        for horizon in self.horizons:
            ends.append(ends[-1] + self.tracked(horizon) * width)
        return tuple(pairwise(ends))

    @property
    def state(self) -> int:
        """Numbers kept per entity: memory, waiting forecasts, and 4 per horizon and target for judging them."""
        return self.blocks[-1][1] + 4 * len(self.horizons) * len(self.targets)

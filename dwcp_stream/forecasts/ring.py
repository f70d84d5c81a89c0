"""Where forecasts wait for their actual: per entity and horizon a ring as long as the horizon."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dwcp_stream.errors import MISFITS, NewerStateError, StateError

STATE_VERSION = 1
PARTS = 6
"""q10, q50, q90, value at the time of issue, corrected q10, corrected q90."""

I64 = NDArray[np.int64]


@dataclass(slots=True)
class Waiting:
    """Forecasts out of the ring, n of them.

    Attributes
    ----------
    group
        int64[n], which of the slots asked for.
    steps, horizon, version
        Grid steps from the slot's newest row to the target, index of the horizon, and model version.
    values
        float32[n, Y, 6], see `PARTS`.
    """

    group: I64
    steps: I64
    horizon: I64
    version: NDArray[np.int32]
    values: NDArray[np.float32]

    @classmethod
    def joined(cls, *parts: "Waiting") -> "Waiting":
        """Return several one after the other."""
        return cls(
            np.concatenate([p.group for p in parts]),
            np.concatenate([p.steps for p in parts]),
            np.concatenate([p.horizon for p in parts]),
            np.concatenate([p.version for p in parts]),
            np.concatenate([p.values for p in parts]),
        )


class PendingRing:
    """Pending forecasts of all slots, addressed by target step modulo horizon.

    A forecast for a target is written to the place that the forecast for the issuing row itself has just
    left, so a horizon of h steps needs h places.

    Parameters
    ----------
    horizons
        Horizons in grid steps, each at least 1.
    targets
        Names of the Y targets.
    """

    def __init__(self, horizons: Sequence[int], targets: Sequence[str]) -> None:
        self.horizons, self.targets = tuple(horizons), tuple(targets)
        self.begin = np.concatenate(([0], np.cumsum(self.horizons))).astype(np.int64)
        places = int(self.begin[-1])
        self.version: NDArray[np.int32] = np.zeros((0, places), np.int32)
        self.values: NDArray[np.float32] = np.zeros((0, places, len(self.targets), PARTS), np.float32)
        self.head: I64 = np.zeros(0, np.int64)
        self.row: I64 = np.zeros(0, np.int64)
        self.ts: NDArray[np.float64] = np.zeros(0)

    def resize(self, capacity: int) -> None:
        """Make room for `capacity` slots; never shrinks."""
        more = capacity - len(self.head)
        if more > 0:
            for name, empty in (("version", 0), ("values", 0), ("head", 0), ("row", -1), ("ts", np.nan)):
                old = getattr(self, name)
                block = np.full((more, *old.shape[1:]), empty, old.dtype)
                setattr(self, name, np.concatenate((old, block)))

    def clear(self, slots: I64) -> None:
        """Forget the slots."""
        self.version[slots] = 0
        self.head[slots] = 0
        self.row[slots] = -1
        self.ts[slots] = np.nan

    def place(self, j: int, step: I64) -> I64:
        """Return the place of a forecast of the j-th horizon for an absolute step."""
        return int(self.begin[j]) + step % self.horizons[j]

    def remove_until(self, slots: I64, last: I64) -> Waiting:
        """Take out what waits in each slot for one of its next `last` steps.

        Parameters
        ----------
        slots, last
            Distinct slots, and how many steps each moves on, shape (g,).
        """
        found: list[Waiting] = []
        furthest = int(last.max(initial=0))
        for j, horizon in enumerate(self.horizons):
            steps = np.arange(1, min(horizon, furthest) + 1)
            places = self.place(j, self.head[slots][:, None] + steps)
            version = self.version[slots[:, None], places]
            group, which = np.nonzero((version > 0) & (steps <= last[:, None]))
            at = (slots[group], places[group, which])
            found.append(
                Waiting(
                    group,
                    steps[which],
                    np.full(len(group), j),
                    version[group, which],
                    self.values[at],
                )
            )
            self.version[at] = 0
        return Waiting.joined(*found)

    def take(self, slots: I64) -> "TakenForecasts":
        """Copy what waits in the slots."""
        return TakenForecasts(
            self, self.version[slots], self.values[slots], self.head[slots], self.row[slots], self.ts[slots]
        )

    def load(self, slot: int, plain: Any) -> None:
        """Put back what `TakenForecasts.plain` gave; of other horizons or targets nothing can be kept.

        Raises
        ------
        StateError
            If it is not such a state; `NewerStateError` if a later version wrote it.
        """
        self.clear(np.array([slot]))
        if plain is None:
            return
        try:
            if int(plain["v"]) > STATE_VERSION:
                raise NewerStateError(
                    f"forecast state version {plain['v']}, this daemon knows {STATE_VERSION}",
                    where="forecast",
                    remedy="Run the version that wrote it, or a later one.",
                )
            if tuple(plain["horizons"]) != self.horizons or tuple(plain["targets"]) != self.targets:
                return
            version = np.array(plain["version"], np.int32).reshape(self.version.shape[1:])
            values = np.frombuffer(plain["values"], "<f4").reshape(int((version > 0).sum()), -1, PARTS)
            row, ts = int(plain["row"]), float(plain["ts"])
            order = self.in_order(0)
            self.version[slot, order] = version
            self.values[slot, order[version > 0]] = values
            self.row[slot], self.ts[slot] = row, ts
        except MISFITS as error:
            raise StateError(f"not the state of forecasts: {error}", where="forecast") from error

    def in_order(self, head: int) -> I64:
        """Return the places in the order of horizon and target, seen from a newest step."""
        return np.concatenate([self.place(j, head + np.arange(1, h + 1)) for j, h in enumerate(self.horizons)])


@dataclass(slots=True)
class TakenForecasts:
    """Copies of what waits in some slots, for a checkpoint."""

    ring: PendingRing
    version: NDArray[np.int32]
    values: NDArray[np.float32]
    head: I64
    row: I64
    ts: NDArray[np.float64]

    def plain(self, i: int) -> dict[str, Any] | None:
        """Return the i-th slot's forecasts as plain values, None if none waits."""
        if not self.version[i].any():
            return None
        order = self.ring.in_order(int(self.head[i]))
        version = self.version[i, order]
        return {
            "v": STATE_VERSION,
            "horizons": list(self.ring.horizons),
            "targets": list(self.ring.targets),
            "row": int(self.row[i]),
            "ts": float(self.ts[i]),
            "version": version.tolist(),
            "values": self.values[i, order[version > 0]].astype("<f4").tobytes(),
        }

"""The rows of one call sorted by entity, so that any number of rows per entity is joined in one go."""

import numpy as np
from numpy.typing import NDArray

I64 = NDArray[np.int64]


class Run:
    """Rows sorted by slot, on a count of steps that starts at 0 with each slot's newest row before the run.

    A restart skips more steps than any forecast reaches, so that nothing from before it can be realised
    after it.

    Parameters
    ----------
    slots, rows, restarted
        As given to `ForecastTracker.advance`, shape (a,).
    newest
        Newest row of every slot there is; -1 if it has none.
    furthest
        Longest horizon, steps.

    Attributes
    ----------
    order
        int64[a], indices that sort the rows by slot.
    slots, last, ends
        int64[g], the distinct slots, how many steps each moves on, and its last place among the sorted rows.
    group, steps
        int64[a], index into `slots` and step of each sorted row.
    place
        int64[a], place among the sorted rows of each row as given.
    """

    def __init__(self, slots: I64, rows: I64, restarted: NDArray[np.bool_], newest: I64, furthest: int) -> None:
        self.order = np.argsort(slots, kind="stable")
        of = slots[self.order]
        first = np.append(True, of[1:] != of[:-1])
        starts = np.flatnonzero(first)
        self.ends = np.append(starts[1:], len(of)) - 1
        self.slots = of[starts]
        self.group = np.cumsum(first) - 1
        row = rows[self.order]
        before = np.append(0, row[:-1])
        before[starts] = newest[self.slots]
        moved = row - before
        moved = np.where(restarted[self.order] | (moved <= 0), furthest + 1, moved)
        total = np.cumsum(moved)
        self.steps = total - (total - moved)[starts][self.group]
        self.last = self.steps[self.ends]
        self._span = int(self.last.max()) + 1
        self._keys = self.group * self._span + self.steps
        self.place = np.empty(len(of), np.int64)
        self.place[self.order] = np.arange(len(of))

    def find(self, group: I64, steps: I64) -> tuple[I64, NDArray[np.bool_]]:
        """Return the place of the first row at or after a step, and whether it is at the step."""
        key = group * self._span + steps
        place = np.searchsorted(self._keys, key)
        return place, self._keys[place] == key

"""How a sample ends: five outcomes account for every sample; a replayed one was accounted for before."""

from enum import IntEnum


class Outcome(IntEnum):
    """What became of one sample.

    `SCORED` also covers rows between two strides and late fills, once the window holds `min_periods` rows.
    """

    SCORED = 0
    WARMING_UP = 1
    DUPLICATE = 2
    LATE = 3
    INVALID = 4
    REPLAYED = 5

    @property
    def word(self) -> str:
        """The word used in metrics, logs and reports, e.g. ``"warming_up"``."""
        return self.name.lower()

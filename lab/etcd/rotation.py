"""Which member a client asks next: in turn, but for those that did not answer lately."""

from typing import Final

STRIKES: Final = 5  # failures in a row until a member is left out
PAUSE: Final = 5.0  # seconds until one request is tried there again


class Rotation:
    """Round robin over members, as etcd's own client balances.

    Parameters
    ----------
    size
        How many members.
    """

    def __init__(self, size: int) -> None:
        self._size, self._next = size, 0
        self._strikes = [0] * size
        self._again = [0.0] * size

    def order(self, now: float) -> list[int]:
        """Return the members to ask at a time in seconds, the first choice first; each is in it once."""
        start = self._next
        self._next = (start + 1) % self._size
        turn = [(start + step) % self._size for step in range(self._size)]
        good = [i for i in turn if self._strikes[i] < STRIKES]
        for i in turn:
            if self._strikes[i] >= STRIKES and now >= self._again[i]:
                self._again[i] = now + PAUSE  # this request is the trial; the next ones go on without
                return [i, *good, *(j for j in turn if j != i and j not in good)]
        return [*good, *(i for i in turn if i not in good)]

    def worked(self, member: int) -> None:
        """Note an answer."""
        self._strikes[member] = 0

    def failed(self, member: int, now: float) -> None:
        """Note a refusal, or no answer in time."""
        self._strikes[member] += 1
        if self._strikes[member] >= STRIKES:
            self._again[member] = now + PAUSE

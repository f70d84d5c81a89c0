"""Liveness is progress, readiness is a list of named conditions; both say why.

A Faust agent can die without a word while its process goes on, so a live process is no proof: a partition
that has records to read and whose position stands still is not alive.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import msgspec

CONDITIONS = ("assigned", "recovered", "models", "partitions", "rights", "control")
"""What a worker needs: an assignment (it may be empty on a spare worker), its state back, its models loaded
and verified, a partition count that is still the one its state was written for, the rights to read and write, and that
it hears commands."""


class Check(msgspec.Struct, frozen=True):
    """One thing that was looked at, and why it is as it is."""

    ok: bool
    reason: str


class Report(msgspec.Struct, frozen=True):
    """The answer of a health question: ok if every check is."""

    ok: bool
    checks: dict[str, Check]


def report(checks: Mapping[str, Check]) -> Report:
    """Sum up some checks."""
    return Report(all(check.ok for check in checks.values()), dict(checks))


@dataclass(slots=True)
class _Progress:
    position: int
    high: int
    moved: float
    heard: float


@dataclass(slots=True)
class Liveness:
    """Whether every partition makes progress.

    Parameters
    ----------
    clock
        Monotonic seconds.
    stalled_after
        Seconds without progress after which a partition counts as stalled.
    """

    clock: Callable[[], float]
    stalled_after: float = 60.0
    _partitions: dict[int, _Progress] = field(default_factory=dict)

    def progress(self, partition: int, position: int, high_watermark: int) -> None:
        """Note where a partition is: the next offset to read and the offset after its last record.

        To be called on a timer, also when nothing arrives: a partition not heard of is not alive either.
        """
        now = self.clock()
        known = self._partitions.get(partition)
        if known is None:
            self._partitions[partition] = _Progress(position, high_watermark, now, now)
            return
        # Being at the end counts as movement: time without work must not be held against the next record.
        # So does going back, which is what a seek after a hole or a new assignment looks like.
        if position != known.position or position >= high_watermark:
            known.moved = now
        known.position, known.high, known.heard = position, high_watermark, now

    def revoked(self, partition: int) -> None:
        """Forget a partition that is no longer ours."""
        self._partitions.pop(partition, None)

    def check(self) -> Report:
        """Return the state of every partition; a worker without partitions is alive."""
        now = self.clock()
        return report({f"partition {number}": self._look(known, now) for number, known in self._partitions.items()})

    def _look(self, known: _Progress, now: float) -> Check:
        if (silent := now - known.heard) >= self.stalled_after:
            return Check(False, f"nothing reported for {silent:.0f} s")
        lag = max(0, known.high - known.position)
        if lag and (still := now - known.moved) >= self.stalled_after:
            return Check(False, f"at offset {known.position} for {still:.0f} s with {lag} records to read")
        return Check(True, f"at offset {known.position}, lag {lag}")


class Readiness:
    """Whether a worker may be counted on: every named condition is met.

    Parameters
    ----------
    conditions
        Their names; each begins as not met.
    """

    def __init__(self, conditions: tuple[str, ...] = CONDITIONS) -> None:
        self._checks = {name: Check(False, "not yet") for name in conditions}

    def meet(self, name: str, reason: str = "ok") -> None:
        """Note that a condition is met."""
        self._set(name, Check(True, reason))

    def fail(self, name: str, reason: str) -> None:
        """Note that a condition is not met (any more), and why."""
        self._set(name, Check(False, reason))

    def _set(self, name: str, check: Check) -> None:
        if name not in self._checks:
            raise KeyError(f"no condition {name!r}; there are {', '.join(self._checks)}")
        self._checks[name] = check

    def check(self) -> Report:
        """Return the state of every condition."""
        return report(self._checks)

"""What a change detector offers, and how one of River's is made to survive restarts exactly."""

import math
from abc import ABC, abstractmethod
from typing import Any, Protocol, runtime_checkable

import river

WARM_UP = 30
"""Values from which a detector learns the usual level and spread before it watches."""
KEEP = 200
"""Values from which a detector's inner state can always be rebuilt; it holds at most twice as many."""


@runtime_checkable
class Detector(Protocol):
    """Watches a sequence of numbers for a change of their level.

    `drift` says whether the last value completed the evidence for a change; the detector then starts anew.
    `warning` says the same with weaker evidence. A value that is not finite is ignored and counted in
    `ignored`: it sets `drift` to False and changes nothing else.
    """

    drift: bool
    warning: bool
    ignored: int

    def update(self, x: float) -> None:
        """Take the next value."""

    def state(self) -> dict[str, Any]:
        """Return all that matters as values msgpack can hold."""

    def load(self, plain: Any) -> str | None:
        """Take over what `state` gave; None, or a sentence that says why it started anew instead."""


class RiverDetector(ABC):
    """A detector of River's, fed with values in units of their own spread, remade from its own inputs.

    The first `WARM_UP` values set centre and scale, so River's absolute thresholds mean the same for scores
    and errors of any size; they are then fed too. River's objects have no plain state. So the state is the
    values since the last change: once there are `2 * KEEP`, all but the last `KEEP` are dropped and the
    River objects are rebuilt from the rest. A restored detector, built from the same values, therefore goes
    on exactly like one that never stopped.
    """

    name: str
    version = 1

    def __init__(self) -> None:
        self.drift = self.warning = False
        self.ignored = 0
        self._values: list[float] = []
        self._centre = self._scale = math.nan
        self._rebuild()

    @abstractmethod
    def _make(self, *, sensitive: bool) -> Any:
        """Return a new River detector; a `sensitive` one asks for less evidence."""

    @abstractmethod
    def parameters(self) -> dict[str, float]:
        """Return the parameters; state made with others is not taken over."""

    def update(self, x: float) -> None:
        """Take the next value."""
        self.drift = False
        if not math.isfinite(x):
            self.ignored += 1
            return
        self._values.append(float(x))
        if len(self._values) < WARM_UP:
            return
        if len(self._values) == WARM_UP and math.isnan(self._centre):
            self._learn()
            self._rebuild()
            self.warning = False
            return
        self._feed(float(x))
        self.drift = bool(self._main.drift_detected)
        self.warning = self.drift or bool(self._sensitive.drift_detected)
        if self.drift:
            self._values.clear()
            self._centre = self._scale = math.nan
            self._rebuild()
        elif len(self._values) >= 2 * KEEP:
            del self._values[:-KEEP]
            self._rebuild()

    def _learn(self) -> None:
        self._centre = math.fsum(self._values) / len(self._values)
        variance = math.fsum((v - self._centre) ** 2 for v in self._values) / (len(self._values) - 1)
        # A constant signal has no spread: a hundredth of its level, or of 1, is taken for one.
        self._scale = max(math.sqrt(variance), 0.01 * abs(self._centre)) or 0.01

    def _rebuild(self) -> None:
        self._main, self._sensitive = self._make(sensitive=False), self._make(sensitive=True)
        if not math.isnan(self._centre):
            for value in self._values:
                self._feed(value)

    def _feed(self, value: float) -> None:
        z = (value - self._centre) / self._scale
        self._main.update(z)
        self._sensitive.update(z)

    def state(self) -> dict[str, Any]:
        """Return the values since the last change, and with what they were judged."""
        return {
            "tag": self._tag(),
            "parameters": self.parameters(),
            "centre": None if math.isnan(self._centre) else self._centre,
            "scale": None if math.isnan(self._scale) else self._scale,
            "values": list(self._values),
            "flags": [self.drift, self.warning],
            "ignored": self.ignored,
        }

    def load(self, plain: Any) -> str | None:
        """Take over what `state` gave; None, or why the detector started anew instead."""
        self.drift = self.warning = False
        self.ignored = 0
        self._values, self._centre, self._scale = [], math.nan, math.nan
        reason = self._refusal(plain)
        if reason is None:
            try:
                self._values = [float(v) for v in plain["values"]]
                if plain["centre"] is not None:
                    self._centre, self._scale = float(plain["centre"]), float(plain["scale"])
                self.drift, self.warning = (bool(flag) for flag in plain["flags"])
                self.ignored = int(plain["ignored"])
            except (TypeError, ValueError, LookupError) as error:
                self.drift = self.warning = False
                self._values, self._centre, self._scale = [], math.nan, math.nan
                reason = f"{self.name} starts anew: its state cannot be read ({error})"
        self._rebuild()
        return reason

    def _tag(self) -> str:
        return f"{self.name}/{self.version}/river-{river.__version__}"

    def _refusal(self, plain: Any) -> str | None:
        if not isinstance(plain, dict):
            return f"{self.name} starts anew: its state cannot be read"
        if plain.get("tag") != self._tag():
            return f"{self.name} starts anew: its state is of {plain.get('tag')}, this is {self._tag()}"
        if plain.get("parameters") != self.parameters():
            return f"{self.name} starts anew: its parameters have changed"
        return None

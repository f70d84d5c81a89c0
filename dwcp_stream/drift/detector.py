"""What a change detector offers, and how one of River's is made to survive restarts exactly."""

import math
from abc import ABC, abstractmethod
from itertools import pairwise
from typing import Any, Protocol, runtime_checkable

import river

WARM_UP = 30
"""Values from which a detector learns the usual level and spread before it watches."""
LEARNT_AT = (WARM_UP, 60)
"""Values since the last change at which level, spread and autocorrelation are learnt, from all of them. Later would be
more exact, and would take a slow change for memory."""
MOST_CORRELATED = 0.97
"""Largest autocorrelation that is taken for one; what is more alike is a trend."""
CLIP = 4.0
"""Deviations at which an innovation is cut off: the first after a shift is a spike, which widens ADWIN's bounds."""
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
    """A detector of River's, fed with what is new in each value, in units of its own spread; remade from its inputs.

    River's detectors take values for independent of each other: fed with block means that are alike from block to
    block, they find changes where there are none (1.2 in 1000 blocks at an autocorrelation of 0.6, 11 at 0.9). So
    they get the innovation ``(z[t] - rho z[t-1]) / sqrt(1 - rho^2)`` of each value, where ``z`` is the value in units
    of its spread and ``rho`` the autocorrelation from one value to the next: uncorrelated and of variance 1, so that
    River's absolute thresholds mean the same for scores and errors of any size and any memory. A lasting shift by
    one deviation is one by ``sqrt((1 - rho) / (1 + rho))`` there, which is what it tells in such data.

    The first `WARM_UP` values are learnt from before they are fed. River's objects have no plain state. So the state
    is the values since the last change: once there are `2 * KEEP`, all but the last `KEEP` are dropped and the
    River objects are rebuilt from the rest. A restored detector, built from the same values, therefore goes
    on exactly like one that never stopped.

    References
    ----------
    S. Psarakis, G. E. A. Papaleonida: SPC procedures for monitoring autocorrelated processes. Quality Technology and
    Quantitative Management 4 (2007), 501-540 (residual charts). M. G. Kendall: Note on bias in the estimation of
    autocorrelation. Biometrika 41 (1954), 403-404.
    """

    name: str
    version = 2

    def __init__(self) -> None:
        self.drift = self.warning = False
        self.ignored = 0
        self._values: list[float] = []
        self._forget()

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
        if len(self._values) in LEARNT_AT:
            self._learn()
            self._rebuild()
            self.warning = False
            return
        self._feed(float(x))
        self.drift = bool(self._main.drift_detected)
        self.warning = self.drift or bool(self._sensitive.drift_detected)
        if self.drift:
            self._values.clear()
            self._forget()
        elif len(self._values) >= 2 * KEEP:
            del self._values[:-KEEP]
            self._rebuild()

    def _forget(self) -> None:
        self._centre = self._scale = math.nan
        self._rho = 0.0
        self._rebuild()

    def _learn(self) -> None:
        n = len(self._values)
        self._centre = math.fsum(self._values) / n
        away = [value - self._centre for value in self._values]
        squares = math.fsum(d * d for d in away)
        # A constant signal has no spread: a hundredth of its level, or of 1, is taken for one.
        self._scale = max(math.sqrt(squares / (n - 1)), 0.01 * abs(self._centre)) or 0.01
        rho = math.fsum(a * b for a, b in pairwise(away)) / squares if squares > 0.0 else 0.0
        self._rho = min(max(rho + (1.0 + 3.0 * rho) / n, 0.0), MOST_CORRELATED)  # the estimate is too small by that

    def _rebuild(self) -> None:
        self._before: float | None = None
        self._main, self._sensitive = self._make(sensitive=False), self._make(sensitive=True)
        if not math.isnan(self._centre):
            for value in self._values:
                self._feed(value)

    def _feed(self, value: float) -> None:
        z = (value - self._centre) / self._scale
        new = z if self._before is None else (z - self._rho * self._before) / math.sqrt(1.0 - self._rho**2)
        self._before = z
        new = min(max(new, -CLIP), CLIP)
        self._main.update(new)
        self._sensitive.update(new)

    def state(self) -> dict[str, Any]:
        """Return the values since the last change, and with what they were judged."""
        return {
            "tag": self._tag(),
            "parameters": self.parameters(),
            "centre": None if math.isnan(self._centre) else self._centre,
            "scale": None if math.isnan(self._scale) else self._scale,
            "rho": self._rho,
            "values": list(self._values),
            "flags": [self.drift, self.warning],
            "ignored": self.ignored,
        }

    def load(self, plain: Any) -> str | None:
        """Take over what `state` gave; None, or why the detector started anew instead."""
        self.drift = self.warning = False
        self.ignored = 0
        self._values, self._centre, self._scale, self._rho = [], math.nan, math.nan, 0.0
        reason = self._refusal(plain)
        if reason is None:
            try:
                self._values = [float(v) for v in plain["values"]]
                if plain["centre"] is not None:
                    self._centre, self._scale = float(plain["centre"]), float(plain["scale"])
                self._rho = min(max(float(plain.get("rho", 0.0)), 0.0), MOST_CORRELATED)
                self.drift, self.warning = (bool(flag) for flag in plain["flags"])
                self.ignored = int(plain["ignored"])
            except (TypeError, ValueError, LookupError) as error:
                self.drift = self.warning = False
                self._values, self._centre, self._scale, self._rho = [], math.nan, math.nan, 0.0
                reason = f"{self.name} starts anew: its state cannot be read ({error})"
        self._rebuild()
        return reason

    def _tag(self, version: int | None = None) -> str:
        return f"{self.name}/{version or self.version}/river-{river.__version__}"

    def _refusal(self, plain: Any) -> str | None:
        if not isinstance(plain, dict):
            return f"{self.name} starts anew: its state cannot be read"
        # Version 1 knew no autocorrelation: its values go on without one until the next change.
        if plain.get("tag") not in (self._tag(), self._tag(1)):
            return f"{self.name} starts anew: its state is of {plain.get('tag')}, this is {self._tag()}"
        if plain.get("parameters") != self.parameters():
            return f"{self.name} starts anew: its parameters have changed"
        return None

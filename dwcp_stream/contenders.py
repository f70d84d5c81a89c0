"""Versions that run beside a model's champion: a challenger that serves a share of the entities, or a shadow.

They score every window that the champion scores, and their forecasts meet what really came. A shadow tells nobody; of
the challenger's verdicts those go out whose entity is in its share, in the place of the champion's.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np

from dwcp_stream.activations import SHARE, Activation, line_of
from dwcp_stream.arm_scores import ScorePairs, build_arm_scores
from dwcp_stream.events import Output
from dwcp_stream.forecasts import ForecastTracker, build_accuracy
from dwcp_stream.parts import forecast_tracker, model_state
from dwcp_stream.scoring import Model, ModelState
from dwcp_stream.split import Split
from dwcp_stream.streams import StreamDefinition
from dwcp_stream.windows.part import SlotPart

Beside = Literal["challenger", "shadow"]
BESIDE: Final[tuple[Beside, ...]] = ("challenger", "shadow")


@dataclass(slots=True)
class Contender:
    """What a partition keeps of one of them.

    Attributes
    ----------
    arm, model
        What it is, and the version that runs.
    since
        Source offset from which on it has run.
    forecasts, memory
        Its pending forecasts and what it remembers of entities, if it makes or has any.
    pairs
        Its scores beside the champion's.
    """

    arm: Beside
    model: Model
    since: int
    forecasts: ForecastTracker | None
    memory: ModelState | None
    pairs: ScorePairs = field(default_factory=ScorePairs)

    @property
    def line(self) -> str:
        """Name of its line."""
        return line_of(self.model.name, self.arm)

    @property
    def parts(self) -> dict[str, SlotPart]:
        """What it keeps per entity slot, by the name it has in a snapshot: that of the version, whatever its arm."""
        found: dict[str, SlotPart] = {}
        if self.forecasts is not None:
            found[f"forecast:{self.model.name}@{self.model.version}"] = self.forecasts
        if self.memory is not None:
            found[memory_name(self.model)] = self.memory
        return found

    def become(self, arm: Beside) -> "Contender":
        """Go on as another arm."""
        self.arm = arm
        if self.forecasts is not None:
            self.forecasts.arm = arm
        return self

    def state(self) -> dict[str, Any]:
        """Return what belongs to the partition rather than to an entity."""
        return {
            "version": self.model.version,
            "since": self.since,
            "forecasts": None if self.forecasts is None else self.forecasts.state(),
            "pairs": self.pairs.state(),
        }

    def load(self, plain: Any) -> str | None:
        """Take over what `state` gave, unless it is of another version; why not, if that can be told.

        Raises
        ------
        StateError
            If it is not such a state.
        """
        if plain["version"] != self.model.version:
            return None
        self.since = int(plain["since"])
        self.pairs.load(plain["pairs"])
        if self.forecasts is None or plain["forecasts"] is None:
            return None
        return self.forecasts.load_state(plain["forecasts"])


def memory_name(model: Model) -> str:
    """Return the name that what a contender remembers of an entity has in a snapshot."""
    return f"state:{model.name}@{model.version}"


class Contenders:
    """All that run beside the champions of one partition.

    Parameters
    ----------
    stream
        The stream's definition.
    partition
        Partition number.

    Attributes
    ----------
    by_line
        Those in effect.
    splits
        Which entities a challenger serves, by the name of its model.
    """

    def __init__(self, stream: StreamDefinition, partition: int) -> None:
        self._stream, self._partition = stream, partition
        self.by_line: dict[str, Contender] = {}
        self.splits: dict[str, Split] = {}
        self._shares: dict[str, int] = {}
        self._early: dict[Activation, Contender] = {}
        self._left: dict[tuple[str, int, int], tuple[ModelState, int]] = {}

    # --- who runs ---------------------------------------------------------------------------------------

    def begin_with(self, activations: Iterable[Activation], models: Mapping[Activation, Model]) -> None:
        """Take over what runs already when a partition comes to this worker."""
        for activation in activations:
            if activation.arm == SHARE:
                self._shares[activation.base] = max(activation.version, 0)
            elif activation.arm != "champion" and activation.scores:
                self.by_line[activation.model] = self._new(activation, models[activation])
        for contender in self.by_line.values():
            self._split(contender.model.name)

    def expect(self, coming: Mapping[Activation, Model | None]) -> None:
        """Make room for what entities that are ahead of the partition bring for contenders that have yet to begin."""
        running = {(c.model.name, c.model.version) for c in self.by_line.values()}
        self._early = {
            a: self._new(a, m)
            for a, m in coming.items()
            if m is not None and a.arm != "champion" and (m.name, m.version) not in running
        }

    def change(self, activation: Activation, model: Model | None) -> Contender | None:
        """Let a contender begin, end, or give its place to another version; returns the one whose time ends.

        A version that runs as the other arm goes on with all it has.
        """
        leaving = self.by_line.pop(activation.model, None)
        if model is not None:
            self.by_line[activation.model] = self._found(activation, model)
        self._split(activation.base)
        return leaving

    def _found(self, activation: Activation, model: Model) -> Contender:
        arm = next(arm for arm in BESIDE if arm == activation.arm)
        for line, contender in self.by_line.items():
            if (contender.model.name, contender.model.version) == (model.name, model.version):
                del self.by_line[line]
                return contender.become(arm)
        early = self._early.get(activation)
        self._early.pop(activation, None)
        found = early or self._new(activation, model)
        left = self._left.get((model.name, model.version, activation.offset))
        if left is not None and found.memory is not None:
            memory, since = left
            memory.absorb(found.memory)
            found.memory, found.since = memory, since
        return found

    def leave(self, model: Model, memory: ModelState, since: int, offset: int) -> None:
        """Keep what a champion remembered that is replaced at an offset: it may run beside the new one from there."""
        self._left = {(model.name, model.version, offset): (memory, since)}

    def set_share(self, name: str, share: int) -> int:
        """Let the challenger of a model serve another percentage of entities; returns the one before."""
        before, self._shares[name] = self._shares.get(name, 0), share
        self._split(name)
        return before

    def _new(self, activation: Activation, model: Model) -> Contender:
        arm = next(arm for arm in BESIDE if arm == activation.arm)
        forecasting = model.task == "forecast"
        forecasts = forecast_tracker(self._stream, model, self._partition, arm) if forecasting else None
        memory = model_state(model) if model.state_size else None
        return Contender(arm, model, activation.offset, forecasts, memory)

    def _split(self, name: str) -> None:
        challenger, share = self.by_line.get(line_of(name, "challenger")), self._shares.get(name, 0)
        self.splits.pop(name, None)
        if challenger is not None and share > 0:
            self.splits[name] = Split(f"{name}/{challenger.model.version}", share)

    def of(self, model: Model) -> Contender | None:
        """Return the contender that is this version, if there is one."""
        for contender in self.by_line.values():
            if (contender.model.name, contender.model.version) == (model.name, model.version):
                return contender
        return None

    # --- what they keep ---------------------------------------------------------------------------------

    @property
    def parts(self) -> dict[str, SlotPart]:
        """What is kept per entity slot, by the name it has in a snapshot."""
        return {name: part for contender in self.by_line.values() for name, part in contender.parts.items()}

    def parts_at(self, applied: int) -> Iterator[tuple[str, SlotPart]]:
        """Yield where the parts of an entity belong whose newest sample has an offset, see `Partition`.

        What a contender remembers may be under its model's name, from when it was champion.
        """
        for contender in (*self.by_line.values(), *self._early.values()):
            if contender.since <= applied:
                if contender.memory is not None:
                    yield f"state:{contender.model.name}", contender.memory
                yield from contender.parts.items()

    def held(self) -> Iterator[SlotPart | Split]:
        """Yield everything that has something per slot, in effect or not yet."""
        yield from self.splits.values()
        for contender in (*self.by_line.values(), *self._early.values()):
            yield from contender.parts.values()

    def state(self) -> dict[str, Any]:
        """Return what belongs to the partition rather than to entities, by line."""
        return {line: contender.state() for line, contender in self.by_line.items()}

    def load(self, plain: Mapping[str, Any]) -> list[str]:
        """Take over what `state` gave; returns what could not be."""
        said = [contender.load(plain[line]) for line, contender in self.by_line.items() if line in plain]
        return [reason for reason in said if reason is not None]

    # --- what they say ----------------------------------------------------------------------------------

    def last_of(self, contender: Contender, watermark: float) -> list[Output]:
        """Return what the open buckets of one that ends hold; what waits for its actual is dropped."""
        parts = [] if contender.forecasts is None else contender.forecasts.flush(watermark)
        return [build_accuracy(part) for part in parts] + self.paired(contender, np.inf, watermark)

    def paired(self, contender: Contender, until: float, watermark: float) -> list[Output]:
        """Return the scores beside the champion's of buckets that ended before a time."""
        model = contender.model
        return [
            build_arm_scores(
                self._stream.name, model.name, model.version, contender.arm, self._partition, found, watermark
            )
            for found in contender.pairs.drain(until, self._stream.lateness)
        ]

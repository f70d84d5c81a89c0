"""When something happens to an entity, and how it rises, lasts and ends."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from lab.signals import Floats, ar1

PHASES: Final = ("", "lead", "plateau", "recovery")
LEVELS: Final = (("low", 0.35), ("medium", 0.65), ("high", 1.0))
UNFELT: Final = 0.15  # chance that one field of an episode shows nothing
SWITCHES: Final = frozenset({"tier", "turbo", "reliable", "fallback"})  # effects that always show
RECOVERED: Final = 0.25  # a recovery is no longer labelled once this share of the plateau is left


@dataclass(frozen=True)
class Kind:
    """What can happen to an entity.

    Attributes
    ----------
    name
        Word in the `kind` column.
    effects
        Change per field at full intensity and severity 1; units are the simulator's (mostly logarithms).
    lead, plateau, recovery
        Shortest and longest duration of each phase, in steps; a zero lead is a step.
    weight
        Relative frequency.
    incident
        False for a hard negative: looks like trouble, is labelled 0.
    silence
        Share of the samples that do not arrive during the plateau.
    """

    name: str
    effects: Mapping[str, float]
    lead: tuple[int, int]
    plateau: tuple[int, int]
    recovery: tuple[int, int]
    weight: float = 1.0
    incident: bool = True
    silence: float = 0.0


@dataclass
class History:
    """What happened to one entity, step by step.

    Attributes
    ----------
    effects
        Per field name: the summed change, shape (steps,).
    label, phase
        1 while an incident is labelled; index into `PHASES`.
    kind
        Index into the kinds the schedule was drawn from, -1 for none.
    severity
        Severity of the running episode (0 none; about 0.35 low, 0.65 medium, 1 high).
    silence
        Probability that the step's sample does not arrive.
    """

    steps: int
    effects: dict[str, Floats] = field(default_factory=dict)
    label: npt.NDArray[np.int8] = field(init=False)
    phase: npt.NDArray[np.int8] = field(init=False)
    kind: npt.NDArray[np.int16] = field(init=False)
    severity: Floats = field(init=False)
    silence: Floats = field(init=False)

    def __post_init__(self) -> None:
        self.label = np.zeros(self.steps, np.int8)
        self.phase = np.zeros(self.steps, np.int8)
        self.kind = np.full(self.steps, -1, np.int16)
        self.severity = np.zeros(self.steps)
        self.silence = np.zeros(self.steps)

    def effect(self, name: str) -> Floats:
        """Return the change of a field, zero where no episode touches it."""
        return self.effects.get(name, np.zeros(self.steps))


def draw_history(
    rng: np.random.Generator,
    steps: int,
    kinds: Sequence[Kind],
    incidents_per_day: float,
    negatives_per_day: float,
) -> History:
    """Draw the episodes of one entity, one after another, with exponential gaps.

    Parameters
    ----------
    rng
        The entity's own generator.
    steps
        Steps of a minute.
    kinds
        Incidents and hard negatives.
    incidents_per_day, negatives_per_day
        Mean rates while nothing else is going on.
    """
    history = History(steps)
    total = incidents_per_day + negatives_per_day
    if total <= 0:
        return history
    share = {True: incidents_per_day / total, False: negatives_per_day / total}
    mass = {flag: sum(k.weight for k in kinds if k.incident is flag) for flag in (True, False)}
    chance = np.array([share[k.incident] * k.weight / mass[k.incident] for k in kinds])
    chance /= chance.sum()
    at = int(rng.exponential(1440.0 / total))
    while at < steps:
        number = int(rng.choice(len(kinds), p=chance))
        at = _place(rng, history, kinds[number], number, at)
        at += 30 + int(rng.exponential(1440.0 / total))
    return history


def _place(rng: np.random.Generator, history: History, kind: Kind, number: int, at: int) -> int:
    """Add one episode from step `at`; return the step after its end."""
    lead, plateau, recovery = (int(rng.integers(a, b + 1)) for a, b in (kind.lead, kind.plateau, kind.recovery))
    level = LEVELS[int(rng.choice(len(LEVELS), p=(0.35, 0.35, 0.3)))][1] if kind.incident else rng.uniform(0.4, 1.1)
    severity = float(level * rng.uniform(0.85, 1.15))
    rise = ((np.arange(lead) + 1.0) / (lead + 1.0)) ** rng.uniform(1.0, 2.5)
    fall = np.exp(-3.0 * (np.arange(recovery) + 1.0) / max(recovery, 1))
    shape = np.concatenate([rise, np.ones(plateau), fall])
    shape = shape * np.exp(ar1(rng, len(shape), 8.0, 0.18))
    end = min(at + len(shape), history.steps)
    span, n = slice(at, end), end - at
    for name, size in kind.effects.items():
        # each field feels an episode differently each time, or not at all: no profile to be learnt by heart
        felt = np.exp(rng.normal(0.0, 0.35)) * (name in SWITCHES or rng.random() > UNFELT)
        change = size * severity * shape[:n] * felt
        history.effects.setdefault(name, np.zeros(history.steps))[span] += change
    phase = np.repeat(np.array([1, 2, 3], np.int8), (lead, plateau, recovery))[:n]
    history.phase[span], history.kind[span], history.severity[span] = phase, number, severity
    history.silence[span] = np.where(phase == 2, kind.silence, 0.0)
    if kind.incident:
        left = np.concatenate([np.ones(lead + plateau), fall])[:n]
        history.label[span] = left >= RECOVERED
    return end

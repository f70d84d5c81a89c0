"""Which version serves: what follows from what is known of the versions that run beside a champion.

A candidate begins as shadow, becomes challenger on a share of the entities, and champion if its realised error is
smaller than the champion's. The champion before then runs as shadow: should it turn out to have been better, it comes
back. So does any champion's predecessor, also where a person has promoted; that is how a bad version goes by itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isnan, nan
from typing import Literal

from dwcp_stream.events import DecisionWord
from dwcp_stream.loop.policy import Policy
from dwcp_stream.loop.precision import interval
from dwcp_stream.loop.sequential import BLOCKS, Bounds

MOST_UNPAIRED = 0.1
"""Share of buckets in which two versions did not forecast the same that may be left out of their comparison."""
MULTIPLE, LEAST_OVER = 3.0, 0.01
"""A version that is over its threshold in more than three times the champion's windows, and in more than one of a
hundred, is not better, whatever its forecasts: it would alert all the time."""
PROMOTABLE = BLOCKS * 5 // 3
"""Blocks of errors before a candidate may become champion: five days of the shortest. A version can look
better for three days because the days on which it is far worse have not come; to bring back the champion of before, or
to drop a candidate, needs no such patience."""
PROMISING = BLOCKS // 3
"""Blocks of errors after which a shadow may serve a share, if it seems to be better."""


@dataclass(frozen=True, slots=True)
class Arms:
    """Which version is what; None: none."""

    champion: int
    challenger: int | None = None
    shadow: int | None = None
    last_good: int | None = None

    @property
    def beside(self) -> list[int]:
        """What runs beside the champion."""
        return [version for version in (self.challenger, self.shadow) if version not in (None, self.champion)]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of a version that runs beside the champion.

    Attributes
    ----------
    age, served
        Seconds of event time since it began beside this champion, and since it began to serve its share.
    bounds
        Of the champion's realised error less its own, see `judge`; None for a model that makes no forecasts.
    ratio
        Its plain mean absolute error as a share of the champion's, NaN where nothing is known.
    paired, unpaired
        Buckets of realised errors that are compared, and that cannot be.
    windows, champion_over, over
        Windows that both scored, and how many of them each had over the threshold.
    judged
        Alerts that operators judged true, and all they judged: the champion's and its own.
    """

    age: float = 0.0
    served: float | None = None
    bounds: Bounds | None = None
    ratio: float = nan
    paired: int = 0
    unpaired: int = 0
    windows: int = 0
    champion_over: int = 0
    over: int = 0
    judged: tuple[tuple[int, int], tuple[int, int]] = ((0, 0), (0, 0))

    def numbers(self) -> dict[str, float | None]:
        """Return what a decision says it went by."""
        found: dict[str, float | None] = {"age_hours": round(self.age / 3600, 3)}
        if self.bounds is not None:
            found |= {"mean": self.bounds.mean, "lower": self.bounds.lower, "upper": self.bounds.upper}
            found |= {"n": self.paired, "unpaired": self.unpaired, "ratio": None if isnan(self.ratio) else self.ratio}
        if self.windows:
            found |= {"over": self.over / self.windows, "champion_over": self.champion_over / self.windows}
        if any(number for pair in self.judged for number in pair):
            (true, judged), (also, all_) = self.judged
            found |= {"champion_true": true, "champion_judged": judged, "true": also, "judged": all_}
        return found


@dataclass(frozen=True, slots=True)
class Verdict:
    """A decision about a version; `champion` is the one after it."""

    word: DecisionWord
    version: int
    champion: int
    reason: str
    numbers: Mapping[str, float | None]


Finding = Literal["better", "worse", "unknown"]


def decide(arms: Arms, evidence: Mapping[int, Evidence], policy: Policy) -> Verdict | None:
    """Return the next decision about a model, None if there is none.

    Parameters
    ----------
    arms
        Which version is what now.
    evidence
        By version, for the challenger and the shadow.
    policy
        The rules.
    """
    for version in arms.beside:
        known = evidence.get(version, Evidence())
        finding, reason = find(known, policy)
        if version == arms.last_good:
            verdict = _of_the_last_good(arms, version, finding, reason, known, policy)
        else:
            verdict = _of_a_candidate(arms, version, finding, reason, known, policy)
        if verdict is not None:
            return verdict
    return None


def find(known: Evidence, policy: Policy) -> tuple[Finding, str]:
    """Return whether a version is better or worse than the champion, and by what."""
    bounds = known.bounds
    if bounds is None:
        return _by_feedback(known, policy)
    said = _incomparable(known, bounds, policy)
    if said:
        return "unknown", said
    if bounds.upper < 0:
        return "worse", f"its realised error is larger, by {-bounds.mean:.1%}"
    if bounds.lower <= 0 or known.ratio >= 1:  # a few large errors must not hide behind many small gains
        return "unknown", "the realised errors do not tell"
    return "better", f"its realised error is smaller, by {bounds.mean:.1%}"


def _incomparable(known: Evidence, bounds: Bounds, policy: Policy) -> str:
    """Return why realised errors cannot tell."""
    all_ = known.paired + known.unpaired
    if bounds.blocks < BLOCKS:
        return f"{known.paired} of {policy.block * BLOCKS} buckets"
    if known.unpaired > MOST_UNPAIRED * all_:
        return f"{known.unpaired} of {all_} buckets cannot be compared"
    return ""


def _loud(known: Evidence) -> str:
    """Return how often a version is over its threshold, if that is too often beside the champion."""
    if known.over <= max(MULTIPLE * known.champion_over, LEAST_OVER * known.windows):
        return ""
    share, before = known.over / known.windows, known.champion_over / known.windows
    return f"it is over its threshold in {share:.1%} of the windows, the champion in {before:.1%}"


def _by_feedback(known: Evidence, policy: Policy) -> tuple[Finding, str]:
    (mine, theirs) = (interval(*pair, policy.alpha / 2) for pair in known.judged)
    if theirs[0] > mine[1]:
        return "better", "a larger share of its alerts was judged true"
    if theirs[1] < mine[0]:
        return "worse", "a smaller share of its alerts was judged true"
    return "unknown", "what operators said of alerts does not tell"


def _of_the_last_good(
    arms: Arms, version: int, finding: Finding, reason: str, known: Evidence, policy: Policy
) -> Verdict | None:
    if finding == "better":
        said = f"the champion before was better: {reason}"
        return Verdict("rolled_back", arms.champion, version, said, known.numbers())
    if finding == "worse" or known.age > policy.max_age:
        said = f"the new champion stays: of the one before, {reason}"
        return Verdict("dropped", version, arms.champion, said, known.numbers())
    return None


def _of_a_candidate(
    arms: Arms, version: int, finding: Finding, reason: str, known: Evidence, policy: Policy
) -> Verdict | None:
    challenging = version == arms.challenger
    if finding == "better" and (said := _loud(known)):
        finding, reason = "unknown", said
    if finding == "worse":
        return Verdict("dropped", version, arms.champion, reason, known.numbers())
    ripe = known.bounds is None or known.paired >= policy.block * PROMOTABLE
    if (
        finding == "better"
        and ripe
        and (not policy.share or (challenging and known.served is not None and known.served >= policy.challenge))
    ):
        return Verdict("promoted", version, version, reason, known.numbers())
    if not challenging and policy.share and arms.challenger is None and _promising(finding, known):
        return Verdict("challenged", version, arms.champion, f"promising: {reason}", known.numbers())
    if known.age > policy.max_age and finding != "better":
        said = f"nothing speaks for it after {known.age / 86_400:.1f} days: {reason}"
        return Verdict("dropped", version, arms.champion, said, known.numbers())
    return None


def _promising(finding: Finding, known: Evidence) -> bool:
    """Whether a shadow may serve a share: it is better, or seems to be and nothing says that it is not.

    A model without forecasts has to be heard before anybody can say what its alerts are worth, but it is a person who
    lets it (`models split`): a shadow that nobody hears cannot show that it does no harm.
    """
    if finding == "better":
        return True
    if known.bounds is None or known.unpaired > MOST_UNPAIRED * (known.paired + known.unpaired):
        return False
    return known.bounds.mean > 0 and not known.ratio >= 1 and known.bounds.blocks >= PROMISING

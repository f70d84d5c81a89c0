"""All that the trainer knows: what the topics said, put in order.

It holds no more than they do, so a restart loses nothing.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from dwcp_stream.events import Accuracy, Alert, ArmScores, Drift, ModelDecision
from dwcp_stream.loop.decider import Arms, Evidence
from dwcp_stream.loop.due import Change, Trainings
from dwcp_stream.loop.pairs import PairedErrors
from dwcp_stream.loop.policy import Policy
from dwcp_stream.loop.sequential import judge
from dwcp_stream.realised import AlertLedger, ArmLedger

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

BEGUN = frozenset({"shadowed", "challenged"})
TRAINED = frozenset({"trained", "rejected", "failed"})
ALERTS_KEPT = 30 * 86_400.0
"""Seconds for which alerts and what was said of them are kept: as long as their topic keeps them by default."""


def seconds(text: str) -> float:
    """Return a time as epoch seconds; ValueError if it is none."""
    return datetime.fromisoformat(text).timestamp()


@dataclass(slots=True)
class _Model:
    """What was decided about one model."""

    last: dict[int, ModelDecision] = field(default_factory=dict)
    begun: dict[tuple[int, int | None, str], float] = field(default_factory=dict)
    trainings: list[tuple[float, str]] = field(default_factory=list)
    drifted: dict[int, float] = field(default_factory=dict)
    commanded: int = -1
    handled: int = -1


class Knowledge:
    """Takes messages in any order, repeated ones once.

    Parameters
    ----------
    longest
        Seconds of realised errors that are kept, before a stream's newest.
    keys
        Public keys by name, of which one must have signed feedback that is to count; None: all counts.
    """

    def __init__(self, longest: float, keys: "Mapping[str, Ed25519PublicKey] | None" = None) -> None:
        self._longest = longest
        self.pairs = PairedErrors(longest)
        self.alerts, self.arms = AlertLedger(keys, ALERTS_KEPT), ArmLedger(longest)
        self._models: dict[tuple[str, str], _Model] = defaultdict(_Model)
        self._spans: dict[str, tuple[float, float]] = {}
        self._seen: set[str] = set()

    # --- what came --------------------------------------------------------------------------------------

    def accuracy(self, event_id: str, part: Accuracy) -> None:
        """Take realised errors; ValueError if they are none."""
        self.pairs.add(event_id, part)
        self._time(part.stream, seconds(part.bucket_end))

    def scores(self, event_id: str, part: ArmScores) -> None:
        """Take scores of arms; ValueError if they are none."""
        self.arms.add(event_id, part)
        self._time(part.stream, seconds(part.bucket_end))

    def drift(self, event: Drift) -> None:
        """Take a change of a drift state."""
        at = seconds(event.block_end)
        self._time(event.stream, at)
        if event.state == "drifted":
            drifted = self._models[event.stream, event.model].drifted
            drifted[event.version] = max(drifted.get(event.version, at), at)

    def alert(self, alert: Alert) -> None:
        """Take a transition of an alert."""
        self.alerts.alert(alert)
        self._time(alert.stream, seconds(alert.event_time))

    def decision(self, event_id: str, decision: ModelDecision) -> None:
        """Take a decision, this trainer's or one before it, in the order of the topic; `event_id` is its `ce_id`."""
        if event_id in self._seen:
            return
        self._seen.add(event_id)
        model, at = self._models[decision.stream, decision.model], seconds(decision.event_time)
        self._time(decision.stream, at)
        if decision.decision in TRAINED:
            model.trainings.append((at, decision.decision))
            command = decision.numbers.get("command")
            model.handled = max(model.handled, -1 if command is None else int(command))
        if decision.version:
            model.last[decision.version] = decision
        if decision.decision in BEGUN:
            model.begun[decision.version, decision.champion, decision.decision] = at

    def command(self, stream: str, model: str, offset: int) -> None:
        """Take the command to train a model, at an offset of its topic."""
        known = self._models[stream, model]
        known.commanded = max(known.commanded, offset)

    def commanded(self, stream: str, model: str) -> int | None:
        """Return the offset of the last command to train a model, if no training has followed it."""
        known = self._models[stream, model]
        return known.commanded if known.commanded > known.handled else None

    def _time(self, stream: str, at: float) -> None:
        first, last = self._spans.get(stream, (at, at))
        self._spans[stream] = min(first, at), max(last, at)

    # --- what follows -----------------------------------------------------------------------------------

    def now(self, stream: str) -> float | None:
        """Return the newest event time known of a stream, epoch seconds."""
        span = self._spans.get(stream)
        return None if span is None else span[1]

    def trainings(self, stream: str, model: str, champion: int, trained_at: float | None = None) -> Trainings:
        """Return what is known of a model's trainings.

        Parameters
        ----------
        trained_at
            When its champion was trained, epoch seconds: tells where no decision does.
        """
        known, now = self._models[stream, model], self.now(stream)
        found: list[tuple[float, Change]] = []
        if (drifted := known.drifted.get(champion)) is not None:
            found.append((drifted, "drift"))
        if (lost := self.pairs.lost(stream, model, champion)) is not None:
            found.append((lost, "skill"))
        latest: tuple[float | None, Change] = max(found) if found else (None, "drift")
        changed, change = latest
        last = max((at for at, _ in known.trainings), default=None)
        if last is None and now is not None:
            last = trained_at if trained_at is not None and trained_at <= now else self._spans[stream][0]
        return Trainings(
            last=last,
            accepted=max((at for at, word in known.trainings if word == "trained"), default=None),
            changed=changed,
            change=change,
            attempts=sum(changed is not None and at >= changed for at, _ in known.trainings),
            commanded=self.commanded(stream, model) is not None,
        )

    def began(self, stream: str, model: str, version: int, champion: int, word: str | None = None) -> float | None:
        """Return when a version began beside a champion (or, with `word`, to do that); None if nobody has said so."""
        known = self._models[stream, model]
        last = known.last.get(version)
        if last is None or last.decision not in BEGUN or last.champion != champion:
            return None
        times = [known.begun.get((version, champion, each)) for each in ([word] if word else sorted(BEGUN))]
        return min((at for at in times if at is not None), default=None)

    def ended(self, stream: str, model: str, version: int, champion: int) -> bool:
        """Return whether a version's comparison with a champion is over."""
        last = self._models[stream, model].last.get(version)
        return last is not None and last.decision == "dropped" and last.champion == champion

    def evidence(self, stream: str, model: str, arms: Arms, version: int, policy: Policy, *, errors: bool) -> Evidence:
        """Return what is known of a version beside the champion.

        Parameters
        ----------
        errors
            Whether the model makes forecasts, whose errors tell.
        """
        now, begin = self.now(stream), self.began(stream, model, version, arms.champion)
        if now is None or begin is None:
            return Evidence()
        challenged = self.began(stream, model, version, arms.champion, "challenged")
        age, served = now - begin, None if challenged is None else now - challenged
        if not errors:
            return Evidence(age, served, judged=self._judged(stream, model, arms.champion, version))
        series = self.pairs.series(stream, model, arms.champion, version, begin)
        bounds = judge(series.differences, policy.alpha, block=policy.block)
        paired = len(series.differences)
        # at first it knows nothing of entities, and is surprised
        windows, before, over = self._over(stream, model, arms.champion, version, min(age / 2, self._longest))
        return Evidence(
            age, served, bounds, ratio=series.ratio, paired=paired, unpaired=series.unpaired,
            windows=windows, champion_over=before, over=over,
        )  # fmt: skip

    def _over(self, stream: str, model: str, champion: int, version: int, seconds: float) -> tuple[int, int, int]:
        """Return windows that both scored, and in how many the champion and the version were over the threshold."""
        rows = [
            row
            for row in self.arms.over(seconds)
            if (row["stream"], row["model"], row["champion"], row["version"]) == (stream, model, champion, version)
        ]
        sums = {name: sum(row[name] for row in rows) for name in ("n", "both", "only_champion", "only_arm")}
        return sums["n"], sums["both"] + sums["only_champion"], sums["both"] + sums["only_arm"]

    def _judged(self, stream: str, model: str, *versions: int) -> tuple[tuple[int, int], tuple[int, int]]:
        rows = {(row["stream"], row["model"], row["version"]): row for row in self.alerts.over(ALERTS_KEPT)}
        found = [rows.get((stream, model, version), {"true": 0, "false": 0}) for version in versions]
        (mine, theirs) = ((row["true"], row["true"] + row["false"]) for row in found)
        return mine, theirs

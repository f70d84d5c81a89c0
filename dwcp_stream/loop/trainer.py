"""The trainer: looks at what models realised, decides which version serves, trains again.

Nothing else moves aliases unless a person says so.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from structlog import get_logger

from dwcp_stream.errors import ModelError
from dwcp_stream.events import DecisionWord, ModelDecision, Output, rfc3339
from dwcp_stream.history.retrain import Retrained
from dwcp_stream.loop.decider import Arms, Evidence, Verdict, decide
from dwcp_stream.loop.due import Reason, due
from dwcp_stream.loop.knowledge import Knowledge
from dwcp_stream.loop.policy import Policy
from dwcp_stream.loop.sequential import BLOCKS
from dwcp_stream.loop.skill import WINDOW
from dwcp_stream.registry import ModelRepository
from dwcp_stream.registry.payload import build_decision
from dwcp_stream.registry.promotion import promote, rollback, shadow, split
from dwcp_stream.streams import ModelBinding, StreamDefinition

log = get_logger(__name__)

BY = "trainer"
Publish = Callable[[Sequence[Output]], Awaitable[None]]
Train = Callable[[StreamDefinition, ModelBinding, float, float, Reason], Awaitable[Retrained]]
"""Trains a model on telemetry of event time from a time on until another, epoch seconds."""


@dataclass(slots=True)
class Trainer:
    """Looks at every model of some streams: at most one decision about each at a look.

    What it knows is what the topics say. A decision is published before it is carried out: if it dies in between, the
    next one finds the same evidence and decides again.

    Parameters
    ----------
    streams
        The streams.
    repository
        Models and aliases.
    knowledge
        What the topics said; somebody else feeds it.
    policy
        The rules.
    history
        Seconds of event time that a training is given at most.
    publish
        Sends outputs and waits for their confirmation.
    train
        Makes a candidate.
    leads
        Whether this trainer is the one that decides.
    told
        Called with each decision.
    took
        Called with stream, model and seconds of each training.
    """

    streams: Sequence[StreamDefinition]
    repository: ModelRepository
    knowledge: Knowledge
    policy: Policy
    history: float
    publish: Publish
    train: Train
    leads: Callable[[], bool] = lambda: True
    told: Callable[[ModelDecision], None] = lambda _: None
    took: Callable[[str, str, float], None] = lambda _stream, _model, _seconds: None
    _training: asyncio.Task[None] | None = None
    _failures: dict[str, str] = field(default_factory=dict)

    async def look(self) -> int:
        """Decide what can be decided now; returns the number of decisions."""
        made = 0
        self._look_at_training()
        for stream in self.streams:
            for binding in stream.models:
                if not self.leads():
                    return made
                if binding.alias == "champion":
                    try:
                        made += await self._look_at(stream, binding)
                    except ModelError as error:
                        self._complain(binding.name, error)
        return made

    def _look_at_training(self) -> None:
        """Let go of a training that has ended; if its outcome could not be told, it is due again."""
        if self._training is None or not self._training.done():
            return
        error = None if self._training.cancelled() else self._training.exception()
        if error is not None:
            log.warning("what became of a training could not be told", error=repr(error))
        self._training = None

    async def idle(self) -> None:
        """Wait until no training is under way."""
        if self._training is not None:
            await asyncio.wait([self._training])

    async def stop(self) -> None:
        """Leave a training that is under way; its thread ends by itself, and what it publishes nobody points at."""
        if self._training is not None:
            self._training.cancel()
            await asyncio.wait([self._training])

    def _complain(self, name: str, error: ModelError) -> None:
        if self._failures.get(name) != str(error):
            self._failures[name] = str(error)
            log.error("cannot be decided about", model=name, reason=str(error), error_type=error.error_type)

    async def _look_at(self, stream: StreamDefinition, binding: ModelBinding) -> int:
        name = binding.name
        arms = await self._arms(name)
        if made := await self._announce(stream, binding, arms):
            return made
        errors = binding.task == "forecast"
        known = {
            version: self.knowledge.evidence(stream.name, name, arms, version, self.policy, errors=errors)
            for version in arms.beside
        }
        verdict = decide(arms, known, self.policy)
        if verdict is not None:
            await self._carry_out(stream, binding, arms, verdict)
            return 1
        if await self._guard(stream, binding, arms):
            return 1
        before = known.get(arms.last_good or 0)
        await self._train_if_due(stream, binding, arms, guarded=before is not None and _too_early(before))
        return 0

    async def _arms(self, name: str) -> Arms:
        pointed = await asyncio.to_thread(self.repository.aliases, name)
        return Arms(
            pointed.get("champion", 0), pointed.get("challenger"), pointed.get("shadow"), pointed.get("last_good")
        )

    # --- versions ---------------------------------------------------------------------------------------

    async def _announce(self, stream: StreamDefinition, binding: ModelBinding, arms: Arms) -> int:
        """Say of a version that somebody else has put beside the champion that it is compared from now on."""
        made = 0
        placed: list[tuple[int | None, DecisionWord]] = [(arms.challenger, "challenged"), (arms.shadow, "shadowed")]
        for version, word in placed:
            if version is None or version == arms.champion:
                continue
            if self.knowledge.began(stream.name, binding.name, version, arms.champion) is None:
                if word == "shadowed" and self._to_guard(stream, binding, arms):
                    continue  # it ran beside another champion
                await self._tell(
                    stream, binding, Verdict(word, version, arms.champion, "somebody has put it there", {})
                )
                made += 1
        return made

    def _to_guard(self, stream: StreamDefinition, binding: ModelBinding, arms: Arms) -> bool:
        """Whether the champion before is to run beside the champion: nothing is known of the two yet."""
        last = arms.last_good
        if binding.task != "forecast" or last is None or last in (arms.champion, arms.challenger, arms.shadow):
            return False
        return not self.knowledge.ended(stream.name, binding.name, last, arms.champion)

    async def _guard(self, stream: StreamDefinition, binding: ModelBinding, arms: Arms) -> bool:
        """Let the champion before run as shadow, in the place of one that ran beside another champion.

        Also beside a challenger: of that one the test asks for more before it may take the champion's place.
        """
        shadow_ = arms.shadow
        if not self._to_guard(stream, binding, arms):
            return False
        if shadow_ is not None and self.knowledge.began(stream.name, binding.name, shadow_, arms.champion) is not None:
            return False
        await self._carry_out(stream, binding, arms, _guarding(arms.last_good or 0, arms.champion))
        return True

    async def _carry_out(self, stream: StreamDefinition, binding: ModelBinding, arms: Arms, verdict: Verdict) -> None:
        await self._tell(stream, binding, verdict)
        name, version, reason = binding.name, verdict.version, verdict.reason
        guarded = verdict.word == "promoted" and binding.task == "forecast"
        if guarded:  # both at once: what the champion before remembers of entities goes on then
            await self._tell(stream, binding, _guarding(arms.champion, version))

        def move() -> None:
            if verdict.word == "promoted":
                promote(self.repository, name, version, stream, by=BY, reason=reason)
                if guarded:
                    shadow(self.repository, name, arms.champion, stream, by=BY, reason="it comes back if it was better")
            elif verdict.word == "rolled_back":
                rollback(self.repository, name, stream, by=BY, reason=reason)
            elif verdict.word == "challenged":
                split(self.repository, name, version, self.policy.share, stream, by=BY, reason=reason)
            elif verdict.word == "shadowed":
                shadow(self.repository, name, version, stream, by=BY, reason=reason)
            elif version == arms.challenger:
                split(self.repository, name, None, 0, by=BY, reason=reason)
            else:
                shadow(self.repository, name, None, by=BY, reason=reason)

        await asyncio.to_thread(move)

    async def _tell(self, stream: StreamDefinition, binding: ModelBinding, verdict: Verdict) -> None:
        now = self.knowledge.now(stream.name)
        decision = ModelDecision(
            stream=stream.name,
            model=binding.name,
            decision=verdict.word,
            version=verdict.version,
            champion=verdict.champion or None,
            reason=verdict.reason,
            numbers=dict(verdict.numbers),
            event_time=rfc3339(time.time() if now is None else now),
        )
        output = build_decision(decision)
        await self.publish([output])
        self.knowledge.decision(dict(output.headers)["ce_id"].decode(), decision)
        log.info(
            "decided", stream=stream.name, model=binding.name, decision=verdict.word, version=verdict.version,
            champion=verdict.champion, reason=verdict.reason, event_time=decision.event_time,
        )  # fmt: skip
        self.told(decision)

    # --- training ---------------------------------------------------------------------------------------

    async def _train_if_due(
        self, stream: StreamDefinition, binding: ModelBinding, arms: Arms, *, guarded: bool
    ) -> None:
        now = self.knowledge.now(stream.name)
        if now is None or self._training is not None:
            return
        trained_at = None
        if arms.champion:
            manifest = await asyncio.to_thread(self.repository.manifest, binding.name, arms.champion)
            trained_at = datetime.fromisoformat(manifest.trained_at).timestamp()
        trainings = self.knowledge.trainings(stream.name, binding.name, arms.champion, trained_at)
        why = due(now, trainings, self.policy)
        if why is not None:
            reason, changed = why
            if guarded and reason != "command":
                return
            begun = [self.knowledge.began(stream.name, binding.name, v, arms.champion) for v in arms.beside]
            if begun and reason == "schedule":
                return  # first it has to be known which of those that run is better
            if changed is not None and any(at is not None and at >= changed for at in begun):
                return
            begin = 0.0 if changed is None else changed - WINDOW if reason == "skill" else changed
            since = max(now - self.history, begin)
            self._training = asyncio.create_task(self._run_training(stream, binding, arms, reason, since, now))

    async def _run_training(
        self, stream: StreamDefinition, binding: ModelBinding, arms: Arms, reason: Reason, since: float, until: float
    ) -> None:
        log.info("training", stream=stream.name, model=binding.name, why=reason, since=rfc3339(since))
        handled = self.knowledge.commanded(stream.name, binding.name)
        numbers: dict[str, float | None] = {"hours": round((until - since) / 3600, 3), "command": handled}
        begun = time.monotonic()
        try:
            found = await self.train(stream, binding, since, until, reason)
            self.took(stream.name, binding.name, time.monotonic() - begun)
        except Exception as error:  # whatever it is: the trainer goes on with the other models
            log.exception("training failed", stream=stream.name, model=binding.name)
            await self._tell(stream, binding, Verdict("failed", 0, arms.champion, f"{reason}: {error}", numbers))
            return
        numbers |= numbers_of(found)
        if found.version is None:
            said = "; ".join(found.reasons)
            await self._tell(stream, binding, Verdict("rejected", 0, arms.champion, f"{reason}: {said}", numbers))
            return
        arms = await self._arms(binding.name)  # as they are by now
        champion = arms.champion
        await self._tell(stream, binding, Verdict("trained", found.version, champion, reason, numbers))
        if not found.champion and self.leads():
            for version in arms.beside:
                said = f"gives way to version {found.version}"
                await self._carry_out(stream, binding, arms, Verdict("dropped", version, champion, said, {}))
            verdict = Verdict("shadowed", found.version, champion, f"a candidate, trained by {reason}", {})
            await self._carry_out(stream, binding, arms, verdict)


def _too_early(known: Evidence) -> bool:
    """Whether the champion before has not been compared for long enough to come back: better so than to train."""
    return known.bounds is not None and known.bounds.blocks < BLOCKS


def _guarding(version: int, champion: int) -> Verdict:
    return Verdict("shadowed", version, champion, "the champion before: it comes back if it was better", {})


def numbers_of(found: Retrained) -> dict[str, float | None]:
    """Return what a decision says of a training."""
    compared = found.comparison
    relative = None if compared is None or math.isnan(compared.relative) else compared.relative
    return {"rows": found.data.get("rows"), "holdout": found.data.get("holdout"), "relative_error": relative}

"""One model's part of the pipeline: score the windows of a pass, then alerts, forecasts and drift."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace

import numpy as np
from numpy.typing import NDArray

from dwcp_stream.activations import line_of
from dwcp_stream.alerts import AlertSource, Transition, build_alert
from dwcp_stream.drift import build_drift
from dwcp_stream.events import Accuracy, Drift, Output
from dwcp_stream.forecasts import (
    ForecastTracker,
    PredictionSource,
    build_accuracy,
    build_forecasts,
    build_incidents,
    confidence,
    link_scale,
)
from dwcp_stream.partition import Partition
from dwcp_stream.scoring import Model, ModelState, Verdicts, rounds
from dwcp_stream.streams import StreamDefinition
from dwcp_stream.windows import Pass

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]

Recorder = Callable[[Model, Sequence[str], NDArray[np.float64], Verdicts, NDArray[np.bool_]], None]
"""Told of every verdict: model, entities, times, verdicts, whether the entity's alert fires after each."""

Witness = Callable[[Model, Sequence[str], NDArray[np.float64], F32, NDArray[np.float64], F32 | None, Verdicts], None]
"""Shown what a champion scored: model, entities, times of the rows, windows, their times, states before, verdicts."""


@dataclass(slots=True)
class StageResult:
    """What one model made of one pass.

    `telling` holds, for each output of an alert, the index in the chunk of the sample that completed the transition;
    `scores` are those of the windows scored, shape (b,).
    """

    outputs: list[Output] = field(default_factory=list)
    telling: list[tuple[Output, int]] = field(default_factory=list)
    transitions: list[tuple[Transition, str]] = field(default_factory=list)
    drifts: list[Drift] = field(default_factory=list)
    accuracies: list[Accuracy] = field(default_factory=list)
    predictions: Counter[str] = field(default_factory=Counter)
    confidence: dict[str, float] = field(default_factory=dict)
    scores: F32 = field(default_factory=lambda: np.zeros(0, np.float32))


class Stage:
    """Runs one version of a model on one of its arms.

    Parameters
    ----------
    stream
        The stream's definition.
    model
        The model, bound to the stream.
    buffer_cap
        Largest socket buffer that advice may name, bytes.
    arm
        Whose alerts and predictions go out is `Partition.served`'s to say.
    recorder
        Told of every verdict of a champion, if given.
    witness
        Shown every window of a champion, if given.
    """

    def __init__(
        self,
        stream: StreamDefinition,
        model: Model,
        *,
        buffer_cap: int,
        arm: str = "champion",
        recorder: Recorder | None = None,
        witness: Witness | None = None,
    ) -> None:
        self.stream, self.model, self.arm = stream, model, arm
        self._witness = witness if arm == "champion" else None
        self.line = line_of(model.name, arm)
        self._recorder = recorder if arm == "champion" else None
        binding = next(b for b in stream.models if b.name == model.name)
        self._columns = np.array([stream.field_index(name) for name in model.fields], np.int64)
        self._targets = np.array([stream.field_index(name) for name in model.targets], np.int64)
        self._alerts = AlertSource(
            stream.name,
            stream.alertname(binding),
            model.name,
            model.version,
            [stream.fields[i] for i in self._columns.tolist()],
            threshold=stream.alert.of(model.name).threshold,
        )
        self._predictions = PredictionSource(
            stream.name,
            model.name,
            model.version,
            arm,
            targets=tuple(model.targets),
            horizons=tuple(model.horizons),
            step=stream.step if isinstance(stream.step, float) else 0.0,
            buffer_cap=buffer_cap,
        )

    def run(
        self, state: Partition, found: Pass, sample_ts: NDArray[np.float64], champion: F32 | None = None
    ) -> StageResult:
        """Score what a pass has to be scored, and follow up on every row that advanced.

        `sample_ts` are the times of the samples that `found` counts: what is recorded has the time that the sample
        came with, also where its row on the grid has another. `champion` are the champion's scores, for another arm.
        """
        result = StageResult()
        scored = found.scored
        slots, ts = found.adv_slot[scored], found.adv_ts[scored]
        windows, times = found.windows(), found.times()
        seat = self._seat(state)
        before = None if seat.memory is None else seat.memory.read(slots)
        verdicts = self._score(seat.memory, slots, windows, times, before)
        result.scores = verdicts.score
        if self._witness is not None and len(scored):
            seen = [state.windows.entity_of(slot) for slot in slots.tolist()]
            self._witness(self.model, seen, ts, windows, times, before, verdicts)
        served = state.served(self.model.name, self.arm, slots)
        transitions = self._observe(state, slots, ts, verdicts.score, served)
        if transitions:
            self._alert(state, found, transitions, windows, times, verdicts, before, result)
        errors = self._forecast(state, seat.forecasts, found, windows, verdicts, served, result)
        self._incident(state, slots, ts, verdicts, served, result)
        if self.arm == "champion":
            self._watch(state, found, verdicts, errors)
        elif champion is not None:
            version = state.models[self.model.name].version
            state.contenders.by_line[self.line].pairs.add(ts, version, champion, verdicts.score)
        if self._recorder is not None and len(scored):
            firing = firing_after(state.alerts[self.model.name].active(slots), slots, transitions)
            names = [state.windows.entity_of(slot) for slot in slots.tolist()]
            self._recorder(self.model, names, sample_ts[found.adv_sample[scored]], verdicts, firing)
        return result

    def tick(self, state: Partition, tick: float, expired: I64) -> StageResult:
        """Act on the passing of event time: resolve and close what is silent, hand out what is complete."""
        result = StageResult()
        champion = self.arm == "champion"
        if len(expired) and champion:
            ends = state.windows.last_ts[expired] + self.stream.expire_after
            for transition in state.alerts[self.model.name].expire(expired, ends):
                entity = state.windows.entity_of(transition.slot)
                result.outputs.append(build_alert(self._alerts, entity, transition, state="stale"))
                result.transitions.append((transition, ""))
        tracker = self._seat(state).forecasts
        if tracker is not None:
            if len(expired):
                tracker.expire(expired)
            self._realised(tracker.drain(tick), result)
        if not champion:
            result.outputs += state.contenders.paired(state.contenders.by_line[self.line], tick, tick)
            return result
        for event in state.drift[self.model.name].finish(tick):
            result.outputs.append(build_drift(event))
            result.drifts.append(event)
        return result

    # --- steps ------------------------------------------------------------------------------------------

    def _seat(self, state: Partition) -> "Seat":
        if self.arm == "champion":
            return Seat(state.states.get(self.model.name), state.forecasts.get(self.model.name))
        contender = state.contenders.by_line[self.line]
        return Seat(contender.memory, contender.forecasts)

    def _score(
        self, memory: ModelState | None, slots: I64, windows: F32, times: NDArray[np.float64], before: F32 | None
    ) -> Verdicts:
        """Score windows; `before` gets the state that each window met, for the explanation."""
        if memory is None or before is None or not len(slots):
            return self.model.score(windows, times)
        joined: dict[str, NDArray[np.float32]] = {}
        for chosen in rounds(slots):  # an entity's next window needs the state its last one left
            before[chosen] = memory.read(slots[chosen])
            verdicts = self.model.score(windows[chosen], times[chosen], before[chosen])
            if verdicts.state_out is not None:
                memory.write(slots[chosen], verdicts.state_out)
            for part in fields(Verdicts):
                found = getattr(verdicts, part.name)
                if found is not None:
                    joined.setdefault(part.name, np.empty((len(slots), *found.shape[1:]), found.dtype))[chosen] = found
        return Verdicts.of(joined)

    def _observe(
        self, state: Partition, slots: I64, ts: NDArray[np.float64], scores: F32, served: NDArray[np.bool_] | None
    ) -> list[Transition]:
        """Let the alerts see the verdicts that go out: those of an entity stay one alert, whichever arm serves it."""
        alerts, latest = state.alerts[self.model.name], state.latest[self.model.name]
        if served is None:
            latest.write(slots, scores)
            return alerts.observe(slots, ts, scores)
        rows = np.flatnonzero(served)
        if not len(rows):
            return []
        latest.write(slots[rows], scores[rows])
        alerts.cutoffs = self.model.severity
        found = alerts.observe(slots[rows], ts[rows], scores[rows])
        return [replace(transition, index=int(rows[transition.index])) for transition in found]

    def _alert(
        self,
        state: Partition,
        found: Pass,
        transitions: Sequence[Transition],
        windows: F32,
        times: NDArray[np.float64],
        verdicts: Verdicts,
        before: F32 | None,
        result: StageResult,
    ) -> None:
        rows = np.array([t.index for t in transitions], np.int64)
        contributions = self.model.explain(windows[rows], times[rows], None if before is None else before[rows])
        for i, transition in enumerate(transitions):
            row = transition.index
            output = build_alert(
                self._alerts,
                state.windows.entity_of(transition.slot),
                transition,
                values=windows[row, -1, self._columns],
                expected=None if verdicts.expected is None else verdicts.expected[row],
                contribution=None if contributions is None else contributions[i],
                # what a row looks like that is no trouble any more says nothing of the trouble
                kind=None if transition.action == "resolved" else self._kind(verdicts, row),
                state="degraded" if self.model.degraded else "scored",
            )
            result.outputs.append(output)
            result.telling.append((output, int(found.adv_sample[found.scored[row]])))
            top = "" if contributions is None else self.model.fields[int(np.nanargmax(contributions[i]))]
            result.transitions.append((transition, top))

    def _kind(self, verdicts: Verdicts, row: int) -> str | None:
        if verdicts.kind is None or not self.model.kinds:
            return None
        return self.model.kinds[int(np.argmax(verdicts.kind[row]))]

    def _forecast(
        self,
        state: Partition,
        tracker: ForecastTracker | None,
        found: Pass,
        windows: F32,
        verdicts: Verdicts,
        served: NDArray[np.bool_] | None,
        result: StageResult,
    ) -> F32 | None:
        if tracker is None or verdicts.quantiles is None:
            return None
        advanced = tracker.advance(
            found.adv_slot,
            found.adv_row,
            found.adv_ts,
            found.adv_values[:, self._targets],
            restarted=found.adv_restarted,
            forecast_index=found.scored,
            quantiles=verdicts.quantiles,
            version=self.model.version,
        )
        rows = slice(None) if served is None else np.flatnonzero(served)
        told = found.scored[rows]
        if len(told):
            names = [state.windows.entity_of(slot) for slot in found.adv_slot[told].tolist()]
            scale = link_scale(windows[rows][:, :, self._targets])
            corrected = advanced.corrected[rows]
            outputs = build_forecasts(
                self._predictions,
                names,
                found.adv_ts[told],
                raw=verdicts.quantiles[rows],
                corrected=corrected,
                scale=scale,
                last=windows[rows][:, -1, self._targets],
                score=verdicts.score[rows],
            )
            result.outputs += outputs
            result.predictions[self.model.name] += len(outputs)
            result.confidence[self.model.name] = float(confidence(corrected[-1:], scale[-1:]).mean())
        return advanced.errors

    def _incident(
        self,
        state: Partition,
        slots: I64,
        ts: NDArray[np.float64],
        verdicts: Verdicts,
        served: NDArray[np.bool_] | None,
        result: StageResult,
    ) -> None:
        rows = slice(None) if served is None else np.flatnonzero(served)
        if verdicts.probability is None or not len(slots[rows]):
            return
        names = [state.windows.entity_of(slot) for slot in slots[rows].tolist()]
        outputs = build_incidents(self._predictions, names, ts[rows], verdicts.probability[rows], verdicts.score[rows])
        result.outputs += outputs
        result.predictions[self.model.name] += len(outputs)

    def _watch(self, state: Partition, found: Pass, verdicts: Verdicts, errors: F32 | None) -> None:
        scores = np.full(len(found.adv_slot), np.nan, np.float32)
        scores[found.scored] = verdicts.score
        inputs = found.adv_values[:, self._columns]
        state.drift[self.model.name].observe(found.adv_ts, scores, inputs, errors)

    def _realised(self, parts: Sequence[Accuracy], result: StageResult) -> None:
        for part in parts:
            result.outputs.append(build_accuracy(part))
            result.accuracies.append(part)


@dataclass(frozen=True, slots=True)
class Seat:
    """What an arm keeps of entities in a partition."""

    memory: ModelState | None
    forecasts: ForecastTracker | None


def firing_after(now: NDArray[np.bool_], slots: I64, transitions: Sequence[Transition]) -> NDArray[np.bool_]:
    """Return whether the slot's alert fired after each verdict, given how it is after all of them."""
    firing = now.copy()
    for transition in reversed(transitions):
        if transition.action == "escalated" or transition.index < 0:
            continue
        before = (np.arange(len(slots)) < transition.index) & (slots == transition.slot)
        firing[before] = transition.action == "resolved"
    return firing

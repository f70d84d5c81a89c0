"""What is published of forecasts, incident probabilities and realised errors."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dwcp_stream import cloudevents
from dwcp_stream.alerts.identity import EntityDigest, digest
from dwcp_stream.events import Accuracy, Advice, HorizonForecast, Output, Prediction, encoder, rfc3339
from dwcp_stream.forecasts.advice import BUFFER_CAP, Recommendation, confidence, recommend
from dwcp_stream.forecasts.buckets import LEVELS

LINK_TARGETS = ("bandwidth_mbps", "latency_ms", "packet_loss", "jitter_ms")
"""Targets that advice needs; without all four there is none."""
SURE_OF = ("bandwidth_mbps", "latency_ms")
"""Targets whose mean confidence is that of a link's forecast; without both it is the mean of all."""

SAME = 1e-5
"""Relative difference up to which two numbers of single precision that went through a transformation are the same."""

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PredictionSource:
    """What the predictions of one model on one stream have in common.

    Parameters
    ----------
    stream, model, version, arm
        Names, and the version and arm that predict.
    targets, horizons
        Of a forecast: names of the Y targets, the H horizons in grid steps.
    step
        Seconds of a grid step; 0 for an irregular stream, whose target times nobody knows.
    buffer_cap
        Largest buffer to advise, bytes.
    """

    stream: str
    model: str
    version: int
    arm: str = "champion"
    targets: tuple[str, ...] = ()
    horizons: tuple[int, ...] = ()
    step: float = 0.0
    buffer_cap: int = BUFFER_CAP


class _Writer:
    """Writes the messages of one kind; what they all share is made once."""

    def __init__(self, source: PredictionSource, kind: Literal["forecast", "incident"]) -> None:
        horizons = ",".join(map(str, source.horizons))
        self._id = EntityDigest([kind, source.stream], [source.model, source.version, source.arm, horizons])
        self._envelope = cloudevents.Envelope(f"dwcp.prediction.{kind}", cloudevents.source(source.stream))

    def id(self, entity: str, ts: float) -> str:
        """Return the id of the event."""
        return self._id(entity, ts)

    def output(self, prediction: Prediction, event_id: str) -> Output:
        """Return the message."""
        key = prediction.entity.encode()
        headers = self._envelope(key, prediction.issued_at, event_id)
        return Output("predictions", key, encoder.encode(prediction), headers)


def build_forecasts(
    source: PredictionSource,
    entities: Sequence[str],
    ts: F64,
    *,
    raw: F32,
    corrected: F32,
    scale: F32,
    last: F32,
    score: F32 | None = None,
) -> list[Output]:
    """Return one message per forecast row, with all its horizons.

    Parameters
    ----------
    source
        Model, targets and horizons.
    entities, ts
        Entity and event time (epoch seconds) of each row, shape (b,).
    raw, corrected
        q10, q50, q90 before and after the conformal correction, shape (b, H, Y, 3).
    scale
        Usual size of each target on the link, shape (b, Y); see `link_scale`.
    last
        Value of each target at the time of issue, shape (b, Y), NaN = not measured.
    score
        Score of each row, shape (b,), if there is one.
    """
    per_target = confidence(corrected, scale)
    named = [source.targets.index(t) for t in SURE_OF if t in source.targets]
    sure = per_target[..., named if len(named) == len(SURE_OF) else slice(None)].mean(axis=-1)
    advice = _advice(source, corrected[..., 1], sure)
    sure = np.round(sure, 6)
    scores: list[float | None] = [None] * len(ts) if score is None else score.tolist()
    repeats = np.isclose(raw[..., 1], last[:, None, :], rtol=SAME, atol=0.0).mean(axis=(1, 2)).round(3).tolist()
    writer, targets, steps = _Writer(source, "forecast"), source.targets, source.step
    outputs = []
    for i, (entity, when, said) in enumerate(zip(entities, ts.tolist(), scores, strict=True)):
        # Lists of one row at a time: those of all rows would keep the garbage collector busy.
        raws, fixed, surely = raw[i].tolist(), corrected[i].tolist(), sure[i].tolist()
        advised = (
            [None] * len(source.horizons)
            if advice is None
            else list(map(Advice, advice.streams[i].tolist(), advice.buffer_bytes[i].tolist()))
        )
        event_id = writer.id(entity, when)
        forecasts = [
            HorizonForecast(
                id=f"{event_id}-{horizon}",
                horizon=horizon,
                target_time=rfc3339(when + horizon * steps) if steps else None,
                raw=dict(zip(targets, raws[j], strict=True)),
                corrected=dict(zip(targets, fixed[j], strict=True)),
                confidence=surely[j],
                advice=advised[j],
            )
            for j, horizon in enumerate(source.horizons)
        ]
        prediction = Prediction(
            kind="forecast",
            stream=source.stream,
            entity=entity,
            model=source.model,
            version=source.version,
            arm=source.arm,
            issued_at=rfc3339(when),
            score=said,
            confidence=surely[0],
            advice=advised[0],
            repeats=repeats[i],
            levels=LEVELS,
            forecasts=forecasts,
        )
        outputs.append(writer.output(prediction, event_id))
    return outputs


def _advice(source: PredictionSource, q50: F32, sure: F64) -> Recommendation | None:
    if not all(target in source.targets for target in LINK_TARGETS):
        return None
    link = [q50[..., source.targets.index(target)] for target in LINK_TARGETS]
    return recommend(*link, confidence=sure, cap=source.buffer_cap)


def build_incidents(
    source: PredictionSource, entities: Sequence[str], ts: F64, probability: F32, score: F32
) -> list[Output]:
    """Return one message per row of an incident model.

    Parameters
    ----------
    source
        Model.
    entities, ts
        Entity and event time (epoch seconds) of each row, shape (b,).
    probability, score
        Probability of an incident, and the score (1.0 = threshold), shape (b,).
    """
    writer = _Writer(source, "incident")
    outputs = []
    rows: Any = zip(entities, ts.tolist(), probability.tolist(), score.tolist(), strict=True)
    for entity, when, likely, said in rows:
        prediction = Prediction(
            kind="incident",
            stream=source.stream,
            entity=entity,
            model=source.model,
            version=source.version,
            arm=source.arm,
            issued_at=rfc3339(when),
            score=said,
            probability=likely,
        )
        outputs.append(writer.output(prediction, writer.id(entity, when)))
    return outputs


def build_accuracy(part: Accuracy) -> Output:
    """Return the message for one part of a bucket.

    The id holds when the part was closed: a later part of the same bucket is another event, the same part
    repeated after a crash is not.
    """
    name = f"{part.stream}/{part.model}/{part.version}/{part.arm}/{part.horizon}"
    event_id = digest("accuracy", name, part.target, part.partition, part.bucket_start, part.event_time)
    headers = cloudevents.headers_at(
        "dwcp.accuracy.bucket", cloudevents.source(part.stream), name, part.event_time, event_id
    )
    return Output("accuracy", name.encode(), encoder.encode(part), headers)

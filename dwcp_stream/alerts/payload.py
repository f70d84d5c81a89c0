"""What is published of a transition: Alertmanager's fields, a sentence, and the fields that stood out."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from dwcp_stream import cloudevents
from dwcp_stream.alerts.identity import ce_id, fingerprint
from dwcp_stream.alerts.tracker import Transition
from dwcp_stream.events import Alert, AlertField, Output, encoder, rfc3339
from dwcp_stream.streams.definition import Field

TOP = 3
"""Contributing fields that an alert names."""


@dataclass(frozen=True, slots=True)
class AlertSource:
    """What the alerts of one model on one stream have in common.

    Parameters
    ----------
    stream, alertname, model, model_version
        Names, and the version that gave the verdict.
    fields
        The columns of the arrays given to `build_alert`, in their order.
    generator_url
        Where a person can look further; left out of the payload if empty.
    threshold
        Score over which the stream's policy raises an alert.
    """

    stream: str
    alertname: str
    model: str
    model_version: int
    fields: Sequence[Field]
    generator_url: str = ""
    threshold: float = 1.0


def build_alert(
    source: AlertSource,
    entity: str,
    transition: Transition,
    *,
    values: NDArray[np.float32] | None = None,
    expected: NDArray[np.float32] | None = None,
    contribution: NDArray[np.float32] | None = None,
    kind: str | None = None,
    state: str = "scored",
) -> Output:
    """Return the message for one transition.

    Parameters
    ----------
    source
        Stream, model and fields.
    entity
        Encoded entity.
    transition
        What changed.
    values, expected, contribution
        The window's last row, what the model expected of it and how much each field added to the score, shape
        (F,), categories as codes; None or NaN where unknown. Without contributions the fields are ranked by
        their deviation relative to what was expected.
    kind
        Kind of anomaly, if the model names it.
    state
        `scored`, or `stale` or `degraded` (judged by a fallback model).
    """
    identity = fingerprint(source.alertname, source.stream, entity, source.model)
    fields = [] if values is None else top_fields(source.fields, values, expected, contribution)
    alert = Alert(
        labels={
            "alertname": source.alertname,
            "stream": source.stream,
            "entity": entity,
            "model": source.model,
            "severity": transition.severity,
        },
        annotations={
            "summary": summary(source, entity, transition, fields),
            "fields": ", ".join(field.name for field in fields),
        },
        starts_at=rfc3339(transition.starts_at),
        ends_at=msgspec.UNSET if math.isnan(transition.ends_at) else rfc3339(transition.ends_at),
        generator_url=source.generator_url or msgspec.UNSET,
        fingerprint=identity,
        action=transition.action,
        reason=transition.reason,
        severity=transition.severity,
        score=transition.score,
        kind=kind,
        state=state,
        fields=fields,
        stream=source.stream,
        entity=entity,
        model=source.model,
        model_version=source.model_version,
        event_time=rfc3339(transition.event_time),
    )
    event_id = ce_id(identity, transition.starts_at, transition.action, transition.event_time)
    return Output(
        "anomalies",
        identity.encode(),
        encoder.encode(alert),
        cloudevents.headers(
            f"dwcp.anomaly.{transition.action}",
            cloudevents.source(source.stream),
            entity,
            transition.event_time,
            event_id,
        ),
    )


def top_fields(
    fields: Sequence[Field],
    values: NDArray[np.float32],
    expected: NDArray[np.float32] | None,
    contribution: NDArray[np.float32] | None,
) -> list[AlertField]:
    """Return the fields that stood out, the strongest first, at most `TOP`; none if nothing ranks them."""
    if contribution is not None:
        weight = np.asarray(contribution, np.float64)
    elif expected is not None:
        actual, wanted = np.asarray(values, np.float64), np.asarray(expected, np.float64)
        weight = np.abs(actual - wanted) / np.maximum(np.abs(wanted), 1e-9)
    else:
        return []
    weight = np.where(np.isfinite(weight) & (weight > 0), weight, 0.0)
    order = [i for i in np.argsort(-weight, kind="stable")[:TOP].tolist() if weight[i] > 0]
    return [
        AlertField(
            name=fields[i].name,
            value=_shown(fields[i], values[i]),
            expected=None if expected is None else _shown(fields[i], expected[i]),
            contribution=None if contribution is None else round(float(weight[i]), 6),
            unit=fields[i].unit,
        )
        for i in order
    ]


def summary(source: AlertSource, entity: str, transition: Transition, fields: Sequence[AlertField]) -> str:
    """Return the transition as one sentence."""
    where = f"{source.alertname} on {source.stream} {entity}"
    if transition.action == "resolved":
        lasted = max(0.0, transition.ends_at - transition.starts_at)
        why = "no samples for too long" if transition.reason == "expired" else "back to normal"
        return f"{where}: resolved after {lasted:.0f} s, {why}."
    verb = "escalated to" if transition.action == "escalated" else "is"
    text = f"{where} {verb} {transition.severity}: score {transition.score:.2f} (threshold {source.threshold:g})"
    told = [
        f"{f.name} {_text(f.value)}" + ("" if f.expected is None else f" (expected {_text(f.expected)})")
        for f in fields
    ]
    return f"{text}; {', '.join(told)}." if told else f"{text}."


def _shown(field: Field, value: np.float32) -> float | str | None:
    number = float(value)
    if not math.isfinite(number):
        return None
    if field.vocabulary:
        code = round(number)
        return field.vocabulary[code] if 0 <= code < len(field.vocabulary) else None
    return float(f"{number:.6g}")


def _text(value: float | str | None) -> str:
    if value is None:
        return "missing"
    return value if isinstance(value, str) else f"{value:.4g}"

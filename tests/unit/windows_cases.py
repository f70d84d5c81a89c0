"""Streams and sequences of records for the tests of the windows."""

import math
from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from dwcp_stream.streams.definition import Field, StreamDefinition

FIELDS = (
    Field(name="load"),
    Field(name="bytes", kind="counter", unit="B"),
    Field(name="mode", kind="categorical", vocabulary=("a", "b")),
    Field(name="errors", kind="counter"),
)

Record = list[tuple[float, str, list[float]]]


def make_stream(**changes: object) -> StreamDefinition:
    settings: dict[str, object] = {
        "name": "test", "topic": "dwcp.telemetry.test", "entity": ("cluster_id",), "step": 10.0, "window": 5,
        "min_periods": 3, "lateness": 25.0, "max_entities": 100, "fields": FIELDS,
    }  # fmt: skip
    return StreamDefinition(**(settings | changes))


@dataclass
class Batch:
    """Records as the arrays that `Windows.apply` takes."""

    offsets: np.ndarray
    ts: np.ndarray
    entity: np.ndarray
    entities: list[str]
    values: np.ndarray


def batch(offsets: list[int], records: list[Record], fields: int = len(FIELDS)) -> Batch:
    flat = [(o, *sample) for o, record in zip(offsets, records, strict=True) for sample in record]
    names = sorted({name for _, _, name, _ in flat}, reverse=True)  # in no order that means anything
    code = {name: i for i, name in enumerate(names)}
    return Batch(
        np.array([o for o, *_ in flat], np.int64),
        np.array([ts for _, ts, _, _ in flat], np.float64),
        np.array([code[name] for _, _, name, _ in flat], np.int64),
        names,
        np.array([values for *_, values in flat], np.float64).reshape(len(flat), fields),
    )


@st.composite
def streams(draw: st.DrawFn) -> StreamDefinition:
    window = draw(st.integers(1, 6))
    return make_stream(
        step=draw(st.sampled_from([10.0, 0.1, 1 / 3, "irregular"])),
        window=window,
        min_periods=draw(st.integers(1, window)),
        stride=draw(st.integers(1, 3)),
        lateness=draw(st.sampled_from([0.0, 0.25, 25.0, 1e9])),
        max_entities=draw(st.integers(1, 4)),
    )


@st.composite
def sequences(draw: st.DrawFn, stream: StreamDefinition) -> list[Record]:
    """Draw records: times wander on, with repeats, jumps back, jitter and gaps around the window's length."""
    step = 1.0 if stream.irregular else float(stream.step)
    names = ["a", "b/c", "ü", "d", "e"][: draw(st.integers(1, 5))]
    clock = dict.fromkeys(names, 1_700_000_000.0)
    moves = st.one_of(
        st.just(1.0),
        st.sampled_from([0.0, 1.0, 1.0, 2.0, 0.5, -0.5, 0.49, -1.0, -2.0, -3.0, 4.0]),
        st.integers(-stream.window - 2, stream.window + 3).map(float),
        st.floats(-8, 12),
    )
    value = st.one_of(st.integers(0, 50).map(float), st.just(math.nan))
    records = []
    for _ in range(draw(st.integers(1, 40))):
        record: Record = []
        for _ in range(draw(st.sampled_from([1, 1, 1, 2, 5]))):
            name = draw(st.sampled_from(names))
            at = clock[name] + draw(moves) * step
            if draw(st.booleans()):
                clock[name] = max(at, clock[name])
            else:
                clock[name] = at
            record.append((at, name, draw(st.lists(value, min_size=4, max_size=4))))
        records.append(record)
    return records

"""What the population stability index says of inputs that stay as they are, and of inputs that shift."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from dwcp_stream.drift.psi import MODERATE, SIGNIFICANT, WINDOW_BLOCKS, InputShares
from dwcp_stream.streams import Field
from dwcp_stream.training.publish import histogram

HOUR, DAYS = 60, 14
SHIFTED_AT, FOUND_WITHIN = 168, 48
SHIFTS = (0.5, 1.0)
Floats = NDArray[np.float64]


class Case(NamedTuple):
    """An input: entities, half-life of its autocorrelation in hours, and what differs between entities.

    `levels`: "none"; "same", half of the variance lies between entities and training has the same ones; or "others".
    """

    entities: int
    half_life: float
    levels: str


CASES = [
    *(Case(entities, half_life, "none") for half_life in (0.0, 1.0, 24.0) for entities in (1, 10, 50)),
    *(Case(entities, 1.0, levels) for levels in ("same", "others") for entities in (1, 10, 50)),
]


def shares_of_inputs(case: Case, repeats: int) -> dict[str, object]:
    """Return how often stationary inputs are judged to have shifted, and how many shifts are found, and how soon.

    A shift counts where the index was not over already when it came.
    """
    rng = np.random.default_rng([case.entities, round(case.half_life), len(case.levels)])
    drifted = warned = blocks = 0
    delays: dict[float, list[int | None]] = {shift: [] for shift in SHIFTS}
    for _ in range(repeats):
        train, values = drawn(rng, case)
        reference = histogram(train.ravel(), Field(name="x"))
        indices = psi_by_block(reference, values)
        drifted += int((indices > SIGNIFICANT).sum())
        warned += int(((indices > MODERATE) & (indices <= SIGNIFICANT)).sum())
        blocks += int(np.isfinite(indices).sum())
        for shift in SHIFTS:
            moved = values.copy()
            moved[SHIFTED_AT * HOUR :] += shift
            before, *over = psi_by_block(reference, moved)[SHIFTED_AT - 1 : SHIFTED_AT + FOUND_WITHIN] > SIGNIFICANT
            if not before:
                delays[shift].append(int(np.argmax(over)) + 1 if any(over) else None)
    result: dict[str, object] = {**case._asdict()}
    result["drifted_per_1000"] = round(1000 * drifted / max(blocks, 1), 2)
    result["warning_per_1000"] = round(1000 * warned / max(blocks, 1), 2)
    for shift, all_delays in delays.items():
        found = [delay for delay in all_delays if delay is not None]
        result[f"found_{shift}"] = round(len(found) / len(all_delays), 2) if all_delays else None
        result[f"delay_{shift}"] = float(np.median(found)) if found else None
    return result


def drawn(rng: np.random.Generator, case: Case) -> tuple[Floats, Floats]:
    """Return the input in training and afterwards, one after the other, shape (minutes, entities), variance 1."""
    minutes = DAYS * 24 * HOUR
    values = rng.standard_normal((2 * minutes, case.entities))
    if case.half_life:
        phi = 0.5 ** (1 / (case.half_life * HOUR))
        values *= np.sqrt(1 - phi**2)
        values[0] /= np.sqrt(1 - phi**2)
        values = lfilter([1.0], [1.0, -phi], values, axis=0)
    if case.levels == "none":
        return values[:minutes], values[minutes:]
    levels = rng.standard_normal((2, case.entities))
    if case.levels == "same":
        levels[1] = levels[0]
    before, after = (np.sqrt(0.5) * (part + level) for part, level in zip(np.split(values, 2), levels, strict=True))
    return before, after


def psi_by_block(reference: dict[str, list[float]], values: Floats) -> Floats:
    """Return the index at the end of each hour, NaN as long as it is not judged, shape (hours,)."""
    inputs = InputShares({"x": reference}, ("x",), WINDOW_BLOCKS)
    hours = len(values) // HOUR
    found = np.full(hours, np.nan)
    for hour in range(hours):
        rows = values[hour * HOUR : (hour + 1) * HOUR].reshape(-1, 1).astype(np.float32)
        inputs.add(np.full(len(rows), hour), rows)
        found[hour] = inputs.finish(hour)[0].get("x", np.nan)
    return found

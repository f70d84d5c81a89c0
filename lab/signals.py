"""Random processes and shapes that the simulators are made of, from numpy alone."""

from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

STEP: Final = 60.0
DAY: Final = 86400.0
MONDAY: Final = 1736121600.0  # 2025-01-06T00:00:00Z: a week that starts the files, so the weekly shape is aligned


def entity_rng(seed: int, family: int, index: int) -> np.random.Generator:
    """Return a generator that belongs to one entity, whatever the number of entities.

    Parameters
    ----------
    seed
        The seed of the whole simulation.
    family
        Which simulator asks (so that node 3 and link 3 differ).
    index
        The entity's number.
    """
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(family, index)))


def ar1(rng: np.random.Generator, steps: int, half_life: float, std: float = 1.0) -> Floats:
    """Draw a stationary first-order autoregressive series.

    Parameters
    ----------
    rng
        Source of the innovations.
    steps
        Length of the series.
    half_life
        Steps after which the autocorrelation has fallen to one half.
    std
        Standard deviation of the series (not of its innovations).

    Returns
    -------
    ndarray of shape (steps,)
        Zero mean, standard deviation `std`.
    """
    phi = 0.5 ** (1.0 / half_life)
    x = rng.standard_normal(steps) * np.sqrt(1.0 - phi * phi)
    x[0] /= np.sqrt(1.0 - phi * phi)
    # x_t = sum_k phi^k e_{t-k}, summed by doubling: after the pass with shift s the sum covers k < 2 s.
    shift, weight = 1, phi
    while shift < steps and weight > 1e-9:
        x[shift:] = x[shift:] + weight * x[:-shift]
        shift, weight = 2 * shift, weight * weight
    return np.asarray(std * x, dtype=np.float64)


def load_shape(ts: Floats, peak_hour: float, amplitude: float, weekend: float) -> Floats:
    """Return the relative load of a working day and week: about 1 on average on a weekday.

    Parameters
    ----------
    ts
        Epoch seconds, UTC.
    peak_hour
        Hour of the day at which load is highest (regions differ).
    amplitude
        Half of the distance between the daily high and low, below 1.
    weekend
        Factor on Saturday and Sunday.
    """
    hour = ts / 3600.0
    day = np.cos(2 * np.pi * (hour - peak_hour) / 24.0)
    lunch = 0.18 * np.cos(4 * np.pi * (hour - peak_hour) / 24.0)
    weekday = np.floor(ts / DAY + 3.0) % 7  # 1970-01-01 was a Thursday; Monday is 0
    return np.asarray((1.0 + amplitude * (day - lunch)) * np.where(weekday >= 5, weekend, 1.0), np.float64)


def spikes(rng: np.random.Generator, steps: int, share: float, size: float) -> Floats:
    """Return rare single-step bursts (exponential size, in log units), zero elsewhere."""
    return np.asarray(rng.exponential(size, steps) * (rng.random(steps) < share), np.float64)


def logistic(x: Floats) -> Floats:
    """Return 1 / (1 + exp(-x))."""
    return np.asarray(1.0 / (1.0 + np.exp(-x)), np.float64)


def logit(share: float) -> float:
    """Return the inverse of `logistic` for one share."""
    return float(np.log(share / (1.0 - share)))

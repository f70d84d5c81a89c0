"""What to do with a link that is forecast to be like this: streams, buffer size, and how sure it is."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MIN_STREAMS, MAX_STREAMS, DEFAULT_STREAMS = 2, 16, 4
MIN_BUFFER, DEFAULT_BUFFER = 16_384, 65_536
BUFFER_CAP = 16 * 1024 * 1024
"""Largest buffer advised, bytes, unless the setting says otherwise."""
LOSSY = 0.02
"""Loss ratio over which parallel streams hurt each other."""
UNSURE = 0.5
"""Confidence under which the default number of streams is advised."""
HUGE = 1e150
"""Beyond any real rate or delay, and its square is still finite."""


@dataclass(frozen=True, slots=True)
class Recommendation:
    """Advice per forecast: `streams` and `buffer_bytes`, int64 arrays of one shape."""

    streams: NDArray[np.int64]
    buffer_bytes: NDArray[np.int64]


def recommend(
    bandwidth_mbps: NDArray[np.floating],
    latency_ms: NDArray[np.floating],
    packet_loss: NDArray[np.floating],
    jitter_ms: NDArray[np.floating],
    *,
    confidence: NDArray[np.floating],
    cap: int = BUFFER_CAP,
) -> Recommendation:
    """Return the advice of the reference system's prediction service, made safe at its bounds.

    streams = clamp(int(bandwidth / 20) - int(latency / 50), 2, 16); three quarters of that, rounded half to
    even but never under 2, where loss is over 0.02; 4 where confidence is under 0.5. buffer = B * (latency
    + jitter) / 1000 clamped to 16 KiB .. `cap`, B in bytes/s: the bandwidth-delay product and room for the
    jitter.

    Parameters
    ----------
    bandwidth_mbps, latency_ms, packet_loss, jitter_ms, confidence
        Forecasts (q50) in Mbit/s, ms, ratio, ms and 0..1, arrays of one shape. Where bandwidth or latency
        is NaN the advice is that of an unknown link: 4 streams, 64 KiB.
    cap
        Largest buffer, bytes.
    """
    bandwidth, latency = np.asarray(bandwidth_mbps, np.float64), np.asarray(latency_ms, np.float64)
    known = np.isfinite(bandwidth) & np.isfinite(latency)
    bandwidth, latency = np.where(known, bandwidth, 0.0), np.where(known, latency, 0.0)
    streams = np.clip(np.trunc(bandwidth / 20) - np.trunc(latency / 50), MIN_STREAMS, MAX_STREAMS)
    fewer = np.maximum(np.rint(streams * 0.75), MIN_STREAMS)
    streams = np.where(np.asarray(packet_loss) > LOSSY, fewer, streams)
    sure = known & (np.asarray(confidence) >= UNSURE)
    jitter = np.nan_to_num(np.asarray(jitter_ms, np.float64), posinf=0.0, neginf=0.0)
    # no factor is infinite, so none can make NaN of a zero; the product is far beyond any cap before that
    rate, delay = np.clip(bandwidth, -HUGE, HUGE) * 1e6 / 8, (np.clip(latency, -HUGE, HUGE) + jitter) / 1000
    size = np.clip(rate * np.clip(delay, -HUGE, HUGE), MIN_BUFFER, max(cap, MIN_BUFFER))
    return Recommendation(
        np.where(sure, streams, DEFAULT_STREAMS).astype(np.int64),
        np.where(known, size, min(DEFAULT_BUFFER, max(cap, MIN_BUFFER))).astype(np.int64),
    )


def confidence(quantiles: NDArray[np.float32], scale: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return 1 - (q90 - q10) / (|q50| + scale) within 0..1, 0 where a quantile is missing.

    Give it corrected quantiles: the correction makes their width true to realised error, so the confidence
    is too.

    Parameters
    ----------
    quantiles
        q10, q50, q90, shape (b, H, Y, 3).
    scale
        Usual size of each target on the link, shape (b, Y); see `link_scale`.

    Returns
    -------
    ndarray of shape (b, H, Y)
    """
    q = quantiles.astype(np.float64)
    room = np.abs(q[..., 1]) + np.nan_to_num(np.asarray(scale, np.float64))[:, None, :]
    with np.errstate(invalid="ignore"):
        width = q[..., 2] - q[..., 0]
        raw = 1.0 - np.divide(width, room, out=np.where(width > 0, np.inf, 0.0), where=room > 0)
    return np.nan_to_num(np.clip(raw, 0.0, 1.0), nan=0.0)


def link_scale(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the mean size of each target over a link's window, 0 where nothing was measured.

    Parameters
    ----------
    rows
        Target columns of windows, shape (b, T, Y), NaN = missing.

    Returns
    -------
    ndarray of shape (b, Y)
    """
    known = np.isfinite(rows)
    total = np.abs(np.where(known, rows, 0.0)).sum(axis=1)
    return np.asarray(total / np.maximum(known.sum(axis=1), 1), np.float32)

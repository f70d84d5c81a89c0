"""The scoring rules of the Numenta Anomaly Benchmark.

From Lavin and Ahmad, "Evaluating Real-Time Anomaly Detection Algorithms - the Numenta Anomaly Benchmark", ICMLA
2015, and the benchmark's documentation. A row whose score reaches the threshold is a detection. In a labelled
window only the earliest one counts, by the sigmoid of its place in the window; every detection outside costs,
less shortly after a window; a window without one costs a miss. The first 15 % of a file (750 rows at most) count
neither way. One threshold holds for all files, the one with the highest sum. The result is scaled so that a
detector that never fires has 0 and one that fires at the first row of each window, and nowhere else, 100.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
PROBATION, PROBATION_ROWS = 0.15, 5000


@dataclass(frozen=True)
class Profile:
    """Costs of a profile: weights of a window found, a window missed, and a false detection."""

    found: float
    missed: float
    false: float


@dataclass(frozen=True)
class Series:
    """One file's scores and ground truth.

    Attributes
    ----------
    scores
        [N], NaN is no detection.
    windows
        First and last row (inclusive) of each labelled window, in order.
    """

    scores: Floats
    windows: Sequence[tuple[int, int]]

    @property
    def probation(self) -> int:
        """Rows at the beginning that do not count."""
        return probation_rows(len(self.scores))


@dataclass(frozen=True)
class Result:
    """Scaled score of a corpus, with what it is made of."""

    score: float
    threshold: float
    found: int
    windows: int
    false_rows: int


def probation_rows(rows: int) -> int:
    """Return the length of the part of a file that is not scored: floor(0.15 * min(rows, 5000))."""
    return int(np.floor(PROBATION * min(rows, PROBATION_ROWS)))


def profiles(plain: Mapping[str, Mapping[str, Mapping[str, float]]]) -> dict[str, Profile]:
    """Read the benchmark's `profiles.json`."""
    costs = {name: entry["CostMatrix"] for name, entry in plain.items()}
    return {n: Profile(found=c["tpWeight"], missed=c["fnWeight"], false=c["fpWeight"]) for n, c in costs.items()}


def sigmoid(position: Floats) -> Floats:
    """2 / (1 + exp(5 y)) - 1, and -1 from y = 3 on: near 1 at a window's first row (y = -1), 0 at its end."""
    return np.where(position > 3.0, -1.0, 2.0 / (1.0 + np.exp(5.0 * np.minimum(position, 3.0))) - 1.0)


def corpus_score(files: Sequence[Series], profile: Profile, *, threshold: float | None = None) -> Result:
    """Score a corpus.

    Parameters
    ----------
    files
        All of its series.
    profile
        The costs.
    threshold
        A fixed one; None: the best of all, as the benchmark does.
    """
    parts = [_gains(file, profile) for file in files]
    scores, gains, found, false = (np.concatenate([part[i] for part in parts]) for i in range(4))
    order = np.argsort(-scores, kind="stable")
    scores, total = scores[order], np.cumsum(gains[order])
    ends = np.flatnonzero(np.concatenate([scores[1:] != scores[:-1], [True]])) if len(scores) else np.zeros(0, int)
    windows = sum(len(file.windows) for file in files)
    if threshold is not None:
        ends = ends[scores[ends] >= threshold][-1:]
        best = int(ends[0]) if len(ends) else -1
    else:
        best = int(ends[np.argmax(total[ends])]) if len(ends) and total[ends].max() > 0 else -1
    gained = float(total[best]) if best >= 0 else 0.0
    perfect = windows * (profile.found + profile.missed)
    return Result(
        score=100.0 * gained / perfect if perfect else float("nan"),
        threshold=float(scores[best]) if best >= 0 else float("inf"),
        found=int(found[order][: best + 1].sum()),
        windows=windows,
        false_rows=int(false[order][: best + 1].sum()),
    )


def _gains(file: Series, profile: Profile) -> tuple[Floats, Floats, Floats, Floats]:
    """Per row that may be a detection: score, what flagging it adds, whether it finds a window, or is false.

    Rows are in descending order of their score. What a row in a window adds is how much better it is than the
    rows of that window flagged before it, the first one also the miss that is avoided.
    """
    count = len(file.scores)
    gain, window = np.zeros(count), np.full(count, -1)
    before = np.arange(count)
    place = np.full(count, np.inf)
    for number, (left, right) in enumerate(file.windows):
        width = right - left + 1
        window[left : right + 1] = number
        place[right + 1 :] = (before[right + 1 :] - right) / max(width - 1, 1)
        place[left : right + 1] = -(right - before[left : right + 1] + 1) / width
    gain = np.where(
        window < 0,
        profile.false * sigmoid(place),
        profile.found * sigmoid(place) / sigmoid(np.array(-1.0)),
    )
    scored = np.isfinite(file.scores) & (before >= file.probation)
    order = np.flatnonzero(scored)[np.argsort(-file.scores[scored], kind="stable")]
    adds, finds = gain[order].copy(), np.zeros(len(order))
    for number in range(len(file.windows)):
        inside = np.flatnonzero(window[order] == number)
        if len(inside):
            best = np.maximum.accumulate(gain[order][inside])
            adds[inside] = np.diff(np.concatenate([[-profile.missed], best]))
            finds[inside[0]] = 1.0
    return file.scores[order], adds, finds, (window[order] < 0).astype(np.float64)

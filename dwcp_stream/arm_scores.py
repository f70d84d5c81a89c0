"""Scores of a challenger or shadow beside the champion's on the same windows, counted in buckets of event time."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dwcp_stream import cloudevents
from dwcp_stream.alerts.identity import digest
from dwcp_stream.errors import MISFITS, StateError
from dwcp_stream.events import ArmScores, Output, encoder, rfc3339
from dwcp_stream.forecasts.buckets import SECONDS

LARGEST: Final = 1000.0
"""The most by which two scores are taken to differ: one that is infinite says no more."""
_UNIT: Final = 1_000_000
"""Differences are summed as whole millionths, so that sums do not depend on how the log is cut into chunks."""
COUNTS: Final = ("n", "both", "only_champion", "only_arm")


class ScorePairs:
    """Counts per bucket and champion's version."""

    def __init__(self) -> None:
        self._sums: dict[tuple[int, int], NDArray[np.int64]] = {}

    def add(
        self, ts: NDArray[np.float64], champion: int, before: NDArray[np.float32], scores: NDArray[np.float32]
    ) -> None:
        """Count windows that both have scored.

        Parameters
        ----------
        ts
            Event times, epoch seconds, shape (b,).
        champion
            Its version.
        before, scores
            The champion's scores and the arm's, shape (b,); a NaN is no score.
        """
        known = ~(np.isnan(before) | np.isnan(scores))
        first, second = before[known].astype(np.float64), scores[known].astype(np.float64)
        bucket = np.floor(ts[known] / SECONDS).astype(np.int64)
        same = first == second  # also two infinities, which have no difference
        apart = np.abs(np.subtract(first, second, out=np.zeros_like(first), where=~same))
        over, also = first > 1, second > 1
        terms = np.stack(
            (
                np.ones(len(first), np.int64),
                over & also,
                over & ~also,
                ~over & also,
                np.rint(np.minimum(apart, LARGEST) * _UNIT).astype(np.int64),
            ),
            axis=1,
        )
        for number in np.unique(bucket).tolist():
            sums = self._sums.setdefault((number, champion), np.zeros(terms.shape[1], np.int64))
            sums += terms[bucket == number].sum(axis=0)

    def drain(self, watermark: float, lateness: float = 0.0) -> list[tuple[int, int, list[int]]]:
        """Remove and return buckets that ended `lateness` before the watermark: (bucket, champion, sums)."""
        ended = [key for key in sorted(self._sums) if (key[0] + 1) * SECONDS + lateness <= watermark]
        return [(*key, self._sums.pop(key).tolist()) for key in ended]

    def state(self) -> list[Any]:
        """Return the open buckets as plain values."""
        return [[*key, sums.tolist()] for key, sums in sorted(self._sums.items())]

    def load(self, plain: Any) -> None:
        """Take over what `state` gave; StateError if it is something else."""
        try:
            self._sums = {
                (int(bucket), int(champion)): np.array(sums, np.int64).reshape(len(COUNTS) + 1)
                for bucket, champion, sums in plain
            }
        except MISFITS as error:
            raise StateError(f"not the state of paired scores: {error}", where="arms") from error


def build_arm_scores(
    stream: str, model: str, version: int, arm: str, partition: int, found: tuple[int, int, list[int]], watermark: float
) -> Output:
    """Return the message for one bucket that `ScorePairs` gave; its id is that of the part, as for `Accuracy`."""
    bucket, champion, (*counts, difference) = found
    said = ArmScores(
        stream=stream,
        model=model,
        version=version,
        arm=arm,
        champion=champion,
        partition=partition,
        bucket_start=rfc3339(bucket * SECONDS),
        bucket_end=rfc3339((bucket + 1) * SECONDS),
        event_time=rfc3339(watermark),
        difference=difference / _UNIT,
        **dict(zip(COUNTS, counts, strict=True)),
    )
    name = f"{stream}/{model}/{version}/{arm}"
    event_id = digest("arm_scores", name, champion, partition, said.bucket_start, said.event_time)
    headers = cloudevents.headers_at(
        "dwcp.accuracy.scores", cloudevents.source(stream), name, said.event_time, event_id
    )
    return Output("accuracy", name.encode(), encoder.encode(said), headers)

"""Adds up realised errors over hours and days, by model version, arm, horizon and target."""

from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime
from math import nan
from typing import Any, NamedTuple

from dwcp_stream.events import Accuracy
from dwcp_stream.forecasts import statistics
from dwcp_stream.realised.alerts import day_of


class Line(NamedTuple):
    """What errors are told apart by."""

    stream: str
    model: str
    version: int
    arm: str
    horizon: int
    target: str


class ForecastLedger:
    """Takes the messages of `dwcp.accuracy`, in any order, repeated ones once.

    Time is that of the forecasts' targets: the newest bucket of a stream is its now, so a replayed week reads like a
    live one.

    Parameters
    ----------
    longest
        Seconds before a stream's newest bucket that can be asked for; what is older is not kept.
    """

    def __init__(self, longest: float = 86_400.0) -> None:
        self._longest = longest
        self._parts: dict[str, dict[str, tuple[float, Accuracy]]] = defaultdict(dict)
        self._newest: dict[str, float] = {}

    def add(self, event_id: str, part: Accuracy) -> None:
        """Take a message; `event_id` is its `ce_id`.

        Raises
        ------
        ValueError
            If it has no id, or its bucket's end is no time.
        """
        if not event_id:
            raise ValueError("a part of a bucket without its id may be a repeat")
        end = datetime.fromisoformat(part.bucket_end).timestamp()
        newest = self._newest[part.stream] = max(self._newest.get(part.stream, end), end)
        if end > newest - self._longest:
            self._parts[part.stream][event_id] = end, part

    def tidy(self) -> None:
        """Drop what cannot be asked for any more; who reads without end calls this now and then."""
        for stream, parts in self._parts.items():
            oldest = self._newest[stream] - self._longest
            self._parts[stream] = {key: held for key, held in parts.items() if held[0] > oldest}

    def over(self, seconds: float) -> list[dict[str, Any]]:
        """Return a row for each line: its names, and what `statistics` says of the newest `seconds` of its stream.

        Raises
        ------
        ValueError
            If so much is not kept.
        """
        lines: dict[Line, list[Accuracy]] = defaultdict(list)
        for _, part in self._since(seconds):
            line = Line(part.stream, part.model, part.version, part.arm, part.horizon, part.target)
            lines[line].append(part)
        return [{**line._asdict(), **statistics(lines[line])} for line in sorted(lines)]

    def days(self, seconds: float) -> list[dict[str, Any]]:
        """Return the coverage of each day (UTC) of the newest `seconds`, by stream, model and arm; errors as `over`."""
        sums: dict[tuple[str, str, str, str], list[int]] = defaultdict(lambda: [0, 0])
        for end, part in self._since(seconds):
            total = sums[day_of(end - 1.0), part.stream, part.model, part.arm]
            total[0] += part.n
            total[1] += part.covered
        names = ("day", "stream", "model", "arm")
        return [
            {**dict(zip(names, key, strict=True)), "n": n, "coverage": covered / n if n else nan}
            for key, (n, covered) in sorted(sums.items())
        ]

    def _since(self, seconds: float) -> Iterator[tuple[float, Accuracy]]:
        """Yield the parts of the newest `seconds` of their stream, with the ends of their buckets."""
        if seconds > self._longest:
            raise ValueError(f"only {self._longest:g} s are kept, not {seconds:g}")
        for stream, parts in self._parts.items():
            for end, part in parts.values():
                if end > self._newest[stream] - seconds:
                    yield end, part

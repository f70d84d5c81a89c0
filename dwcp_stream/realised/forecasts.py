"""Adds up realised errors over hours and days, by model version, arm, horizon and target."""

from collections import defaultdict
from math import nan
from typing import Any, NamedTuple

from dwcp_stream.events import Accuracy
from dwcp_stream.forecasts import statistics
from dwcp_stream.realised.alerts import day_of
from dwcp_stream.realised.recent import Recent


class Line(NamedTuple):
    """What errors are told apart by."""

    stream: str
    model: str
    version: int
    arm: str
    horizon: int
    target: str


class ForecastLedger(Recent[Accuracy]):
    """Adds up the messages of `dwcp.accuracy` that are realised errors."""

    def over(self, seconds: float) -> list[dict[str, Any]]:
        """Return a row for each line: its names, and what `statistics` says of the newest `seconds` of its stream.

        Raises
        ------
        ValueError
            If so much is not kept.
        """
        lines: dict[Line, list[Accuracy]] = defaultdict(list)
        for _, part in self.since(seconds):
            line = Line(part.stream, part.model, part.version, part.arm, part.horizon, part.target)
            lines[line].append(part)
        return [{**line._asdict(), **statistics(lines[line])} for line in sorted(lines)]

    def days(self, seconds: float) -> list[dict[str, Any]]:
        """Return the coverage of each day (UTC) of the newest `seconds`, by stream, model and arm; errors as `over`."""
        sums: dict[tuple[str, str, str, str], list[int]] = defaultdict(lambda: [0, 0])
        for end, part in self.since(seconds):
            total = sums[day_of(end - 1.0), part.stream, part.model, part.arm]
            total[0] += part.n
            total[1] += part.covered
        names = ("day", "stream", "model", "arm")
        return [
            {**dict(zip(names, key, strict=True)), "n": n, "coverage": covered / n if n else nan}
            for key, (n, covered) in sorted(sums.items())
        ]

"""Adds up how the scores of challengers and shadows stood to the champion's on the same windows."""

from collections import defaultdict
from datetime import datetime
from math import nan
from typing import Any

from dwcp_stream.events import ArmScores


class ArmLedger:
    """Takes messages of paired scores, in any order, repeated ones once.

    Time is that of the windows: the newest bucket of a stream is its now.

    Parameters
    ----------
    longest
        Seconds before a stream's newest bucket that can be asked for; what is older is not kept.
    """

    def __init__(self, longest: float = 86_400.0) -> None:
        self._longest = longest
        self._parts: dict[str, dict[str, tuple[float, ArmScores]]] = defaultdict(dict)
        self._newest: dict[str, float] = {}

    def add(self, event_id: str, part: ArmScores) -> None:
        """Take a message; `event_id` is its `ce_id`. ValueError if it has none, or its bucket's end is no time."""
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
        """Return a row for each model, arm, version and champion, of the newest `seconds` of its stream.

        `n` windows were scored by both; `both`, `only_champion` and `only_arm` are those over the threshold;
        `difference` is the mean absolute difference of the scores, NaN where there is none.
        """
        lines: dict[tuple[Any, ...], list[ArmScores]] = defaultdict(list)
        for stream, parts in self._parts.items():
            for end, part in parts.values():
                if end > self._newest[stream] - seconds:
                    lines[stream, part.model, part.arm, part.version, part.champion].append(part)
        return [_row(line, lines[line]) for line in sorted(lines)]


def _row(line: tuple[Any, ...], parts: list[ArmScores]) -> dict[str, Any]:
    n = sum(part.n for part in parts)
    return {
        **dict(zip(("stream", "model", "arm", "version", "champion"), line, strict=True)),
        "n": n,
        "both": sum(part.both for part in parts),
        "only_champion": sum(part.only_champion for part in parts),
        "only_arm": sum(part.only_arm for part in parts),
        "difference": sum(part.difference for part in parts) / n if n else nan,
    }

"""Adds up how the scores of challengers and shadows stood to the champion's on the same windows."""

from collections import defaultdict
from math import nan
from typing import Any

from dwcp_stream.events import ArmScores
from dwcp_stream.realised.recent import Recent


class ArmLedger(Recent[ArmScores]):
    """Adds up messages of paired scores."""

    def over(self, seconds: float) -> list[dict[str, Any]]:
        """Return a row for each model, arm, version and champion, of the newest `seconds` of its stream.

        `n` windows were scored by both; `both`, `only_champion` and `only_arm` are those over the threshold;
        `difference` is the mean absolute difference of the scores, NaN where there is none.
        """
        lines: dict[tuple[Any, ...], list[ArmScores]] = defaultdict(list)
        for _, part in self.since(seconds):
            lines[part.stream, part.model, part.arm, part.version, part.champion].append(part)
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

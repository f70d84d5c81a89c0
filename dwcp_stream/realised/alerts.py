"""Precision and recall of alerts, from what operators said of them."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from math import inf, nan
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from dwcp_stream.control import Flaw, Headers, signer
from dwcp_stream.events import Alert
from dwcp_stream.realised.feedback import Feedback, milliseconds
from dwcp_stream.wilson import wilson

TIDIES = 8
"""How often, in the time for which alerts are kept, older ones are looked for."""


@dataclass(slots=True)
class _Episode:
    """One alert from firing to resolved; `version` is the one that fired."""

    stream: str
    model: str
    version: int
    starts: float


class AlertLedger:
    """Takes alerts and feedback, in any order, repeated ones once.

    Precision and recall are those of what was judged: nobody has looked at the others, and whoever judges only what
    looks wrong makes it too low.

    Parameters
    ----------
    keys
        Public keys by name: a judgement that none of them has signed does not count. None: every judgement counts.
    longest
        Seconds for which alerts and judgements are kept, before the newest alert of their stream; forever unless told.

    Attributes
    ----------
    refused
        How many judgements do not count, by why: `unsigned`, `unknown_key`, `bad_signature`.
    """

    def __init__(self, keys: Mapping[str, Ed25519PublicKey] | None = None, longest: float = inf) -> None:
        self.refused: Counter[str] = Counter()
        self._keys, self._longest = dict(keys or {}), longest
        self._tidied: dict[str, float] = {}
        self._episodes: dict[tuple[str | int, ...], _Episode] = {}
        self._said: dict[tuple[str | int, ...], Feedback] = {}

    def alert(self, alert: Alert) -> None:
        """Take a transition of an alert; ValueError if `startsAt` is no time."""
        begin = datetime.fromisoformat(alert.starts_at)
        key = alert.fingerprint, milliseconds(begin)
        if alert.action == "firing" or key not in self._episodes:
            self._episodes[key] = _Episode(alert.stream, alert.model, alert.model_version, begin.timestamp())
        if begin.timestamp() - self._tidied.setdefault(alert.stream, begin.timestamp()) > self._longest / TIDIES:
            self._tidy(alert.stream, begin.timestamp())

    def judgement(self, value: bytes, headers: Headers) -> None:
        """Take a record of `dwcp.feedback` as it came; nothing of it is parsed before its signature holds.

        Raises
        ------
        ValueError, RecursionError
            If it is no judgement.
        """
        if self._keys:
            found = signer(value, headers, self._keys, "feedback.keys")
            if isinstance(found, Flaw):
                self.refused[found.word] += 1
                return
        self.feedback(msgspec.json.decode(value, type=Feedback))

    def feedback(self, feedback: Feedback) -> None:
        """Take a judgement; the last one about the same counts."""
        before = self._said.get(feedback.about)
        if before is None or before.said_at <= feedback.said_at:
            self._said[feedback.about] = feedback

    def _tidy(self, stream: str, newest: float) -> None:
        """Forget what is older than may be asked for."""
        oldest, self._tidied[stream] = newest - self._longest, newest
        self._episodes = {k: e for k, e in self._episodes.items() if e.stream != stream or e.starts > oldest}
        self._said = {k: s for k, s in self._said.items() if s.stream != stream or s.starts_at.timestamp() > oldest}

    def over(self, seconds: float) -> list[dict[str, Any]]:
        """Return a row for each stream, model and version, of the alerts of the newest `seconds` of the stream.

        `alerts` began then; of these `true` and `false` were judged so, and `precision` is the share of true ones with
        its interval. `missed` is what was said of the model, or of the stream with no model named, in that time;
        `recall` is `true / (true + missed)`, and what was missed counts for the version of the newest alert before it.
        """
        newest = self._newest()
        counts: dict[tuple[str, str, int], dict[str, int]] = defaultdict(
            lambda: dict.fromkeys(("alerts", "true", "false", "missed"), 0)
        )
        for key, episode in self._episodes.items():
            if episode.starts > newest[episode.stream] - seconds:
                line = counts[episode.stream, episode.model, episode.version]
                line["alerts"] += 1
                judged = self._said.get(key)
                if judged is not None:
                    line[judged.verdict] += 1
        for said in self._said.values():
            if said.verdict == "missed" and said.starts_at.timestamp() > newest[said.stream] - seconds:
                for line_key in self._missed_by(said):
                    counts[line_key]["missed"] += 1
        return [_row(*key, line) for key, line in sorted(counts.items())]

    @property
    def unknown(self) -> int:
        """Judgements of alerts that were not seen."""
        return sum(key not in self._episodes for key, said in self._said.items() if said.verdict != "missed")

    def days(self, seconds: float) -> list[dict[str, Any]]:
        """Return how many alerts of the newest `seconds` of their stream began on each day (UTC), by model."""
        newest, counts = self._newest(), Counter[tuple[str, str, str]]()
        for episode in self._episodes.values():
            if episode.starts > newest[episode.stream] - seconds:
                counts[day_of(episode.starts), episode.stream, episode.model] += 1
        names = ("day", "stream", "model")
        return [{**dict(zip(names, key, strict=True)), "alerts": n} for key, n in sorted(counts.items())]

    def _newest(self) -> dict[str, float]:
        """Return when the newest alert, or trouble that none told of, of each stream began."""
        newest: dict[str, float] = {}
        for episode in self._episodes.values():
            newest[episode.stream] = max(newest.get(episode.stream, episode.starts), episode.starts)
        for said in self._said.values():
            if said.verdict == "missed":
                newest[said.stream] = max(newest.get(said.stream, -1e18), said.starts_at.timestamp())
        return newest

    def _missed_by(self, said: Feedback) -> list[tuple[str, str, int]]:
        """Return the lines that missed it: the named model, or each of the stream's, at the version of that time."""
        at = said.starts_at.timestamp()
        latest: dict[str, tuple[bool, float, int]] = {}
        for episode in self._episodes.values():
            if episode.stream == said.stream and said.model in ("", episode.model):
                # Of the alerts before the trouble the newest tells the version, else the first one after it.
                rank = (episode.starts <= at, episode.starts if episode.starts <= at else -episode.starts)
                latest[episode.model] = max(latest.get(episode.model, (False, -1e18, 0)), (*rank, episode.version))
        if not latest:
            return [(said.stream, said.model, 0)]
        return [(said.stream, model, version) for model, (_, _, version) in latest.items()]


def day_of(seconds: float) -> str:
    """Return the day (UTC) of a time in epoch seconds."""
    return datetime.fromtimestamp(seconds, UTC).date().isoformat()


def _row(stream: str, model: str, version: int, line: dict[str, int]) -> dict[str, Any]:
    judged, real = line["true"] + line["false"], line["true"] + line["missed"]
    return {
        "stream": stream,
        "model": model,
        "version": version,
        **line,
        "precision": line["true"] / judged if judged else nan,
        "precision_interval": wilson(line["true"], judged),
        "recall": line["true"] / real if real else nan,
        "recall_interval": wilson(line["true"], real),
    }

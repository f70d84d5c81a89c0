"""Messages about buckets of event time, each once, as far back as can be asked for."""

from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime
from typing import Generic, TypeVar

from dwcp_stream.events import Accuracy, ArmScores

P = TypeVar("P", Accuracy, ArmScores)


class Recent(Generic[P]):
    """Takes messages in any order, repeated ones once.

    Time is that of the buckets: the newest bucket of a stream is its now, so a replayed week reads like a live one.

    Parameters
    ----------
    longest
        Seconds before a stream's newest bucket that can be asked for; what is older is not kept.
    """

    def __init__(self, longest: float = 86_400.0) -> None:
        self._longest = longest
        self._parts: dict[str, dict[str, tuple[float, P]]] = defaultdict(dict)
        self._newest: dict[str, float] = {}
        self._tidied: dict[str, float] = {}

    def add(self, event_id: str, part: P) -> None:
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
        if newest - self._tidied.setdefault(part.stream, newest) > self._longest / 8:
            self._tidied[part.stream] = newest
            self.tidy()

    def tidy(self) -> None:
        """Drop what cannot be asked for any more; it is done now and then by itself."""
        for stream, parts in self._parts.items():
            oldest = self._newest[stream] - self._longest
            self._parts[stream] = {key: held for key, held in parts.items() if held[0] > oldest}

    def since(self, seconds: float) -> Iterator[tuple[float, P]]:
        """Yield the parts of the newest `seconds` of their stream, with the ends of their buckets.

        Raises
        ------
        ValueError
            If so much is not kept.
        """
        if seconds > self._longest:
            raise ValueError(f"only {self._longest:g} s are kept, not {seconds:g}")
        for stream, parts in self._parts.items():
            for end, part in parts.values():
                if end > self._newest[stream] - seconds:
                    yield end, part

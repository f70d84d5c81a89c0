"""What was said of each entity lately: scores and forecasts, in bounded rings for a bounded number of entities."""

from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Generic, TypeVar

import msgspec

from dwcp_stream.errors import UNREADABLE
from dwcp_stream.events import Prediction

POINTS = 240
"""Scores, and forecasts, kept of an entity and model."""
MOST_TRACKS = 20_000
"""Entities (times models) whose scores are kept; the one that was silent longest is forgotten first."""
FORECASTS, MOST_FORECASTS = 60, 1_000
"""Of forecasts fewer are kept, and of fewer entities: one takes half a kilobyte."""

T = TypeVar("T")
Key = tuple[str, str, str]
"""Stream, model, entity."""


class Rings(Generic[T]):
    """A ring of the newest items for each of the newest keys."""

    def __init__(self, most: int, points: int = POINTS) -> None:
        self._most, self._points = most, points
        self._rings: OrderedDict[Key, deque[T]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._rings)

    def __getitem__(self, key: Key) -> list[T]:
        return list(self._rings.get(key, ()))

    def add(self, key: Key, item: T, newer: Callable[[T], bool] = lambda _: True) -> None:
        """Add an item, unless the last one says by `newer` that it is no newer."""
        ring = self._rings.get(key)
        if ring is None:
            ring = self._rings[key] = deque(maxlen=self._points)
            if len(self._rings) > self._most:
                self._rings.popitem(last=False)
        elif ring and not newer(ring[-1]):
            return
        ring.append(item)
        self._rings.move_to_end(key)


class Tracks:
    """Scores as (epoch seconds, score), and forecasts as (time of issue, packed), by stream, model and entity."""

    def __init__(self) -> None:
        self.scores: Rings[tuple[float, float]] = Rings(MOST_TRACKS)
        self.forecasts: Rings[tuple[float, bytes]] = Rings(MOST_FORECASTS, FORECASTS)
        self._decode = msgspec.json.Decoder(Prediction).decode

    def score(self, key: Key, time: float, score: float) -> None:
        """Note a score; older than the last one it is left out."""
        self.scores.add(key, (time, score), lambda last: last[0] < time)

    def listed(self, answer: Mapping[str, Any]) -> None:
        """Note the scores of a worker's list of entities."""
        models = [model["name"] for model in answer["models"]]
        for row in answer["entities"]:
            for model, score in zip(models, row["scores"], strict=True):
                if score is not None:
                    self.score((answer["stream"], model, row["entity"]), row["time"], score)

    def predicted(self, value: bytes | None) -> bool:
        """Note a record of the predictions; false if it cannot be read."""
        try:
            said = self._decode(value or b"")
            time = _epoch(said.issued_at)
        except UNREADABLE:
            return False
        key = (said.stream, said.model, said.entity)
        if said.score is not None:
            self.score(key, time, said.score)
        if said.forecasts:
            horizons = [(f.horizon, _epoch(f.target_time), f.corrected) for f in said.forecasts if f.target_time]
            item: dict[str, Any] = {"time": time, "arm": said.arm, "confidence": said.confidence, "horizons": horizons}
            if said.advice is not None:
                item["advice"] = {"streams": said.advice.streams, "buffer_bytes": said.advice.buffer_bytes}
            self.forecasts.add(key, (time, msgspec.msgpack.encode(item)), lambda last: last[0] < time)
        return True

    def of_entity(self, stream: str, entity: str, models: Sequence[str]) -> dict[str, Any]:
        """Return the scores and forecasts of an entity by model, oldest first."""
        unpack = msgspec.msgpack.decode
        return {
            "scores": {model: self.scores[stream, model, entity] for model in models},
            "forecasts": {model: [unpack(f) for _, f in self.forecasts[stream, model, entity]] for model in models},
        }


def _epoch(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()

"""The model of a stream that nobody has trained one for: it learns as it goes, and remembers in its state."""

import math
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dwcp_stream.errors import ConfigError
from dwcp_stream.registry.manifest import Manifest, ModelField
from dwcp_stream.scoring import UNTRAINED, Model
from dwcp_stream.streams import ModelBinding, StreamDefinition, schema_hash
from dwcp_stream.untrained.adaptive import AdaptiveDeviation

HEAD: Final = 4
"""Numbers of the state before those of the fields: rows learnt, mean deviation, its level and mean square."""
SEVERITY: Final = (1.0, 1.5, 2.0)

F32 = NDArray[np.float32]


def untrained_model(stream: StreamDefinition, binding: ModelBinding) -> Model:
    """Return version 0 of an anomaly model: `AdaptiveDeviation` over the stream's measured fields.

    Raises
    ------
    ConfigError
        The stream measures nothing: all its fields are words.
    """
    fields = [field for field in stream.fields if not field.coded]
    if not fields:
        raise ConfigError(
            "no field is a number, so nothing can be watched before a model is trained",
            where=f"stream {stream.name}",
            remedy="Add a measured field, or train the model first",
        )
    manifest = Manifest(
        name=binding.name,
        version=UNTRAINED,
        task="anomaly",
        stream=stream.name,
        fields=tuple(ModelField(name=f.name, kind=f.kind, unit=f.unit) for f in fields),
        schema_hash=schema_hash(stream, [f.name for f in fields], stream.window),
        window=stream.window,
        severity=SEVERITY,
        state_size=2 * (HEAD + 2 * len(fields)),
        trained_at="",
        data_sha256="",
        metrics={},
        seed=0,
        command="",
        licence="",
        files={},
        reference={},
    )
    names = manifest.field_names
    return Model(
        manifest, AdaptiveSession(names, "score", "expected", "state_out"), AdaptiveSession(names, "contribution")
    )


class AdaptiveSession:
    """Takes and gives what an ONNX session does, one detector per window.

    A double of the state takes two of its columns: a level must not be rounded at each row.

    Parameters
    ----------
    fields
        Names of the window's columns.
    outputs
        What it gives, of score [B], expected [B, F], contribution [B, F], state_out [B, S].
    """

    def __init__(self, fields: Sequence[str], *outputs: str) -> None:
        self.fields, self.outputs = tuple(fields), outputs

    def get_outputs(self) -> list[SimpleNamespace]:
        """Return the outputs' names."""
        return [SimpleNamespace(name=name) for name in self.outputs]

    def run(self, names: Sequence[str], arrays: Mapping[str, NDArray[Any]]) -> list[F32]:
        """Score, then learn, the last row of each window [B, T, F], with the states [B, S] before it."""
        windows, states = arrays["window"], np.ascontiguousarray(arrays["state_in"])
        found: dict[str, list[Any]] = {name: [] for name in names}
        for window, state in zip(windows, states, strict=True):
            detector = self._restored(state, window)
            row = self._row(window[-1])
            deviations = detector.deviations(row)
            given = {
                "score": detector.score_one(row),
                "expected": [detector.levels.get(name, (np.nan,))[0] for name in self.fields],
                "contribution": [deviations.get(name, 0.0) for name in self.fields],
            }
            if row:
                detector.learn_one(row)
            given["state_out"] = self._packed(detector)
            for name in names:
                found[name].append(given[name])
        return [np.array(found[name], np.float32) for name in names]

    def _row(self, values: F32) -> dict[str, float]:
        pairs = zip(self.fields, values.tolist(), strict=True)
        return {name: value for name, value in pairs if not math.isnan(value)}

    def _restored(self, state: F32, window: F32) -> AdaptiveDeviation:
        """Return a state's detector; without a state, a new one that has learnt the window's rows before the last."""
        detector, plain = AdaptiveDeviation(), state.view(np.float64).tolist()
        if np.isnan(state).all():  # two of its columns would make a double that is a number
            for values in window[:-1]:
                if row := self._row(values):
                    detector.learn_one(row)
            return detector
        detector.rows, detector.smooth, detector.usual = int(plain[0]), plain[1], (plain[2], plain[3])
        pairs = zip(self.fields, plain[HEAD::2], plain[HEAD + 1 :: 2], strict=True)
        detector.levels = {name: (level, square) for name, level, square in pairs if not math.isnan(level)}
        return detector

    def _packed(self, detector: AdaptiveDeviation) -> F32:
        pairs = [detector.levels.get(name, (np.nan, np.nan)) for name in self.fields]
        return np.array([detector.rows, detector.smooth, *detector.usual, *(x for pair in pairs for x in pair)]).view(
            np.float32
        )

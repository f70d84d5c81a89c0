"""Which columns and rows of a stream's windows a model sees, and whether model and stream fit each other."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dwcp_stream.errors import ModelError
from dwcp_stream.streams import StreamDefinition, schema_hash

if TYPE_CHECKING:
    from dwcp_stream.registry.manifest import Manifest

F32 = NDArray[np.float32]
_RETRAIN = "Train the model again on this stream, or bind the version that fits its definition"


@dataclass(frozen=True, slots=True)
class Selection:
    """How a model's window is cut from the stream's.

    Attributes
    ----------
    rows, width
        Rows of the model's window and columns of the stream's.
    columns
        Columns in the model's order; None if they are all of the stream's as they are.
    words
        (column of the model, words that it knows) where the stream has learnt more since: the codes of
        the new words are missing values to this model.
    """

    rows: int
    width: int
    columns: NDArray[np.int64] | None = None
    words: tuple[tuple[int, int], ...] = ()

    def __call__(self, windows: F32) -> F32:
        """Cut windows [B, T, F stream] to [B, rows, F]; contiguous, and the same array if nothing changes."""
        if windows.ndim != 3 or windows.shape[1] < self.rows or windows.shape[2] != self.width:
            raise ValueError(
                f"windows of shape {windows.shape} where [B, {self.rows} or more, {self.width}] is expected"
            )
        last = windows[:, windows.shape[1] - self.rows :]
        cut = last if self.columns is None else np.take(last, self.columns, axis=2)
        cut = np.ascontiguousarray(cut, np.float32)
        for column, known in self.words:
            new = cut[:, :, column] >= known
            if new.any():
                cut = cut.copy() if np.may_share_memory(cut, windows) else cut
                cut[:, :, column][new] = np.nan
        return cut


def select(manifest: "Manifest", stream: StreamDefinition, *, where: str) -> Selection:
    """Check a model against a stream and resolve its columns.

    Raises
    ------
    ModelError
        If fields, units, vocabularies, step, window, targets or horizons differ; names both sides.
    """
    _check_fields(manifest, stream, where)
    if manifest.window > stream.window:
        raise ModelError(
            f"the model needs {manifest.window} rows, windows of stream {stream.name!r} have {stream.window}",
            where=where,
            remedy=f"Set window = {manifest.window} in the stream's definition, or train a shorter model",
        )
    sizes = {field.name: len(field.vocabulary) for field in manifest.fields}
    expected = schema_hash(stream, manifest.field_names, manifest.window, sizes)
    if expected != manifest.schema_hash:  # the fields fit one by one, so it is the step
        raise ModelError(
            f"the model's schema hash {manifest.schema_hash[:12]}... is not that of stream {stream.name!r}, "
            f"{expected[:12]}... (its step is {stream.step}, or the vocabularies' spelling differs)",
            where=where,
            remedy=_RETRAIN,
        )
    _check_binding(manifest, stream, where)
    columns = np.array([stream.field_index(name) for name in manifest.field_names], np.int64)
    width = len(stream.fields)
    words = tuple(
        (i, len(field.vocabulary))
        for i, field in enumerate(manifest.fields)
        if len(field.vocabulary) < len(stream.fields[columns[i]].vocabulary)
    )
    same = np.array_equal(columns, np.arange(width))
    return Selection(manifest.window, width, None if same else columns, words)


def _check_fields(manifest: "Manifest", stream: StreamDefinition, where: str) -> None:
    for field in manifest.fields:
        if field.name not in stream.field_names:
            raise ModelError(
                f"the model reads the field {field.name!r}, which stream {stream.name!r} does not have",
                where=where,
                remedy=f"Add it to the stream's definition. {_RETRAIN}",
            )
        there = stream.fields[stream.field_index(field.name)]
        known = there.vocabulary[: len(field.vocabulary)]
        for what, mine, its in (
            ("kind", field.kind, there.kind),
            ("unit", field.unit, there.unit),
            ("vocabulary", [w.lower() for w in field.vocabulary], [w.lower() for w in known]),
            ("coding", bool(field.vocabulary), bool(there.vocabulary)),
        ):
            if mine != its:
                raise ModelError(
                    f"the {what} of field {field.name!r} is {mine!r} in the model and {its!r} in stream "
                    f"{stream.name!r}",
                    where=where,
                    remedy=_RETRAIN,
                )


def _check_binding(manifest: "Manifest", stream: StreamDefinition, where: str) -> None:
    for binding in stream.models:
        if binding.name != manifest.name:
            continue
        for what, mine, its in (
            ("task", manifest.task, binding.task),
            ("targets", manifest.targets, binding.targets),
            ("horizons", manifest.horizons, binding.horizons),
        ):
            if its and mine != its:  # a forecast's binding may leave its aims to the trainer
                raise ModelError(
                    f"the model's {what} {mine!r} are not those that stream {stream.name!r} binds, {its!r}",
                    where=where,
                    remedy="Correct `[[models]]` in the stream's definition, or train the model again",
                )

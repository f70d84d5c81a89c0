"""A hash over what a model relies on in a stream, so that a changed unit or vocabulary refuses the model."""

import hashlib
import json
from collections.abc import Mapping, Sequence

from dwcp_stream.streams.definition import StreamDefinition


def schema_hash(
    stream: StreamDefinition,
    fields: Sequence[str],
    window: int,
    vocabulary_sizes: Mapping[str, int] | None = None,
) -> str:
    """Hash the part of a stream that a model of `fields` over `window` rows depends on.

    Parameters
    ----------
    stream
        The stream's definition.
    fields
        Names of the model's fields, in the model's order.
    window
        Rows of the model's window (it may be shorter than the stream's).
    vocabulary_sizes
        Words of each coded field that the model knows. Vocabularies are append-only, so a model trained
        before a word was added still matches: only the prefix it knew is hashed. Default: all words.

    Returns
    -------
    str
        SHA-256 in hexadecimal, over canonical JSON of [name, kind, unit, vocabulary prefix] per field,
        the step and the window.

    Raises
    ------
    KeyError
        If the stream has no field of that name.
    """
    sizes = vocabulary_sizes or {}
    described = []
    for name in fields:
        field = stream.fields[stream.field_index(name)]
        words = field.vocabulary[: sizes.get(name, len(field.vocabulary))]
        described.append([field.name, field.kind, field.unit, [word.lower() for word in words]])
    step = stream.step if isinstance(stream.step, str) else float(stream.step)
    canonical = json.dumps(
        {"fields": described, "step": step, "window": window},
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=True,
    )
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()

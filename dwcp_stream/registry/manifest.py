"""`manifest.json`: what a model is, what it needs, how it was made, and the hash of every file beside it."""

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Annotated, Any, TypedDict

import msgspec

from dwcp_stream.alerts.severity import check_cutoffs
from dwcp_stream.errors import UNREADABLE, ModelError
from dwcp_stream.streams.definition import Kind, Task

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
"""A model's name: a folder, a label and part of topics' keys."""

Positive = Annotated[int, msgspec.Meta(ge=1)]
Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class ModelField(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A field as the model was trained on it; `vocabulary` is what it knew then (prefix of today's)."""

    name: str
    kind: Kind
    unit: str
    vocabulary: tuple[str, ...] = ()


class Histogram(TypedDict):
    """Training values of a field: k inner cuts, and the shares of the k + 1 bins they make."""

    edges: list[float]
    share: list[float]


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that is known of one version of a model.

    Attributes
    ----------
    name, version
        Folder names in the repository.
    task, stream
        What it says, and of which kind of telemetry.
    fields, window
        Columns and rows of its window, in order.
    schema_hash
        Of the stream it was trained for, see `dwcp_stream.streams.schema_hash`.
    horizons, targets
        Of a forecast: steps ahead, and fields.
    severity
        Score over which an alert is a warning (always 1), critical, emergency.
    kinds
        Names along the last axis of `kind`.
    state_size
        Numbers kept per entity; 0: none.
    trained_at, data_sha256, seed, command, licence
        How to make it again, and under which licence the training data stands.
    metrics
        Measured quality; the simple rules' figures beside the model's.
    reference
        Histogram of the training rows by field, for PSI.
    files
        SHA-256 of every other file of the version.
    """

    name: str
    version: Positive
    task: Task
    stream: str
    fields: Annotated[tuple[ModelField, ...], msgspec.Meta(min_length=1)]
    schema_hash: Sha256
    window: Positive
    horizons: tuple[Positive, ...] = ()
    targets: tuple[str, ...] = ()
    severity: tuple[float, float, float]
    kinds: tuple[str, ...] = ()
    state_size: Annotated[int, msgspec.Meta(ge=0)] = 0
    trained_at: str
    data_sha256: Sha256
    metrics: dict[str, Any]
    seed: int
    command: str
    licence: str
    files: dict[str, Sha256]
    reference: dict[str, Histogram]

    @property
    def field_names(self) -> tuple[str, ...]:
        """Names of the fields in the order of the window's columns."""
        return tuple(field.name for field in self.fields)


def parse_manifest(data: bytes, *, where: str) -> Manifest:
    """Decode and check a manifest.

    Raises
    ------
    ModelError
        If it is no JSON, has keys missing, unknown or of the wrong type, or contradicts itself.
    """
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except UNREADABLE as error:
        raise ModelError(
            f"the manifest is wrong: {error}",
            where=where,
            remedy="Publish the model again; do not edit its files",
        ) from error
    for key, problem in _contradictions(manifest):
        raise ModelError(
            f"the manifest's `{key}` {problem}", where=where, remedy="Correct it where the model is published"
        )
    check_cutoffs(manifest.severity, where=where)
    return manifest


def build_manifest(
    plain: Mapping[str, Any], *, name: str, version: int, files: Mapping[str, bytes], where: str
) -> tuple[Manifest, bytes]:
    """Complete a trainer's manifest with name, version and hashes.

    Returns
    -------
    tuple
        The manifest, and the bytes to write: indented, so that a review can read a change.

    Raises
    ------
    ModelError
        As `parse_manifest`, and for what JSON cannot hold (NaN in the metrics).
    """
    if plain.get("name", name) != name:
        raise ModelError(
            f"the manifest is of {plain['name']!r}, not of {name!r}",
            where=where,
            remedy="Publish it under its own name",
        )
    hashes = {file: hashlib.sha256(data).hexdigest() for file, data in sorted(files.items())}
    whole = {**plain, "name": name, "version": version, "files": hashes}
    try:
        data = json.dumps(whole, indent=1, allow_nan=False).encode() + b"\n"
    except (TypeError, ValueError) as error:
        raise ModelError(
            f"the manifest cannot be written as JSON: {error}",
            where=where,
            remedy="Put only text, finite numbers, lists and mappings into it",
        ) from error
    return parse_manifest(data, where=where), data


def _contradictions(manifest: Manifest) -> Iterator[tuple[str, str]]:
    """Yield (key, what is wrong with it)."""
    names = manifest.field_names
    if not NAME.fullmatch(manifest.name):
        yield "name", f"{manifest.name!r} is not made of lower case letters, digits, - and _"
    if len(set(names)) != len(names):
        yield "fields", "names a field twice"
    forecast = manifest.task == "forecast"
    for key, values in (("horizons", manifest.horizons), ("targets", manifest.targets)):
        if forecast != bool(values):
            yield key, f"must {'not ' * (not forecast)}be given for the task {manifest.task!r}"
    if list(manifest.horizons) != sorted(set(manifest.horizons)):
        yield "horizons", "are not ascending"
    for target in manifest.targets:
        if target not in names:
            yield "targets", f"names {target!r}, which is no field of the model"
    for field, histogram in manifest.reference.items():
        edges, share = histogram["edges"], histogram["share"]
        if field not in names:
            yield "reference", f"names {field!r}, which is no field of the model"
        if len(share) != len(edges) + 1 or any(a >= b for a, b in pairwise(edges)):
            yield "reference", f"of {field!r} is not k ascending cuts with k + 1 shares"
        if not all(math.isfinite(x) and x >= 0 for x in share) or abs(sum(share) - 1) > 1e-6:
            yield "reference", f"of {field!r} has shares that are not a distribution"

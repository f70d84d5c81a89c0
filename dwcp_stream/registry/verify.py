"""Everything that must hold before a version may score: from its files' hashes to its goldens."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dwcp_stream.errors import ModelError
from dwcp_stream.registry import checks, files
from dwcp_stream.registry.golden import read_golden
from dwcp_stream.registry.manifest import Manifest, parse_manifest
from dwcp_stream.registry.operators import parse_graph
from dwcp_stream.scoring import signature
from dwcp_stream.scoring.model import Model
from dwcp_stream.scoring.session import SessionOptions, make_session


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What became of a check.

    Attributes
    ----------
    name, version
        What was checked.
    error
        Why it is refused; None if it is not.
    golden_difference
        Largest difference of an output from its golden one.
    seconds
        Time that the check took.
    """

    name: str
    version: int
    error: ModelError | None
    golden_difference: float | None
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether the version may be used."""
        return self.error is None


@dataclass(frozen=True)
class Verified:
    """A version that passed: manifest, sessions made of the bytes that were hashed, goldens' difference."""

    manifest: Manifest
    session: Any
    explain_session: Any | None
    golden_difference: float

    def model(self) -> Model:
        """Return the model."""
        return Model(self.manifest, self.session, self.explain_session)


def check_version(
    contents: Mapping[str, bytes],
    name: str,
    version: int,
    *,
    where: str,
    options: SessionOptions | None = None,
) -> Verified:
    """Check one version's files, cheap and static checks first; nothing runs before its hash is right.

    Parameters
    ----------
    contents
        Bytes by file name, `manifest.json` among them.
    name, version
        What the version must be.
    where
        Folder, for errors.
    options
        Of the sessions.

    Raises
    ------
    ModelError
        The first thing found wrong.
    """
    manifest = _check_static(contents, name, version, where)
    graphs = {}
    for file in (files.MODEL, files.EXPLAIN):
        if file in contents:
            path = f"{where}/{file}"
            parse_graph(contents[file], where=path)
            graphs[file] = make_session(contents[file], options, where=path)
    taken = signature.inputs(manifest)
    given = {files.MODEL: signature.outputs(manifest), files.EXPLAIN: signature.explain_outputs(manifest)}
    for file, session in graphs.items():
        path = f"{where}/{file}"
        checks.check_tensors(session.get_inputs(), taken, "input", where=path)
        checks.check_tensors(session.get_outputs(), given[file], "output", where=path)
        checks.check_metadata(session, manifest, where=path)
    golden = read_golden(contents[files.GOLDEN], where=f"{where}/{files.GOLDEN}")
    arrays = {output.name: given[file][output.name] for file, found in graphs.items() for output in found.get_outputs()}
    # Goldens of the explanation are welcome, not demanded.
    checks.check_golden_arrays(golden, taken, arrays, {"contribution"}, where=f"{where}/{files.GOLDEN}")
    worst = 0.0
    for file, session in graphs.items():
        path = f"{where}/{file}"
        worst = max(worst, checks.check_run(session, golden, taken, given[file], where=path))
        checks.check_empty(session, golden, taken, given[file], where=path)
    return Verified(manifest, graphs[files.MODEL], graphs.get(files.EXPLAIN), worst)


def _check_static(contents: Mapping[str, bytes], name: str, version: int, where: str) -> Manifest:
    """Check names, sizes, manifest and hashes."""
    for file, data in contents.items():
        files.check_name(file, where=f"{where}/{file}")
        files.check_size(file, len(data), where=f"{where}/{file}")
    if files.MANIFEST not in contents:
        raise ModelError(f"the file {files.MANIFEST!r} is missing", where=where, remedy="Publish the model again")
    path = f"{where}/{files.MANIFEST}"
    manifest = parse_manifest(contents[files.MANIFEST], where=path)
    if (manifest.name, manifest.version) != (name, version):
        raise ModelError(
            f"the manifest is of {manifest.name} version {manifest.version}, not of {name} version {version}",
            where=path,
            remedy="Versions are not copied or renamed: publish the model under its new name",
        )
    files.check_hashes(manifest, contents, where=where)
    return manifest

"""The model repository: immutable versions, and names that point at some of them."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from dwcp_stream.errors import ModelError
from dwcp_stream.registry import files
from dwcp_stream.registry.aliases import ALIASES, Alias, move_alias, read_aliases, read_share
from dwcp_stream.registry.card import measure, write_card
from dwcp_stream.registry.manifest import NAME, Manifest, build_manifest, parse_manifest
from dwcp_stream.registry.storage import FolderStorage, Root, open_storage
from dwcp_stream.registry.verify import Verification, Verified, check_version
from dwcp_stream.scoring.model import Model
from dwcp_stream.scoring.session import SessionOptions
from dwcp_stream.streams import StreamDefinition

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


class ModelRepository:
    """Models by name and version: `<name>/<version>/` with the files of a version, and `aliases.json`.

    Parameters
    ----------
    root
        A folder, which need not exist before something is published, or an fsspec URL such as `s3://bucket/models`.
    options
        How the sessions of loaded models run.
    keys
        Public keys by name: a version that none of them has signed is refused. None: any version will do.
    """

    def __init__(
        self,
        root: Root,
        options: SessionOptions | None = None,
        keys: "Mapping[str, Ed25519PublicKey] | None" = None,
    ) -> None:
        self.storage = open_storage(root)
        self.options = options
        self.keys = dict(keys or {})

    @property
    def root(self) -> Path:
        """The folder; ModelError if the repository is in none."""
        if isinstance(self.storage, FolderStorage):
            return self.storage.folder
        raise ModelError(
            "is not a folder of this machine", where=self.storage.where(), remedy="Name a folder as the repository"
        )

    def where(self, name: str, version: int) -> str:
        """Return where a version is, for people."""
        return self.storage.where(f"{name}/{version}")

    # --- what there is ----------------------------------------------------------------------------------

    def names(self) -> list[str]:
        """Return the names of the models that have a version, sorted."""
        return [name for name in self.storage.names() if NAME.fullmatch(name) and self.versions(name)]

    def versions(self, name: str) -> list[int]:
        """Return a model's versions, ascending; empty if there is no such model."""
        return [number for number in self._numbers(name) if self.storage.complete(f"{name}/{number}")]

    def _numbers(self, name: str) -> list[int]:
        """Return what is named like a version, also what is not complete."""
        found = self.storage.names(self._checked(name))
        return sorted(int(text) for text in found if text.isascii() and text.isdigit() and text[0] != "0")

    def aliases(self, name: str) -> dict[Alias, int]:
        """Return a model's aliases and the versions they point at."""
        return read_aliases(self.storage).get(name, {})

    def share(self, name: str) -> int:
        """Return the percentage of entities that a model's challenger serves; 0 if it serves none."""
        return read_share(self.storage, name)

    def resolve(self, name: str, which: str | int = "champion") -> int:
        """Return the version that an alias or a number means.

        Raises
        ------
        ModelError
            If there is no such model, alias or version; says which there are.
        """
        versions = self.versions(name)
        if not versions:
            there = ", ".join(self.names()) or "none"
            raise ModelError(
                f"there is no model {name!r}",
                where=self.storage.where(),
                remedy=f"Train it first; there are: {there}",
            )
        if isinstance(which, str) and which in ALIASES:
            pointed = dict(self.aliases(name))
            if which not in pointed:
                raise ModelError(
                    f"no version of {name!r} is {which}",
                    where=self.storage.where("aliases.json"),
                    remedy=f"Set the alias to one of the versions {_listed(versions)}",
                )
            version = pointed[which]
        elif isinstance(which, int) or (which.isascii() and which.isdigit()):
            version = int(which)
        else:
            raise ModelError(
                f"{which!r} is no alias and no version of {name!r}",
                where=self.storage.where(),
                remedy=f"Use one of {', '.join(ALIASES)}, or one of the versions {_listed(versions)}",
            )
        if version not in versions:
            raise ModelError(
                f"there is no version {version} of {name!r}",
                where=self.storage.where(name),
                remedy=f"There are: {_listed(versions)}",
            )
        return version

    def manifest(self, name: str, which: str | int = "champion") -> Manifest:
        """Read a version's manifest without verifying the version."""
        path = f"{name}/{self.resolve(name, which)}/{files.MANIFEST}"
        where = self.storage.where(path)
        try:
            data = self.storage.read(path, files.LIMITS[".json"])
        except OSError as error:
            raise ModelError(
                f"cannot be read: {error.strerror or 'it is gone'}", where=where, remedy="Publish the model again"
            ) from error
        files.check_size(files.MANIFEST, len(data), where=where)
        return parse_manifest(data, where=where)

    def card(self, name: str, which: str | int = "champion") -> str:
        """Return a version's model card: the one that it holds, or one made now from what is recorded of it.

        Raises
        ------
        ModelError
            If there is no such version, or a file of it does not belong there or does not fit its hash.
        """
        version = self.resolve(name, which)
        contents = files.read_version(self.storage, f"{name}/{version}")
        manifest = self.manifest(name, version)
        files.check_hashes(manifest, contents, where=self.where(name, version))
        if files.CARD in contents:
            return contents[files.CARD].decode("utf-8", "replace")
        return write_card(manifest, contents, None, measure(contents))

    # --- using a version --------------------------------------------------------------------------------

    def load(self, name: str, which: str | int = "champion") -> Model:
        """Verify a version and make it ready to score, from the very bytes that were hashed.

        Raises
        ------
        ModelError
            If there is none, or it is refused.
        """
        return self._check(name, self.resolve(name, which)).model()

    def verify(self, name: str, which: str | int, stream: StreamDefinition | None = None) -> Verification:
        """Check everything that `load` checks, and whether the model fits a stream if one is given.

        A refusal is in the result; only a model or version that is not there raises.
        """
        version = self.resolve(name, which)
        begun = time.perf_counter()
        error, difference = None, None
        try:
            verified = self._check(name, version)
            difference = verified.golden_difference
            if stream is not None:
                verified.model().bind(stream)
        except ModelError as refused:
            error = refused
        seconds = time.perf_counter() - begun
        return Verification(name=name, version=version, error=error, golden_difference=difference, seconds=seconds)

    def _check(self, name: str, version: int) -> Verified:
        contents = files.read_version(self.storage, f"{self._checked(name)}/{version}")
        if self.keys and files.MANIFEST in contents:
            from dwcp_stream.registry.signatures import check_signature  # noqa: PLC0415  cryptography takes its time

            check_signature(self.storage, name, version, contents[files.MANIFEST], self.keys)
        return check_version(contents, name, version, where=self.where(name, version), options=self.options)

    # --- adding versions and moving names ---------------------------------------------------------------

    def publish(
        self,
        name: str,
        contents: Mapping[str, bytes],
        manifest: Mapping[str, Any],
        stream: StreamDefinition | None = None,
    ) -> int:
        """Verify a new version and add it; it appears complete or not at all, and never changes again.

        Parameters
        ----------
        name
            Of the model.
        contents
            Bytes by file name: `model.onnx` and `golden.npz`, perhaps `explain.onnx`, `report.md`, `card.md`, `*.png`.
            A `manifest.json` among them is not looked at.
        manifest
            Plain values as in `Manifest`; name, version and hashes are filled in here.
        stream
            Definition that the version must fit, if one is given.

        Returns
        -------
        int
            The version: one more than the last.

        Raises
        ------
        ModelError
            If the version would be refused; nothing is written then.
        """
        verified = False
        while True:
            version = max(self._numbers(name), default=0) + 1
            where = self.where(name, version)
            held = {file: data for file, data in contents.items() if file != files.MANIFEST}
            _, written = build_manifest(manifest, name=name, version=version, files=held, where=where)
            whole = {**held, files.MANIFEST: written}
            if not verified:
                checked = check_version(whole, name, version, where=where, options=self.options)
                if stream is not None:
                    checked.model().bind(stream)
                verified = True
            if self.storage.create(f"{name}/{version}", whole):
                return version

    def set_alias(self, name: str, alias: str, version: int | None) -> None:
        """Point an alias at a version of the model, or take it away (None).

        Raises
        ------
        ModelError
            If there is no such alias or version.
        """
        if alias not in get_args(Alias):
            raise ModelError(
                f"there is no alias {alias!r}",
                where=self.storage.where(),
                remedy=f"Use one of {', '.join(ALIASES)}",
            )
        chosen = None if version is None else self.resolve(name, int(version))
        move_alias(self.storage, name, next(a for a in ALIASES if a == alias), chosen)

    def _checked(self, name: str) -> str:
        if not NAME.fullmatch(name):
            raise ModelError(
                f"{name!r} is no model name",
                where=self.storage.where(),
                remedy="Use lower case letters, digits, - and _",
            )
        return name


def _listed(versions: list[int]) -> str:
    return ", ".join(map(str, versions))

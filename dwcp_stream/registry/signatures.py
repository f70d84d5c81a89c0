"""Who vouches for a version: a signature over its manifest, in a file beside the version's folder.

The manifest holds the hash of every other file, so it stands for all of them. The signature lies beside the folder and
not in it, because a version never changes and may be signed later, by somebody else than who trained it.
"""

import base64
from collections.abc import Mapping
from typing import Annotated, Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from dwcp_stream.errors import UNREADABLE, ModelError
from dwcp_stream.registry import files
from dwcp_stream.registry.storage import Root, open_storage

SUFFIX: Final = ".signature.json"
MEANT: Final = b"dwcp-stream model\n"
"""Comes before the manifest's bytes in what is signed: a signature of a command is none of a model."""
MAX_BYTES: Final = 4096


class Signature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whose key has signed, and what: base64 of 64 bytes, Ed25519 (RFC 8032)."""

    key_id: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    signature: Annotated[str, msgspec.Meta(max_length=100)]


def signature_path(name: str, version: int) -> str:
    """Return where in a repository the signature of a version lies."""
    return f"{name}/{version}{SUFFIX}"


def sign_version(root: Root, name: str, version: int, key_id: str, key: Ed25519PrivateKey) -> str:
    """Sign a version that is in its place; a signature of before is replaced. Returns where the signature is.

    Raises
    ------
    ModelError
        The manifest or the folder cannot be read or written.
    """
    storage, folder, path = open_storage(root), f"{name}/{version}", signature_path(name, version)
    try:
        manifest = storage.read(f"{folder}/{files.MANIFEST}", files.LIMITS[".json"])
        signed = base64.b64encode(key.sign(MEANT + manifest)).decode()
        storage.replace(path, msgspec.json.encode(Signature(key_id, signed)) + b"\n")
    except OSError as error:
        raise ModelError(
            f"cannot be signed: {error.strerror}", where=storage.where(folder), remedy="Check the folder's rights"
        ) from error
    return storage.where(path)


def check_signature(root: Root, name: str, version: int, manifest: bytes, keys: Mapping[str, Ed25519PublicKey]) -> str:
    """Return whose key has signed a manifest's bytes.

    Parameters
    ----------
    root
        The repository.
    name, version
        What is said to be signed.
    manifest
        Its bytes.
    keys
        Public keys that count, by name.

    Raises
    ------
    ModelError
        There is no signature, or it is not of one of the keys over these bytes.
    """
    storage, path = open_storage(root), signature_path(name, version)
    folder, beside = storage.where(f"{name}/{version}"), storage.where(path)
    remedy = "Let somebody with a key of `model_keys` look at it and run `dwcp-stream models sign`"
    try:
        found = msgspec.json.decode(storage.read(path, MAX_BYTES), type=Signature)
        signature = base64.b64decode(found.signature, validate=True)
    except FileNotFoundError:
        raise ModelError("is not signed, and the settings demand it", where=folder, remedy=remedy) from None
    except (*UNREADABLE, OSError) as error:
        raise ModelError(f"is no signature: {error}", where=beside, remedy=remedy) from error
    key = keys.get(found.key_id)
    if key is None:
        raise ModelError(f"is signed by {found.key_id!r}, who is not in model_keys", where=folder, remedy=remedy)
    try:
        key.verify(signature, MEANT + manifest)
    except InvalidSignature:
        raise ModelError(
            f"the signature is not that of {found.key_id!r} over this manifest", where=beside, remedy=remedy
        ) from None
    return found.key_id

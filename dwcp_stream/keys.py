"""Ed25519 keys of those who may command: a private one in a file of its owner, public ones in the settings."""

import base64
import binascii
import os
from collections.abc import Mapping
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization as form
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from dwcp_stream.errors import ConfigError

PUBLIC_BYTES = 32  # RFC 8032, section 5.1.5


def create_key(path: Path) -> Ed25519PrivateKey:
    """Make a key and write it to a new file (PKCS #8, PEM) that only its owner may read.

    Raises
    ------
    ConfigError
        The file exists, or cannot be written.
    """
    key = Ed25519PrivateKey.generate()
    text = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise ConfigError(
            "exists already", where=str(path), remedy="Give another name; no key is overwritten"
        ) from None
    except OSError as error:
        raise ConfigError(
            f"cannot be written: {error.strerror}", where=str(path), remedy="Give a file in a folder of yours"
        ) from error
    with os.fdopen(handle, "wb") as file:
        file.write(text)
    return key


def read_key(path: Path) -> Ed25519PrivateKey:
    """Read a private key.

    Raises
    ------
    ConfigError
        The file cannot be read, or holds no Ed25519 key without a password.
    """
    remedy = "`dwcp-stream control keygen` makes one"
    try:
        key = form.load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", where=str(path), remedy=remedy) from error
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ConfigError("is not a private key in PEM without a password", where=str(path), remedy=remedy) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError("is a key of another kind than Ed25519", where=str(path), remedy=remedy)
    return key


def public_text(key: Ed25519PrivateKey) -> str:
    """Return the public half as the settings have it: base64 of its 32 bytes."""
    raw = key.public_key().public_bytes(form.Encoding.Raw, form.PublicFormat.Raw)
    return base64.b64encode(raw).decode()


def public_keys(texts: Mapping[str, str]) -> dict[str, Ed25519PublicKey]:
    """Return the public keys of a table of the settings, by name; ValueError as `parse_public`."""
    return {name: parse_public(text) for name, text in texts.items()}


def parse_public(text: str) -> Ed25519PublicKey:
    """Return a public key of the settings.

    Raises
    ------
    ValueError
        The text is not base64 of 32 bytes.

    Examples
    --------
    >>> parse_public("AAAA")
    Traceback (most recent call last):
        ...
    ValueError: a public key is base64 of 32 bytes, as `dwcp-stream control keygen` prints it
    """
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != PUBLIC_BYTES:
        raise ValueError("a public key is base64 of 32 bytes, as `dwcp-stream control keygen` prints it")
    return Ed25519PublicKey.from_public_bytes(raw)

"""Signed versions: what is used when the settings demand a signature, and what is not."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from dwcp_stream.cli.main import run
from dwcp_stream.errors import ModelError
from dwcp_stream.keys import create_key, public_text
from dwcp_stream.registry import ModelRepository
from dwcp_stream.registry.promotion import promote
from dwcp_stream.registry.signatures import MEANT, check_signature, sign_version, signature_path
from tests.model_graphs import make_files, make_manifest

ALICE, MALLORY = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
NAME = "tiny-anomaly"
KEYS = {"alice": ALICE.public_key()}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two versions, the first of them signed and champion."""
    repository = ModelRepository(tmp_path)
    for _ in range(2):
        repository.publish(NAME, make_files("anomaly"), make_manifest("anomaly"))
    repository.set_alias(NAME, "champion", 1)
    sign_version(tmp_path, NAME, 1, "alice", ALICE)
    return tmp_path


def test_only_a_signed_version_is_used_and_others_where_nothing_is_demanded(root: Path) -> None:
    strict = ModelRepository(root, keys=KEYS)
    assert strict.load(NAME, 1).version == 1
    assert strict.verify(NAME, 1).ok
    with pytest.raises(ModelError, match="is not signed"):
        strict.load(NAME, 2)
    with pytest.raises(ModelError, match="is not signed"):
        promote(strict, NAME, 2)
    assert strict.aliases(NAME) == {"champion": 1}
    assert ModelRepository(root).load(NAME, 2).version == 2
    assert strict.versions(NAME) == [1, 2], "a signature is no version"


def test_a_signature_is_of_one_key_over_one_manifest(root: Path) -> None:
    (root / signature_path(NAME, 2)).write_bytes((root / signature_path(NAME, 1)).read_bytes())
    with pytest.raises(ModelError, match="not that of 'alice'"):
        ModelRepository(root, keys=KEYS).load(NAME, 2)
    sign_version(root, NAME, 2, "alice", MALLORY)
    with pytest.raises(ModelError, match="not that of 'alice'"):
        ModelRepository(root, keys=KEYS).load(NAME, 2)
    sign_version(root, NAME, 2, "mallory", MALLORY)
    with pytest.raises(ModelError, match="signed by 'mallory', who is not"):
        ModelRepository(root, keys=KEYS).load(NAME, 2)
    sign_version(root, NAME, 2, "alice", ALICE)
    assert ModelRepository(root, keys=KEYS).load(NAME, 2).version == 2


def test_what_is_signed_cannot_be_changed_behind_the_manifest(root: Path) -> None:
    model = root / NAME / "1" / "model.onnx"
    model.write_bytes(model.read_bytes() + b"\0")
    with pytest.raises(ModelError):
        ModelRepository(root, keys=KEYS).load(NAME, 1)


def test_a_signature_of_something_else_is_none(root: Path) -> None:
    manifest = (root / NAME / "1" / "manifest.json").read_bytes()
    path = root / signature_path(NAME, 1)
    body = json.loads(path.read_text())
    path.write_text(json.dumps(body | {"signature": base64.b64encode(ALICE.sign(manifest)).decode()}))
    with pytest.raises(ModelError, match="not that of 'alice'"):
        check_signature(root, NAME, 1, manifest, KEYS)
    path.write_text(json.dumps(body | {"signature": base64.b64encode(ALICE.sign(MEANT + manifest)).decode()}))
    assert check_signature(root, NAME, 1, manifest, KEYS) == "alice"


@given(st.binary(max_size=200))
def test_any_other_file_is_refused_with_a_word(tmp_path_factory, data: bytes) -> None:
    root = tmp_path_factory.mktemp("signed")
    (root / NAME).mkdir()
    (root / signature_path(NAME, 1)).write_bytes(data)
    with pytest.raises(ModelError, match="signature"):
        check_signature(root, NAME, 1, b"{}", KEYS)


def test_the_command_signs_and_verify_demands(root: Path, tmp_path_factory, capsys, monkeypatch) -> None:
    key = tmp_path_factory.mktemp("keys") / "bob.key"
    public = public_text(create_key(key))
    monkeypatch.setenv("DWCP_MODELS_DIR", str(root))
    assert run(["models", "sign", NAME, "2", "--key", str(key), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["key_id"] == "bob"
    monkeypatch.setenv("DWCP_MODEL_KEYS", json.dumps({"bob": public}))
    assert run(["models", "verify", NAME, "2"]) == 0
    assert run(["models", "verify", NAME, "1"]) == 1
    assert "who is not in model_keys" in capsys.readouterr().out
    (root / NAME / "2" / "model.onnx").write_bytes(b"broken")
    assert run(["models", "sign", NAME, "2", "--key", str(key)]) == 1, "nobody vouches for what does not verify"

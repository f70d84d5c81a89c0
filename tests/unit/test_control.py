"""Signed commands: what is obeyed, what is refused and with which word; keys; the settings that name them."""

from __future__ import annotations

import base64
import json
import stat
from collections import Counter
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from cryptography.hazmat.primitives import serialization as form
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from dwcp_stream.cli.main import run
from dwcp_stream.control import (
    REFUSED,
    Command,
    Promote,
    Received,
    Retrain,
    SetLogLevel,
    Shadow,
    Split,
    Verifier,
    sign,
)
from dwcp_stream.errors import ConfigError
from dwcp_stream.keys import create_key, parse_public, public_text, read_key
from dwcp_stream.setting_sections import PUBLIC_KEY
from dwcp_stream.settings import load_settings
from tests.fuzz import control as fuzz

ALICE, MALLORY = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
NOW = datetime(2026, 11, 28, tzinfo=UTC)
COMMAND = Command(
    key_id="alice", audience="app", sequence=5, not_after=NOW + timedelta(minutes=10), action=Promote("node-gbt", 2)
)


def verifier() -> Verifier:
    return Verifier({"alice": ALICE.public_key()}, {"app", "app-node"})


def received(command: Command = COMMAND, key: Ed25519PrivateKey = ALICE, **other) -> Received:
    signed = sign(command, key)
    return Received(3, int(NOW.timestamp() * 1000), True, signed.value, signed.headers)._replace(**other)


def changed(**values) -> Command:
    return msgspec.structs.replace(COMMAND, **values)


def test_a_signed_command_is_obeyed_and_the_same_bytes_only_once():
    checks = verifier()
    assert checks.check(received()) == (None, "", COMMAND)
    assert checks.check(received()).refusal == "replayed"
    assert checks.check(received(changed(sequence=4))).refusal == "replayed"
    assert checks.check(received(changed(sequence=6))).refusal is None
    assert checks.check(received(changed(sequence=1, audience="*"))).refusal is None, "each audience has its sequence"


HEADERS = received().headers


@pytest.mark.parametrize(
    ("record", "refusal", "why"),
    [
        (received(headers=[]), "unsigned", "header"),
        (received(headers=[HEADERS[0]]), "unsigned", "header"),
        (received(headers=[*HEADERS, HEADERS[1]]), "unsigned", "one header"),
        (received(headers=[HEADERS[0], ("signature", None)]), "unsigned", "header"),
        (received(changed(key_id="bob")), "unknown_key", "'bob'"),
        (received(key=MALLORY), "bad_signature", "'alice'"),
        (received(value=received().value + b" "), "bad_signature", "'alice'"),
        (received(value=None), "bad_signature", "'alice'"),
        (received(headers=[HEADERS[0], ("signature", b"short")]), "bad_signature", "'alice'"),
        (received(changed(audience="app-link")), "foreign", "app-link"),
        (received(append_time=False), "untimed", "message.timestamp.type"),
        (received(changed(not_after=NOW - timedelta(seconds=1))), "expired", "1 s after"),
        (received(changed(not_after=NOW + timedelta(days=2))), "malformed", "86400"),
    ],
)
def test_what_is_refused_and_with_which_word(record, refusal, why):
    checks = verifier()
    found = checks.check(record)
    assert found.refusal == refusal
    assert why in found.reason
    assert checks.check(received()).refusal is None, "a refused record leaves no trace in the sequence"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"do":"promote"', '"do":"execute"'),
        ('"version":2', '"version":0'),
        ('"version":2', '"version":2,"shell":"rm"'),
        ('"sequence":5', '"sequence":-5'),
        ('"model":"node-gbt"', '"model":"../../etc"'),
        ('"key_id":"alice",', ""),
        ('"audience":"app"', '"audience":"a\\nb"'),
        ("+00:00" if "+00:00" in sign(COMMAND, ALICE).value.decode() else "Z", ""),
    ],
)
def test_what_its_owner_signed_but_nobody_can_mean(old, new):
    value = sign(COMMAND, ALICE).value.decode()
    assert old in value
    odd = value.replace(old, new, 1).encode()
    headers = [("key_id", b"alice"), ("signature", ALICE.sign(odd))]
    assert verifier().check(received(value=odd, headers=headers)).refusal == "malformed"


@pytest.mark.parametrize(
    ("action", "old", "new"),
    [
        (Split("m", 2, 10), '"share":10', '"share":0'),
        (Split("m", 2, 10), '"share":10', '"share":101'),
        (Split("m", 2, 10), '"version":2', '"version":null'),
        (Split("m", None, 0), ',"share":0', ""),
        (Shadow("m", None), ',"version":null', ""),
        (Shadow("m", 2), '"version":2', '"version":"2"'),
        (Retrain("m"), '"model":"m"', '"model":"m","version":2'),
    ],
)
def test_arms_that_nobody_can_mean(action, old, new):
    command = changed(action=action)
    assert verifier().check(received(command)) == (None, "", command)
    value = sign(command, ALICE).value.decode()
    assert old in value
    odd = value.replace(old, new, 1).encode()
    headers = [("key_id", b"alice"), ("signature", ALICE.sign(odd))]
    assert verifier().check(received(value=odd, headers=headers)).refusal == "malformed"


def test_a_key_does_not_speak_for_another():
    bob = Ed25519PrivateKey.generate()
    checks = Verifier({"alice": ALICE.public_key(), "bob": bob.public_key()}, {"app"})
    value = sign(COMMAND, ALICE).value
    record = received(value=value, headers=[("key_id", b"bob"), ("signature", bob.sign(value))])
    assert checks.check(record).refusal == "malformed"


@given(st.binary(max_size=400), st.binary(max_size=80))
def test_bytes_that_nobody_signed_are_never_parsed(value, signature):
    headers = [("key_id", b"alice"), ("signature", signature)]
    refusal = verifier().check(received(value=value, headers=headers)).refusal
    assert refusal == ("bad_signature" if signature else "unsigned")


@given(st.binary(max_size=400))
def test_any_bytes_that_a_key_signed_end_in_one_word(value):
    headers = [("key_id", b"alice"), ("signature", ALICE.sign(value))]
    found = verifier().check(received(value=value, headers=headers))
    assert found.refusal == "malformed"
    assert found.reason


def test_a_small_run_of_the_fuzzer_meets_every_word():
    counts: Counter[str] = Counter()
    for seed in range(3):
        fuzz.one_round(seed, counts)
    assert counts.keys() == {*REFUSED, "obeyed"}
    assert counts["obeyed"] > 100


@pytest.mark.parametrize("field", ["sound", "command"])
def test_the_fuzzer_notices_what_must_not_be(field):
    made = fuzz.Given(received(), True, COMMAND)
    fuzz.check(made, verifier().check(made.record), set())
    wrong = made._replace(**{"sound": False} if field == "sound" else {"command": changed(sequence=9)})
    with pytest.raises(AssertionError):
        fuzz.check(wrong, verifier().check(made.record), set())
    with pytest.raises(AssertionError, match="twice"):
        fuzz.check(made, verifier().check(made.record), {("alice", "app", 5)})


# --- keys -----------------------------------------------------------------------------------------------


def test_a_key_is_made_once_for_its_owner_alone_and_read_back(tmp_path):
    path = tmp_path / "alice.key"
    key = create_key(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    signature = read_key(path).sign(b"x")
    parse_public(public_text(key)).verify(signature, b"x")
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="exists already"):
        create_key(path)
    assert path.read_bytes() == before
    with pytest.raises(ConfigError, match="cannot be written"):
        create_key(tmp_path / "no" / "alice.key")


def test_files_that_are_no_key_are_refused(tmp_path):
    other = generate_private_key(SECP256R1()).private_bytes(
        form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption()
    )
    locked = ALICE.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.BestAvailableEncryption(b"secret"))
    for number, (text, why) in enumerate([(other, "another kind"), (locked, "password"), (b"nonsense", "PEM")]):
        path = tmp_path / f"{number}.key"
        path.write_bytes(text)
        with pytest.raises(ConfigError, match=why):
            read_key(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_key(tmp_path / "nowhere.key")


@given(st.binary(min_size=32, max_size=32))
def test_settings_and_keys_take_the_same_texts(raw):
    text = base64.b64encode(raw).decode()
    assert PUBLIC_KEY.fullmatch(text)
    parse_public(text)
    for wrong in (text[:-1], text + "A", text[:42] + "B=", "?" + text[1:]):
        assert not PUBLIC_KEY.fullmatch(wrong)


def test_settings_name_keys_and_refuse_what_is_none(tmp_path, monkeypatch):
    file = tmp_path / "dwcp.toml"
    file.write_text(f'[control.keys]\nalice = "{public_text(ALICE)}"\n')
    assert load_settings(file).control.keys == {"alice": public_text(ALICE)}
    file.write_text('[control.keys]\nalice = "c2hvcnQ="\n')
    with pytest.raises(ConfigError, match="alice is not a public key"):
        load_settings(file)
    file.write_text(f'[control.keys]\n"a b" = "{public_text(ALICE)}"\n')
    with pytest.raises(ConfigError, match="the name 'a b'"):
        load_settings(file)
    monkeypatch.setenv("DWCP_CONTROL__KEYS", json.dumps({"bob": public_text(MALLORY)}))
    file.write_text("")
    assert load_settings(file).control.keys == {"bob": public_text(MALLORY)}


# --- the command ----------------------------------------------------------------------------------------


def test_keygen_prints_what_the_settings_need(tmp_path, capsys):
    assert run(["control", "keygen", str(tmp_path / "alice.key"), "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made == {
        "file": str(tmp_path / "alice.key"),
        "key_id": "alice",
        "public": public_text(read_key(tmp_path / "alice.key")),
    }
    assert run(["control", "keygen", str(tmp_path / "alice.key")]) == 1
    assert "exists already" in capsys.readouterr().err
    assert run(["control", "keygen", str(tmp_path / "bob.key")]) == 0
    assert '[control.keys]\n"bob" = "' in capsys.readouterr().out


def test_send_refuses_what_no_worker_would_take(tmp_path, capsys):
    create_key(tmp_path / "a b.key")
    arguments = ["control", "send", "log-level", "info", "--key", str(tmp_path / "a b.key")]
    assert run(arguments) == 2
    assert "--as NAME" in capsys.readouterr().err
    assert run([*arguments[:-1], str(tmp_path / "nowhere.key")]) == 1
    assert "cannot be read" in capsys.readouterr().err
    assert run([*arguments, "--within", "0"]) == 2
    for wrong in (["split", "m", "2"], ["split", "m", "none", "--share", "5"], ["shadow", "m", "0"]):
        assert run(["control", "send", *wrong, "--key", str(tmp_path / "a b.key")]) == 2


def test_actions_say_what_they_do():
    assert str(COMMAND.action) == "promote node-gbt 2"
    assert str(SetLogLevel("debug")) == "log-level debug"
    assert str(Shadow("m", None)) == "shadow m none"
    assert str(Split("m", 2, 10)) == "split m 2 10%"
    assert str(Retrain("m")) == "retrain m"
    assert not COMMAND.action.standing
    assert SetLogLevel("debug").standing

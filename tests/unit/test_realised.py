"""Realised accuracy: what is added up, over which time, and what feedback makes of alerts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from math import isnan

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from dwcp_stream.alerts.identity import fingerprint
from dwcp_stream.control import Command, Retrain, sign
from dwcp_stream.events import Accuracy, Alert, ArmScores, rfc3339
from dwcp_stream.realised import AlertLedger, ArmLedger, Feedback, ForecastLedger, build_feedback
from dwcp_stream.realised.alerts import TIDIES
from dwcp_stream.wilson import wilson

SAID = datetime(2026, 1, 1, tzinfo=UTC)
BEGIN = 1_700_000_100.0  # a multiple of 300


def part(bucket: int = 0, **values) -> Accuracy:
    known = {
        "stream": "link", "model": "m", "version": 1, "arm": "champion", "horizon": 1, "target": "rtt", "partition": 0,
        "bucket_start": rfc3339(BEGIN + bucket * 300), "bucket_end": rfc3339(BEGIN + (bucket + 1) * 300),
        "event_time": rfc3339(BEGIN), "n": 10, "abs_error": 5.0, "sq_error": 4.0, "error": -5.0, "ape": 1.0,
        "ape_n": 10,
        "persistence_n": 10, "persistence_abs_error": 10.0, "paired_abs_error": 5.0, "pinball": 3.0, "covered": 8,
        "covered_raw": 7, "missed": 1,
    }  # fmt: skip
    return Accuracy(**known | values)


def test_parts_add_up_by_line_and_a_repeat_counts_once():
    ledger = ForecastLedger()
    ledger.add("a", part())
    ledger.add("a", part())
    ledger.add("b", part(partition=1, abs_error=15.0))
    ledger.add("c", part(version=2, covered=10))
    ledger.add("d", part(arm="shadow"))
    rows = ledger.over(3600)
    assert [(r["version"], r["arm"], r["n"]) for r in rows] == [
        (1, "champion", 20),
        (1, "shadow", 10),
        (2, "champion", 10),
    ]
    assert rows[0]["mae"] == 1.0
    assert rows[0]["bias"] == -0.5
    assert rows[0]["skill"] == 0.5
    assert rows[0]["missed"] == 2
    assert rows[2]["coverage"] == 1.0


def test_an_hour_ends_with_the_newest_bucket_of_the_stream_itself():
    ledger = ForecastLedger()
    for bucket in range(288 + 12):
        ledger.add(f"link {bucket}", part(bucket))
    ledger.add("node", part(-10_000, stream="other"))
    hours = {(r["stream"], r["n"]) for r in ledger.over(3600)}
    assert hours == {("link", 120), ("other", 10)}
    assert {(r["stream"], r["n"]) for r in ledger.over(86_400)} == {("link", 2880), ("other", 10)}
    with pytest.raises(ValueError, match="kept"):
        ledger.over(86_401)


@given(st.permutations(range(30)), st.integers(1, 30))
def test_order_does_not_matter(order, span):
    ledger, sorted_ = ForecastLedger(9000), ForecastLedger(9000)
    for bucket in order:
        ledger.add(str(bucket), part(bucket))
    for bucket in sorted(order):
        sorted_.add(str(bucket), part(bucket))
    assert ledger.over(span * 300) == sorted_.over(span * 300)
    assert ledger.over(span * 300)[0]["n"] == 10 * span


# --- alerts ---------------------------------------------------------------------------------------------


def alert(number: int, action: str = "firing", **values) -> Alert:
    known = {
        "labels": {}, "annotations": {}, "starts_at": rfc3339(BEGIN + number * 60), "action": action, "reason": "",
        "fingerprint": fingerprint("a", "node", f"n{number}", "m"), "severity": "warning", "score": 2.0, "kind": None,
        "state": "scored", "fields": [], "stream": "node", "entity": f"n{number}", "model": "m", "model_version": 1,
        "event_time": rfc3339(BEGIN + number * 60),
    }  # fmt: skip
    return Alert(**known | values)


def said(verdict: str, about: Alert, later: float = 0.0) -> Feedback:
    return Feedback(
        verdict=verdict, stream=about.stream, entity=about.entity, model=about.model, fingerprint=about.fingerprint,
        starts_at=datetime.fromisoformat(about.starts_at), said_at=SAID + timedelta(seconds=later),
    )  # fmt: skip


def missed(number: int, model: str = "m") -> Feedback:
    at = datetime.fromtimestamp(BEGIN + number * 60, UTC)
    return Feedback(verdict="missed", stream="node", entity="x", model=model, starts_at=at, said_at=at)


def test_precision_and_recall_of_what_was_judged():
    ledger = AlertLedger()
    for number in range(10):
        ledger.alert(alert(number))
        ledger.alert(alert(number, "resolved"))
    for number in range(6):
        ledger.feedback(said("true" if number < 4 else "false", alert(number)))
    ledger.feedback(missed(5))
    (row,) = ledger.over(3600)
    assert (row["alerts"], row["true"], row["false"], row["missed"]) == (10, 4, 2, 1)
    assert row["precision"] == pytest.approx(4 / 6)
    assert row["recall"] == pytest.approx(4 / 5)
    assert row["precision_interval"] == wilson(4, 6)
    assert ledger.unknown == 0


def test_the_last_word_counts_in_whatever_order_it_comes():
    words = [said("true", alert(1), 1.0), said("false", alert(1), 2.0), said("true", alert(1), 0.5)]
    for order in (words, words[::-1], words[1:] + words[:1]):
        ledger = AlertLedger()
        for word in order:
            ledger.feedback(word)
        ledger.alert(alert(1))
        (row,) = ledger.over(3600)
        assert (row["true"], row["false"]) == (0, 1)


def test_versions_are_apart_and_what_was_missed_belongs_to_the_one_of_its_time():
    ledger = AlertLedger()
    ledger.alert(alert(0))
    ledger.alert(alert(20, model_version=2))
    ledger.alert(alert(20, "escalated", model_version=3))  # the version that fired is the alert's
    for number in (10, 25, -5):
        ledger.feedback(missed(number, model=""))
    rows = {row["version"]: row["missed"] for row in ledger.over(86_400)}
    assert rows == {1: 2, 2: 1}


def test_no_more_is_kept_than_was_asked_for():
    ledger = AlertLedger(longest=3600)
    for number in range(600):  # one a minute
        ledger.alert(alert(number))
        ledger.feedback(said("true" if number % 2 else "false", alert(number)))
        ledger.feedback(missed(number))
        assert len(ledger._episodes) <= 60 * (1 + 1 / TIDIES) + 1
        assert len(ledger._said) <= 2 * len(ledger._episodes)
    (row,) = ledger.over(3600)
    assert (row["alerts"], row["true"], row["false"], row["missed"]) == (60, 30, 30, 60)
    ledger.alert(alert(0, stream="another"))  # the time of one stream is not that of another
    assert [row["alerts"] for row in ledger.over(3600)] == [1, 60]


def test_nothing_is_made_up_where_nothing_was_said():
    ledger = AlertLedger()
    ledger.alert(alert(0))
    (row,) = ledger.over(3600)
    assert isnan(row["precision"])
    assert isnan(row["recall"])
    ledger = AlertLedger()
    ledger.feedback(said("true", alert(3)))
    assert ledger.unknown == 1
    assert ledger.over(3600) == []
    ledger.feedback(missed(1))
    (row,) = ledger.over(3600)
    assert (row["version"], row["recall"]) == (0, 0.0)


# --- who said it ----------------------------------------------------------------------------------------

ALICE, MALLORY = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
KEYS = {"alice": ALICE.public_key()}


def record(feedback: Feedback, name: str = "alice", key: Ed25519PrivateKey | None = ALICE):
    _, value, headers = build_feedback(feedback, None if key is None else (name, key))
    return value, headers


def test_only_what_a_known_key_has_signed_counts():
    ledger = AlertLedger(KEYS)
    for number in range(4):
        ledger.alert(alert(number))
    value, headers = record(said("true", alert(0)))
    ledger.judgement(value, headers)
    ledger.judgement(*record(said("false", alert(1)), key=None))
    ledger.judgement(*record(said("false", alert(1)), "bob"))
    ledger.judgement(*record(said("false", alert(1)), key=MALLORY))
    ledger.judgement(value.replace(b'"true"', b'"false"'), headers)
    ledger.judgement(*record(missed(2), key=None))
    (row,) = ledger.over(3600)
    assert (row["true"], row["false"], row["missed"]) == (1, 0, 0)
    assert ledger.refused == {"unsigned": 2, "unknown_key": 1, "bad_signature": 2}
    assert ledger.unknown == 0


def test_where_no_key_is_named_every_judgement_counts():
    ledger = AlertLedger()
    ledger.alert(alert(0))
    ledger.alert(alert(1))
    ledger.judgement(*record(said("true", alert(0)), key=None))
    ledger.judgement(*record(said("false", alert(1)), key=MALLORY))
    (row,) = ledger.over(3600)
    assert (row["true"], row["false"]) == (1, 1)
    assert not ledger.refused


def test_an_unsigned_word_that_is_later_does_not_displace_a_signed_one():
    ledger = AlertLedger(KEYS)
    ledger.alert(alert(0))
    ledger.judgement(*record(said("true", alert(0))))
    ledger.judgement(*record(said("false", alert(0), later=9.0), key=None))
    (row,) = ledger.over(3600)
    assert (row["true"], row["false"]) == (1, 0)


@given(st.lists(st.tuples(st.sampled_from(["true", "false"]), st.integers(0, 5)), min_size=1), st.randoms())
def test_old_judgements_that_are_replayed_change_nothing(words, random):
    records = [record(said(verdict, alert(0), later)) for verdict, later in words]
    ledger = AlertLedger(KEYS)
    ledger.alert(alert(0))
    for given_ in records:
        ledger.judgement(*given_)
    before = ledger.over(3600)
    newest = max(later for _, later in words)
    old = [given_ for given_, (_, later) in zip(records, words, strict=True) if later < newest]
    random.shuffle(old)
    for given_ in old:
        ledger.judgement(*given_)
    assert ledger.over(3600) == before
    assert not ledger.refused


@given(st.binary(max_size=200))
def test_bytes_that_a_key_signed_are_read_or_refused_and_others_are_never_parsed(value):
    ledger = AlertLedger(KEYS)
    ledger.judgement(value, [])
    ledger.judgement(value, [("key_id", b"alice"), ("signature", MALLORY.sign(value))])
    assert ledger.refused == {"unsigned": 1, "bad_signature": 1}
    with pytest.raises(ValueError):
        ledger.judgement(value, [("key_id", b"alice"), ("signature", ALICE.sign(value))])


def test_a_command_is_no_judgement_though_its_signature_holds():
    until = datetime(2030, 1, 1, tzinfo=UTC)
    command = Command(key_id="alice", audience="*", sequence=7, not_after=until, action=Retrain("m"))
    signed = sign(command, ALICE)
    with pytest.raises(msgspec.ValidationError):
        AlertLedger(KEYS).judgement(signed.value, signed.headers)


def test_feedback_is_strict():
    _, value, _ = build_feedback(said("true", alert(0)))
    assert msgspec.json.decode(value, type=Feedback) == said("true", alert(0))
    for old, new in ((b'"true"', b'"maybe"'), (b'"said_at"', b'"said"'), (b"Z", b"")):
        with pytest.raises(msgspec.ValidationError):
            msgspec.json.decode(value.replace(old, new), type=Feedback)


@given(st.integers(1, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_is_that_of_scipy(counts):
    k, n = counts
    wanted = binomtest(k, n).proportion_ci(0.95, "wilson")
    assert wilson(k, n) == pytest.approx((wanted.low, wanted.high), abs=1e-9)


def scores(bucket: int = 0, **values) -> ArmScores:
    known = {
        "stream": "link", "model": "m", "version": 2, "arm": "shadow", "champion": 1, "partition": 0,
        "bucket_start": rfc3339(BEGIN + bucket * 300), "bucket_end": rfc3339(BEGIN + (bucket + 1) * 300),
        "event_time": rfc3339(BEGIN), "n": 10, "both": 1, "only_champion": 2, "only_arm": 3, "difference": 5.0,
    }  # fmt: skip
    return ArmScores(**known | values)


def test_scores_of_arms_add_up_by_version_and_a_repeat_counts_once():
    ledger = ArmLedger(3600.0)
    ledger.add("old", scores(-12))
    ledger.add("a", scores())
    ledger.add("a", scores())
    ledger.add("b", scores(partition=1, n=30, difference=15.0))
    ledger.add("c", scores(champion=3, n=0, both=0, only_champion=0, only_arm=0, difference=0.0))
    first, second = ledger.over(3600.0)
    assert (first["champion"], first["n"], first["both"], first["only_champion"], first["only_arm"]) == (1, 40, 2, 4, 6)
    assert first["difference"] == 0.5
    assert (second["champion"], second["n"]) == (3, 0)
    assert isnan(second["difference"])
    with pytest.raises(ValueError, match="without its id"):
        ledger.add("", scores())


def test_a_ledger_that_is_never_asked_does_not_grow():
    ledger = ForecastLedger(3600.0)
    for bucket in range(1000):
        ledger.add(f"{bucket}", part(bucket))
    assert sum(map(len, ledger._parts.values())) <= 12 + 2

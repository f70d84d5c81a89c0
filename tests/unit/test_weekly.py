"""The card of a week: what is counted, who became champion and how, and that it can be read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from math import isnan

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from dwcp_stream.cli.main import run
from dwcp_stream.events import Accuracy, Alert, ArmScores, ModelDecision, ModelEvent, Prediction, rfc3339
from dwcp_stream.realised import Feedback, build_feedback
from dwcp_stream.realised.weekly import TOPICS, Week, champions
from dwcp_stream.realised.weekly_card import _days, draw_week, write_week
from dwcp_stream.registry import ModelRepository
from dwcp_stream.registry.history import Move, read_history
from dwcp_stream.registry.payload import build_decision, build_model_event
from dwcp_stream.registry.promotion import promote, rollback
from dwcp_stream.wilson import wilson
from tests.model_graphs import make_files, make_manifest

BEGIN = 1_764_000_000.0  # 2025-11-24T16:00Z
DAY = 86_400.0
NAME = "tiny-anomaly"


def alert(hours: float, number: int = 0, **values) -> bytes:
    at = rfc3339(BEGIN + hours * 3600)
    known = {
        "labels": {}, "annotations": {}, "starts_at": at, "action": "firing", "reason": "", "fingerprint": f"{number}f",
        "severity": "warning", "score": 2.0, "kind": None, "state": "scored", "fields": [], "stream": "node",
        "entity": "n1", "model": "node-gbt", "model_version": 1, "event_time": at,
    }  # fmt: skip
    return msgspec.json.encode(Alert(**known | values))


def judged(verdict: str, hours: float, number: int) -> Feedback:
    at = datetime.fromtimestamp(BEGIN + hours * 3600, UTC)
    return Feedback(
        verdict=verdict,
        stream="node",
        entity="n1",
        model="node-gbt",
        fingerprint=f"{number}f",
        starts_at=at,
        said_at=at,
    )


def accuracy(hours: float, **values) -> bytes:
    at = BEGIN + hours * 3600
    known = {
        "stream": "link", "model": "link-forecast", "version": 2, "arm": "champion", "horizon": 12, "target": "rtt_ms",
        "partition": 0, "bucket_start": rfc3339(at - 300), "bucket_end": rfc3339(at), "event_time": rfc3339(at),
        "n": 10, "abs_error": 5.0, "sq_error": 4.0, "error": -5.0, "ape": 1.0, "ape_n": 10, "persistence_n": 10,
        "persistence_abs_error": 10.0, "paired_abs_error": 5.0, "pinball": 3.0, "covered": 8, "covered_raw": 7,
        "missed": 1,
    }  # fmt: skip
    return msgspec.json.encode(Accuracy(**known | values))


def event(kind: str, number: int) -> list[tuple[str, bytes]]:
    return [("ce_type", kind.encode()), ("ce_id", str(number).encode())]


SCORES = ArmScores(
    stream="node", model="node-gbt", version=2, arm="shadow", champion=1, partition=0, bucket_start=rfc3339(BEGIN),
    bucket_end=rfc3339(BEGIN + 300), event_time=rfc3339(BEGIN), n=10, both=1, only_champion=2, only_arm=3,
    difference=5.0,
)  # fmt: skip
REFUSED = ModelEvent(
    stream="node", model="node-gbt", alias="champion", version=3, action="refused", reason="a | b\nc", serving=1,
    event_time=rfc3339(BEGIN),
)  # fmt: skip
DECIDED = ModelDecision(
    stream="link", model="link-forecast", decision="rejected", version=0, champion=2, reason="no better",
    numbers={"skill": -0.1}, event_time=rfc3339(BEGIN),
)  # fmt: skip


def records() -> list[tuple[str, bytes, list[tuple[str, bytes]]]]:
    """A week: six alerts on three days, four of them judged; a model that is worse than repeating 24 steps ahead."""
    found = [("anomalies", alert(hours, number), []) for number, hours in enumerate((0, 1, 9, 10, 11, 40))]
    for number, (hours, verdict) in enumerate(zip((0, 1, 9, 10), ("true", "true", "true", "false"), strict=True)):
        _, value, headers = build_feedback(judged(verdict, hours, number))
        found.append(("feedback", value, headers))
    for number, hours in enumerate((1, 8, 9, 30)):
        found.append(("accuracy", accuracy(hours), event("dwcp.accuracy.bucket", number)))
    worse = accuracy(30, horizon=24, paired_abs_error=12.0, covered=2)
    found.append(("accuracy", worse, event("dwcp.accuracy.bucket", 9)))
    found.append(("accuracy", msgspec.json.encode(SCORES), event("dwcp.accuracy.scores", 1)))
    said = (build_model_event(REFUSED), build_decision(DECIDED))
    return found + [("models", output.value, output.headers) for output in said]


def week_of(given_: list, days: float = 7.0, **more) -> Week:
    week = Week(days * DAY, **more)
    for record in given_:
        week.take(*record)
    return week


def test_a_week_is_counted():
    found = week_of(records()).result()
    (row,) = found["alerts"]
    assert (row["alerts"], row["true"], row["false"], row["precision"]) == (6, 3, 1, 0.75)
    assert row["precision_interval"] == wilson(3, 4)
    assert [(r["day"], r["alerts"]) for r in found["alerts_per_day"]] == [
        ("2025-11-24", 2),
        ("2025-11-25", 3),
        ("2025-11-26", 1),
    ]
    assert [(r["horizon"], r["n"], r["skill"]) for r in found["forecasts"]] == [
        (12, 40, 0.5),
        (24, 10, pytest.approx(-0.2)),
    ]
    assert [r["horizon"] for r in found["worse_than_repeating"]] == [24]
    assert [(r["day"], r["n"], r["coverage"]) for r in found["coverage_per_day"]] == [
        ("2025-11-24", 20, 0.8),  # a bucket that ends at midnight is of the day before
        ("2025-11-25", 30, 0.6),
    ]
    assert [(r["version"], r["only_arm"]) for r in found["arms"]] == [(2, 3)]
    assert [(r["decision"], r["reason"]) for r in found["decisions"]] == [("rejected", "no better")]
    assert [(r["action"], r["version"], r["times"]) for r in found["versions"]] == [("refused", 3, 1)]
    assert (found["unreadable"], found["feedback_without_alert"], found["feedback_refused"]) == (0, 0, {})


def test_what_several_workers_say_is_one_row():
    week = Week(DAY)
    for worker in range(3):
        for version in (2, 3):
            at = rfc3339(BEGIN + worker)
            output = build_model_event(msgspec.structs.replace(REFUSED, version=version, event_time=at))
            week.take("models", output.value, output.headers)
    rows = [(row["version"], row["times"], row["event_time"]) for row in week.result()["versions"]]
    assert rows == [(2, 3, rfc3339(BEGIN + 2)), (3, 3, rfc3339(BEGIN + 2))]


def test_of_one_stream():
    found = week_of(records()).result("link")
    assert not found["alerts"]
    assert not found["alerts_per_day"]
    assert not found["arms"]
    assert not found["versions"]
    assert len(found["forecasts"]) == 2
    assert len(found["decisions"]) == 1


@given(st.permutations(records()), st.integers(0, 16))
def test_order_and_repeats_change_nothing(mixed, repeated):
    assert week_of(mixed + mixed[:repeated]).result() == week_of(records()).result()


def test_a_shorter_week_ends_with_the_newest_of_each_stream():
    found = week_of(records(), days=1).result()
    assert sum(row["alerts"] for row in found["alerts_per_day"]) == 1
    assert sum(row["n"] for row in found["coverage_per_day"]) == 50 - 10, "the bucket of 29 hours before is left out"
    assert found["feedback_without_alert"] == 0


@given(
    st.sampled_from(TOPICS), st.binary(max_size=60), st.sampled_from(["", "dwcp.accuracy.scores", "dwcp.model.decided"])
)
def test_what_is_no_message_is_counted(topic, value, kind):
    week = Week(DAY)
    week.take(topic, value, event(kind, 1))
    assert week.unreadable == (0 if topic == "models" and not value and kind != "dwcp.model.decided" else 1)


def test_judgements_that_nobody_known_has_signed_do_not_count():
    found = week_of(records(), keys={"alice": Ed25519PrivateKey.generate().public_key()}).result()
    assert isnan(found["alerts"][0]["precision"])
    assert found["feedback_refused"] == {"unsigned": 4}


# --- champions ------------------------------------------------------------------------------------------


def test_promotions_and_rollbacks_are_told_apart(tmp_path):
    repository = ModelRepository(tmp_path)
    for _ in range(3):
        repository.publish(NAME, make_files("anomaly"), make_manifest("anomaly"))
    promote(repository, NAME, 1, by="alice")
    promote(repository, NAME, 2, by="alice", reason="better")
    rollback(repository, NAME, by="bob", reason="worse")
    promote(repository, NAME, 3)
    promote(repository, NAME, 1)
    promote(repository, NAME, 3)  # what is last good again, and no rollback all the same
    found = champions(read_history(tmp_path), datetime(2026, 1, 1, tzinfo=UTC))
    assert [(row["what"], row["before"], row["version"]) for row in found] == [
        ("promotion", None, 1),
        ("promotion", 1, 2),
        ("rollback", 2, 1),
        ("promotion", 1, 3),
        ("promotion", 3, 1),
        ("promotion", 1, 3),
    ]
    assert (found[2]["by"], found[2]["reason"]) == ("bob", "worse")


def test_what_went_before_is_not_of_the_week_but_decides_what_goes_back():
    now = datetime(2026, 11, 28, tzinfo=UTC)

    def move(days: float, alias: str, before: int | None, version: int | None) -> Move:
        at = (now - timedelta(days=days)).isoformat()
        return Move(at=at, by="x", model="m", alias=alias, before=before, version=version)

    moves = [
        move(20, "champion", None, 1),
        move(10, "champion", 1, 2),
        move(10, "last_good", None, 1),
        move(3, "challenger", None, 3),
        move(3, "share", None, 10),
        move(2, "champion", 2, 1),
        move(1, "champion", 1, None),
    ]
    assert [(row["what"], row["version"]) for row in champions(moves, now - timedelta(days=7))] == [("rollback", 1)]


# --- the card -------------------------------------------------------------------------------------------


def test_the_card_says_it_all():
    result = {"since": "A", "until": "B", "champions": [], **week_of(records()).result()}
    text = write_week(result, "week.png")
    assert text.startswith("# Week\n\nFrom A to B")
    assert "![alerts and coverage by day](week.png)" in text
    assert "| node | node-gbt | 1 | 6 | 3 | 1 | 0 | 0.75 (0.30 to 0.95, of 4) |" in text
    assert (
        "- link-forecast version 2 (champion), rtt_ms 24 steps ahead: its error is 1.20 times that of repeating" in text
    )
    assert "| 2025-11-24T16:00:00.000Z | link | link-forecast | rejected | 0 | 2 | no better |" in text
    assert "a \\| b c" in text, "what somebody wrote ends no cell and no line"
    assert "Champions are as they were." in text


def test_the_card_of_nothing_says_so():
    text = write_week({"since": "A", "until": "B", "champions": [], **week_of([]).result()})
    for line in ("No alert was raised", "No forecast has met", "The trainer has decided nothing", "as they were"):
        assert line in text


def test_a_day_without_anything_is_on_the_axis_too():
    assert _days(["2026-02-27", "2026-03-02", "2026-02-27"]) == ["2026-02-27", "2026-02-28", "2026-03-01", "2026-03-02"]
    assert _days([]) == []


@pytest.mark.parametrize("given_", [records(), []])
def test_the_picture_is_one_and_the_same_for_the_same_week(given_):
    picture = draw_week(week_of(given_).result())
    assert picture.startswith(b"\x89PNG")
    assert picture == draw_week(week_of(given_).result())


@pytest.mark.parametrize(("text", "why"), [("7", "no length of time"), ("0d", "no length"), ("366d", "more than 365d")])
def test_a_span_that_is_none(text, why, capsys):
    assert run(["report", "--since", text]) == 2
    assert why in " ".join(capsys.readouterr().err.split())


def prediction(entity: str, repeats: float | None, arm: str = "champion") -> bytes:
    return msgspec.json.encode(
        Prediction(
            kind="forecast", stream="link", entity=entity, model="link-forecast", version=1, arm=arm,
            issued_at=rfc3339(BEGIN), repeats=repeats,
        )
    )  # fmt: skip


def test_entities_whose_forecaster_only_repeats_the_last_value_are_named():
    week = Week(7 * DAY)
    given_ = {"off": [1.0, 1.0, 0.5], "on": [0.0, 1.0, 0.25], "incident": [None]}
    for entity, shares in given_.items():
        for share in shares:
            week.take("predictions", prediction(entity, share), [])
    week.take("predictions", prediction("of a challenger", 1.0, "challenger"), [])
    week.take("predictions", b"{", [])
    (row,) = week.result()["switched_off"]
    assert (row["entity"], row["n"], round(row["share"], 3)) == ("off", 3, 0.667)
    assert week.unreadable == 1
    assert week.result("node")["switched_off"] == []
    card = write_week({**week.result(), "since": "2026-01-01", "until": "2026-01-08", "champions": []})
    assert "repeating the last value was better: off (link-forecast)." in card

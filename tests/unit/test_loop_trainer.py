"""The trainer on made-up realised errors and a real model repository: decisions, and that restarts change none."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from dwcp_stream.events import Accuracy, Drift, ModelDecision, rfc3339
from dwcp_stream.history.retrain import Retrained
from dwcp_stream.loop.intake import Intake
from dwcp_stream.loop.knowledge import Knowledge
from dwcp_stream.loop.pairs import WARM_UP
from dwcp_stream.loop.policy import Policy
from dwcp_stream.loop.sequential import BLOCKS
from dwcp_stream.loop.trainer import Trainer
from dwcp_stream.registry import ModelRepository
from dwcp_stream.registry.aliases import move_aliases
from dwcp_stream.registry.history import read_history
from dwcp_stream.registry.promotion import promote
from tests.model_graphs import binding, make_files, make_manifest, make_stream

MODEL = "tiny-forecast"
BUCKET, BEGIN = 300.0, 1_700_000_100.0
POLICY = Policy(block=1, challenge=5 * BUCKET, collect=5 * BUCKET, max_age=400 * BUCKET, interval=0.0)


class Record:
    """What Kafka would give of an output."""

    def __init__(self, value: bytes, headers: list[tuple[str, bytes]]) -> None:
        self.value, self.headers = value, headers


class World:
    """Everything around a trainer; `records` is what the topics hold."""

    def __init__(self, root) -> None:
        self.repository = ModelRepository(root)
        self.stream = make_stream(models=(binding("forecast"),), min_periods=1)
        self.records: list[tuple[str, Record]] = []
        self.bucket, self.rng = 0, np.random.default_rng(3)
        self.asked: list[tuple[float, float]] = []
        self.outcome = lambda: Retrained(MODEL, version=self.publish(), data={"rows": 10, "holdout": 2})
        self.publish()
        self.errors, self.naive = {1: 1.0}, 0.0
        self.start()

    def publish(self) -> int:
        manifest = {k: v for k, v in make_manifest("forecast").items() if k != "name"}
        version = self.repository.publish(MODEL, make_files("forecast"), manifest)
        if version == 1:
            self.repository.set_alias(MODEL, "champion", 1)
        return version

    def start(self) -> None:
        """A trainer that has read all there is, as after a restart."""
        self.knowledge = Knowledge(2 * POLICY.max_age)
        self.intake = Intake(self.knowledge)
        for topic, record in self.records:
            self.intake.take(topic, record)
        self.trainer = Trainer(
            streams=[self.stream], repository=self.repository, knowledge=self.knowledge, policy=POLICY,
            history=100 * BUCKET, publish=self.send, train=self.train,
        )  # fmt: skip

    def give(self, topic: str, payload: msgspec.Struct, event_id: str = "", kind: str = "") -> None:
        headers = [("ce_id", event_id.encode()), ("ce_type", kind.encode())]
        record = Record(msgspec.json.encode(payload), headers)
        self.records.append((topic, record))
        self.intake.take(topic, record)

    async def send(self, outputs) -> None:
        for output in outputs:
            record = Record(output.value, output.headers)
            self.records.append((output.topic, record))

    async def train(self, stream, binding_, since, until, reason):
        self.asked.append((since, until))
        return self.outcome()

    def live(self, buckets: int = 1) -> None:
        """Buckets of realised errors of all versions that run."""
        aliases = self.repository.aliases(MODEL)
        for _ in range(buckets):
            self.bucket += 1
            common = self.rng.gamma(20.0, 1 / 20)
            for arm in ("champion", "challenger", "shadow"):
                version = aliases.get(arm)
                if version is None:
                    continue
                error = 100 * self.errors[version] * common * self.rng.gamma(200.0, 1 / 200)
                part = Accuracy(
                    stream="tiny", model=MODEL, version=version, arm=arm, horizon=1, target="latency", partition=0,
                    bucket_start=rfc3339(BEGIN + (self.bucket - 1) * BUCKET),
                    bucket_end=rfc3339(BEGIN + self.bucket * BUCKET), event_time=rfc3339(BEGIN + self.bucket * BUCKET),
                    n=100, abs_error=error, sq_error=error, error=0.0, ape=0.0, ape_n=0, persistence_n=0,
                    persistence_abs_error=100 * self.naive * common, paired_abs_error=error, pinball=0.0,
                    covered=80, covered_raw=80, missed=0,
                )  # fmt: skip
                self.give("accuracy", part, f"{self.bucket}/{version}")

    def drift(self, version: int) -> None:
        at = rfc3339(BEGIN + self.bucket * BUCKET)
        event = Drift(
            stream="tiny", model=MODEL, version=version, partition=0, state="drifted", previous="stable",
            reasons=["error: adwin"], block_start=at, block_end=at, event_time=at, signals={}, psi={}, psi_n=0,
        )  # fmt: skip
        self.give("drift", event)

    def decisions(self) -> list[ModelDecision]:
        return [msgspec.json.decode(r.value, type=ModelDecision) for topic, r in self.records if topic == "models"]

    def words(self) -> list[tuple[str, int]]:
        return [(d.decision, d.version) for d in self.decisions()]


@pytest.fixture(params=[False, True], ids=["", "restarted"])
def world(tmp_path, request):
    found = World(tmp_path)
    found.restarts = request.param
    return found


async def until(world: World, decision: str, most: int = 300) -> ModelDecision:
    """Let time pass, a bucket at a time, until something is decided."""
    for _ in range(most):
        before = len(world.decisions())
        world.live()
        if world.restarts:
            world.start()
        await world.trainer.look()
        await world.trainer.idle()
        new = world.decisions()[before:]
        if new:
            assert decision in [d.decision for d in new], new
            return next(d for d in new if d.decision == decision)
    raise AssertionError(f"no {decision} after {most} buckets; {world.words()}")


async def test_from_a_drift_to_another_champion(world):
    world.live(20)
    await world.trainer.look()
    assert world.words() == []
    world.drift(1)
    drifted = world.bucket
    world.errors |= {1: 2.0, 2: 1.0}
    await until(world, "trained")
    assert world.bucket == drifted + 5
    assert world.asked == [(BEGIN + drifted * BUCKET, BEGIN + world.bucket * BUCKET)]
    assert world.words() == [("trained", 2), ("shadowed", 2)]
    assert world.repository.aliases(MODEL) == {"champion": 1, "shadow": 2}

    await until(world, "challenged")
    assert world.repository.aliases(MODEL) == {"champion": 1, "challenger": 2}
    assert world.repository.share(MODEL) == POLICY.share
    promoted = await until(world, "promoted")
    assert promoted.champion == 2
    assert promoted.numbers["lower"] > 0
    assert world.words()[-2:] == [("promoted", 2), ("shadowed", 1)]
    assert world.repository.aliases(MODEL) == {"champion": 2, "shadow": 1, "last_good": 1}
    await until(world, "dropped")
    assert world.repository.aliases(MODEL) == {"champion": 2, "last_good": 1}
    before = world.words()
    for _ in range(20):
        world.live()
        assert await world.trainer.look() == 0
    assert world.words() == before
    assert {move.by for move in read_history(world.repository.root)} >= {"trainer"}


async def test_a_bad_version_that_somebody_promotes_is_rolled_back(world):
    world.live(20)
    world.publish()
    world.errors[2] = 3.0
    promote(world.repository, MODEL, 2, by="mallory")
    said = await until(world, "shadowed")
    assert (said.version, said.champion) == (1, 2)
    back = await until(world, "rolled_back")
    assert (back.version, back.champion) == (2, 1)
    assert world.repository.aliases(MODEL) == {"champion": 1, "last_good": 1}
    for _ in range(20):
        world.live()
        assert await world.trainer.look() == 0


async def test_a_bad_version_is_rolled_back_also_where_a_challenger_runs_and_before_anything_is_trained(world):
    world.naive, world.errors = 1.0, {1: 0.7, 2: 0.7, 3: 1.6}
    world.live(300)
    for _ in range(2):
        world.publish()
    move_aliases(world.repository.root, MODEL, {"challenger": 2}, by="alice")
    await until(world, "challenged")
    promote(world.repository, MODEL, 3, by="mallory")
    before = world.bucket
    assert (await until(world, "challenged")).champion == 3
    assert (await until(world, "shadowed")).version == 1
    world.drift(3)  # a day without skill would do as well
    assert (await until(world, "rolled_back")).champion == 1
    assert world.bucket - before == pytest.approx(BLOCKS + WARM_UP, abs=6)
    assert world.asked == [], "better the champion of before than one that has to be trained"


async def test_the_champion_before_takes_the_place_of_one_that_ran_beside_another(world):
    world.live(20)
    for _ in range(3):
        world.publish()
    world.errors |= {2: 1.0, 3: 1.0, 4: 3.0}
    move_aliases(world.repository.root, MODEL, {"champion": 3, "shadow": 2, "last_good": 1})
    await until(world, "shadowed")
    promote(world.repository, MODEL, 4, by="mallory")
    said = await until(world, "shadowed")
    assert (said.version, said.champion) == (3, 4)
    assert (await until(world, "rolled_back")).champion == 3


async def test_a_candidate_that_is_no_better_is_dropped_after_its_time(world):
    world.live(20)
    world.publish()
    world.errors[2] = 1.0
    move_aliases(world.repository.root, MODEL, {"shadow": 2}, by="alice")
    said = await until(world, "shadowed")
    assert said.reason == "somebody has put it there"
    seen = []
    while "dropped" not in seen:
        world.live()
        if world.restarts:
            world.start()
        await world.trainer.look()
        seen = [d.decision for d in world.decisions()]
        assert "promoted" not in seen
        assert world.bucket < 1000
    assert "challenger" not in world.repository.aliases(MODEL)
    assert "shadow" not in world.repository.aliases(MODEL)


async def test_forecasts_that_are_worth_nothing_any_more_are_a_reason_to_train(world):
    world.naive, world.errors = 1.0, {1: 0.7, 2: 0.7}
    world.live(300)
    await world.trainer.look()
    assert world.words() == []
    world.errors[1] = 1.3
    trained = await until(world, "trained")
    assert trained.reason == "skill"
    lost = world.knowledge.pairs.lost("tiny", MODEL, 1)
    now = BEGIN + world.bucket * BUCKET
    assert lost is not None
    assert lost - BEGIN == pytest.approx(434 * BUCKET, abs=20 * BUCKET), "after 11 hours of 1.3 instead of 0.7"
    assert now - lost <= POLICY.collect + 3 * BUCKET  # a bucket counts once it is settled
    assert world.asked == [(now - 100 * BUCKET, now)], "not before the day without skill, nor than the history"
    assert world.words() == [("trained", 2), ("shadowed", 2)]
    for _ in range(30):  # once is enough, whatever becomes of the candidate
        world.live()
        await world.trainer.look()
        await world.trainer.idle()
    assert len(world.asked) == 1


async def test_a_rejected_training_is_tried_again_after_twice_the_time(world):
    world.live(20)
    world.drift(1)
    drifted = world.bucket
    world.outcome = lambda: Retrained(MODEL, reasons=("worse by 30 %",), data={"rows": 3})
    first = await until(world, "rejected")
    assert (world.bucket, first.version, first.reason) == (drifted + 5, 0, "drift: worse by 30 %")
    await until(world, "rejected")
    assert world.bucket == drifted + 10
    await until(world, "rejected")
    assert world.bucket == drifted + 20
    assert world.repository.aliases(MODEL) == {"champion": 1}


async def test_a_training_that_fails_is_said_and_the_loop_goes_on(world):
    world.live(3)
    world.knowledge.command("tiny", MODEL, 7)

    def fail() -> Retrained:
        raise RuntimeError("no memory")

    world.outcome = fail
    world.restarts = False
    said = await until(world, "failed")
    assert said.reason == "command: no memory"
    assert said.numbers["command"] == 7
    world.start()
    world.knowledge.command("tiny", MODEL, 7)  # a restarted trainer reads the command again
    world.live()
    await world.trainer.look()
    await world.trainer.idle()
    assert world.words() == [("failed", 0)]


async def test_who_does_not_lead_decides_nothing(world):
    world.live(20)
    world.publish()
    world.errors[2] = 3.0
    promote(world.repository, MODEL, 2)
    world.trainer.leads = lambda: False
    world.live(50)
    assert await world.trainer.look() == 0
    assert world.decisions() == []


async def test_a_damaged_repository_stops_nothing(world, tmp_path):
    world.live(20)
    (tmp_path / "aliases.json").write_bytes(b"{")
    assert await world.trainer.look() == 0


def test_what_cannot_be_read_is_counted(world):
    for topic in Intake.topics:
        world.intake.take(topic, Record(b"{", [("ce_id", b"x"), ("ce_type", b"dwcp.model.decided")]))
        world.intake.take(topic, Record(None, []))
    assert world.intake.unreadable == {"accuracy": 2, "drift": 2, "anomalies": 2, "feedback": 2, "models": 1}


async def test_after_a_drift_a_candidate_of_before_gives_way(world):
    world.live(20)
    world.publish()
    world.errors[2] = 1.0
    move_aliases(world.repository.root, MODEL, {"shadow": 2})
    await until(world, "shadowed")
    world.live(3)
    world.drift(1)
    drifted = world.bucket
    world.errors |= {1: 2.0, 2: 2.0, 3: 1.0, 4: 1.0}
    await until(world, "trained")
    assert world.bucket == drifted + 5
    assert world.words()[-3:] == [("trained", 3), ("dropped", 2), ("shadowed", 3)]
    assert world.repository.aliases(MODEL) == {"champion": 1, "shadow": 3}
    world.live()
    world.drift(1)  # again
    before = world.words()
    for _ in range(7):
        world.live()
        await world.trainer.look()
        await world.trainer.idle()
    assert [w for w in world.words()[len(before) :] if w[0] == "trained"] == [("trained", 4)]


async def test_no_training_by_schedule_while_versions_are_compared(world):
    world.trainer.policy = replace(POLICY, interval=10 * BUCKET)
    world.restarts = False
    world.live(9)
    world.publish()
    world.errors |= {2: 1.0, 3: 1.0}
    move_aliases(world.repository.root, MODEL, {"shadow": 2})
    for _ in range(20):
        world.live()
        await world.trainer.look()
        await world.trainer.idle()
    assert ("trained", 3) not in world.words()
    move_aliases(world.repository.root, MODEL, {"shadow": None})
    await until(world, "trained")

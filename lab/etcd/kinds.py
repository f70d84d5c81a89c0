"""The kinds of events: how each is drawn, for how long, and how strong."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

Params = dict[str, Any]


@dataclass(frozen=True)
class Drawn:
    """One event before it has a time.

    Attributes
    ----------
    duration
        Seconds it is held; some then take until all members are healthy again.
    how
        Which way, where there are several.
    params
        Strength and aim; `member` values are positions among the followers, as the leader is not known yet.
    """

    duration: float
    how: str
    params: Params


Draw = Callable[[random.Random, int], Drawn]


def _leader_lost(chance: random.Random, _members: int) -> Drawn:
    how = chance.choice(("pause", "kill"))
    return Drawn(chance.uniform(2, 12) if how == "pause" else chance.uniform(6, 35), how, {})


def _follower_lost(chance: random.Random, members: int) -> Drawn:
    how = chance.choice(("pause", "kill"))
    return Drawn(chance.uniform(8, 45), how, {"count": chance.randint(1, (members - 1) // 2), **_which(chance)})


def _quorum_lost(chance: random.Random, members: int) -> Drawn:
    how = chance.choice(("pause", "kill"))
    params = {"count": (members + 1) // 2, "with_leader": chance.random() < 0.5, **_which(chance)}
    return Drawn(chance.uniform(4, 20), how, params)


def _slow_disk(chance: random.Random, _members: int) -> Drawn:
    scope = _scope(chance)
    delay = 10 ** chance.uniform(0.5, 1.6)  # 3 to 40 ms per sync: a busy disk to one that is about to die
    params = {"scope": scope, "delay_ms": round(delay, 1), "jitter_ms": round(delay * chance.uniform(0.2, 1.5), 1)}
    return Drawn(chance.uniform(12, 50), "sync", {**params, **_which(chance)})


def _slow_network(chance: random.Random, _members: int) -> Drawn:
    how = chance.choices(("delay", "loss", "stall", "reset"), (3, 3, 1, 1))[0]
    params: Params = {"scope": _scope(chance), **_which(chance)}
    if how in {"delay", "loss"}:
        delay = 10 ** chance.uniform(0.7, 2.0)  # 5 to 100 ms, one way
        params |= {"delay_ms": round(delay, 1), "jitter_ms": round(delay * chance.uniform(0.1, 0.8), 1)}
    if how == "loss":
        params |= {"delay_ms": round(params["delay_ms"] / 4, 1), "loss": round(chance.uniform(0.01, 0.08), 3)}
    if how in {"stall", "reset"}:
        params |= {"every_s": round(chance.uniform(1, 4), 2)}
    if how == "stall":
        params |= {"stall_s": round(chance.uniform(0.2, 0.8), 2)}
    return Drawn(chance.uniform(12, 50), how, params)


def _starved_cpu(chance: random.Random, _members: int) -> Drawn:
    params = {"scope": _scope(chance), "stopped": round(chance.uniform(0.4, 0.85), 2), "period_ms": 100}
    return Drawn(chance.uniform(12, 45), "stopped in turns", {**params, **_which(chance)})


def _flapping(chance: random.Random, _members: int) -> Drawn:
    how = chance.choice(("transfer", "pause"))
    every = chance.uniform(2, 5) if how == "transfer" else chance.uniform(5, 9)
    return Drawn(
        chance.uniform(15, 45), how, {"every_s": round(every, 2), "pause_s": round(chance.uniform(1.5, 2.5), 2)}
    )


def _burst(chance: random.Random, _members: int) -> Drawn:
    return Drawn(chance.uniform(10, 20), "load", {"factor": round(chance.uniform(2.5, 4), 2)})


def _quiet(chance: random.Random, _members: int) -> Drawn:
    return Drawn(chance.uniform(12, 30), "load", {"factor": round(chance.uniform(0.08, 0.25), 3)})


def _planned_transfer(_chance: random.Random, _members: int) -> Drawn:
    return Drawn(2.0, "transfer", {})


def _planned_restart(chance: random.Random, _members: int) -> Drawn:
    scope = "leader" if chance.random() < 0.3 else "follower"
    return Drawn(1.0, "restart", {"scope": scope, "down_s": round(chance.uniform(0.3, 1.5), 2), **_which(chance)})


def _compaction_defrag(chance: random.Random, _members: int) -> Drawn:
    return Drawn(2.0, "compaction", {"scope": chance.choice(("leader", "follower")), **_which(chance)})


def _scope(chance: random.Random) -> str:
    return chance.choices(("leader", "follower", "all"), (4, 2, 2))[0]


def _which(chance: random.Random) -> Params:
    return {"which": chance.randrange(1000)}


FAULTS: Final[dict[str, Draw]] = {
    "leader_lost": _leader_lost,
    "follower_lost": _follower_lost,
    "quorum_lost": _quorum_lost,
    "slow_disk": _slow_disk,
    "slow_network": _slow_network,
    "starved_cpu": _starved_cpu,
    "flapping": _flapping,
}
"""What `label` says while it is on."""

NEGATIVES: Final[dict[str, Draw]] = {
    "burst": _burst,
    "quiet": _quiet,
    "planned_transfer": _planned_transfer,
    "planned_restart": _planned_restart,
    "compaction_defrag": _compaction_defrag,
}
"""What `negative` says: it looks like trouble, or changes everything, and nothing is wrong."""

"""Run a plan against an arena, then prove that nothing was lost and nothing changed."""

from __future__ import annotations

import math
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from tests.chaos.arena import DEADLINE, Arena
from tests.chaos.faults import FAULTS
from tests.chaos.plan import ALWAYS, Fault, make_plan
from tests.integration.workers import Final, assert_same


@dataclass
class Summary:
    """What a run did and found. Times are seconds; `recovery` is by class: from a fault's end to nothing waiting."""

    seed: int
    faults: int = 0
    samples: int = 0
    entities: int = 0
    alerts: int = 0
    repeated: int = 0
    replayed: int = 0
    workers: int = 0
    seconds: float = 0.0
    counts: dict[str, int] = field(default_factory=dict)
    recovery: dict[str, list[float]] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """For JSON: recovery times as number, median and maximum."""
        times = {
            kind: {"n": len(found), "median": round(statistics.median(found), 2), "max": round(max(found), 2)}
            for kind, found in sorted(self.recovery.items())
        }
        return {**asdict(self), "seconds": round(self.seconds, 1), "recovery": times}

    def table(self) -> str:
        """The classes of faults with how often they came and how long the site took to work off what was waiting."""
        lines = [f"{'fault':<18}{'times':>6}{'median s':>10}{'longest s':>10}"]
        for kind, count in sorted(self.counts.items()):
            times = self.recovery.get(kind, [])
            shown = f"{statistics.median(times):>10.1f}{max(times):>10.1f}" if times else f"{'-':>10}{'-':>10}"
            lines.append(f"{kind:<18}{count:>6}{shown}")
        lines.append(
            f"seed {self.seed}: {self.faults} faults, {self.samples:,} samples of {self.entities:,} entities, "
            f"{self.alerts:,} alerts, none lost, {self.repeated:,} repeated under the same id; "
            f"{self.workers} workers, {self.seconds:.0f} s"
        )
        return "\n".join(lines)


@dataclass
class Options:
    """How much chaos. `rate` is steps per second at most; a step is one sample of every entity.

    After `seconds` no further fault is begun, and the samples are those that the faults so far have a right to.
    """

    seed: int = 1
    faults: int = 100
    samples: int = 5_000_000
    entities: int = 1_000
    rate: float = 12.0
    kinds: Sequence[str] = ALWAYS
    seconds: float = math.inf


class ChaosError(AssertionError):
    """What must hold did not; the message has the seed, the faults so far and where the logs are."""


async def run_program(options: Options, directory: Path, say: Callable[[str], None]) -> Summary:
    """Run a whole program.

    Raises
    ------
    ChaosError
        Something was lost, changed, stuck, or ended by itself.
    """
    plan = make_plan(options.seed, options.faults, options.kinds)
    arena = Arena(directory, options.seed, options.entities, options.rate)
    summary, done = Summary(options.seed, entities=options.entities), []
    begun = time.monotonic()
    try:
        await arena.open()
        for number, fault in enumerate(plan, 1):
            if time.monotonic() - begun > options.seconds:
                break
            done.append(fault)
            arena.load.allow(options.samples * number // (len(plan) + 1))
            said = await _carry_out(arena, fault, summary)
            say(f"{number}/{len(plan)} {time.monotonic() - begun:.0f} s {fault} {said}{arena.load.sent:,} samples")
        samples = options.samples * (len(done) + 1) // (len(plan) + 1)
        await _finish(arena, replace(options, samples=samples), summary, say)
    except Exception as error:
        so_far = ", ".join(str(f) for f in done)
        again = f"--seed {options.seed} --faults {options.faults} --samples {options.samples}"
        raise ChaosError(f"{error}\n\nfaults so far: {so_far}\nagain with: {again}\nlogs: {directory}") from error
    finally:
        await arena.close()
    summary.seconds = time.monotonic() - begun
    return summary


async def _carry_out(arena: Arena, fault: Fault, summary: Summary) -> str:
    await FAULTS[fault.kind](arena, fault.draw)
    arena.check()
    summary.faults += 1
    summary.counts[fault.kind] = summary.counts.get(fault.kind, 0) + 1
    if not fault.settle:
        return ""
    seconds = await arena.settled()
    summary.recovery.setdefault(fault.kind, []).append(seconds)
    return f"worked off in {seconds:.1f} s, "


async def _finish(arena: Arena, options: Options, summary: Summary, say: Callable[[str], None]) -> None:
    """Let all workers leave, send the rest, let one more read it, and compare."""
    for worker in arena.workers:
        await arena.terminate(worker)
    arena.load.allow(options.samples)
    arena.load.rate = sys.maxsize
    await arena.until(lambda: _sent(arena, options.samples), "all samples sent")
    await arena.load.stop()
    left = await arena.run.lag()
    assert left > 0, "nothing is left to count"
    say(f"{left:,} samples for the survivor")
    survivor = arena.run.start()
    await arena.until(lambda: _nothing_left(arena), "lag 0")
    counted = await survivor.metric("dwcp_samples_total")
    replayed = await survivor.metric("dwcp_samples_replayed_total")
    assert counted + replayed == left, f"{left} samples were left, {counted} counted and {replayed} replayed"
    await arena.terminate(survivor)
    arena.check()
    final = await arena.run.final()
    say("the reference reads all of it")
    reference = await _reference(arena)
    summary.samples = sum((await arena.run.ends(arena.run.source)).values())
    summary.workers, summary.alerts = len(arena.run.workers), len(final.alerts)
    summary.repeated, summary.replayed = final.repeats, int(replayed)
    if "swap" in options.kinds:  # the reference has the last version from the beginning
        final, reference = _without_version(final), _without_version(reference)
    assert_same(final, reference)
    _compare_with_truth(arena, final)


def _without_version(final: Final) -> Final:
    alerts = {key: {k: v for k, v in alert.items() if k != "model_version"} for key, alert in final.alerts.items()}
    return replace(final, alerts=alerts)


async def _sent(arena: Arena, samples: int) -> bool:
    return arena.load.sent >= samples


async def _nothing_left(arena: Arena) -> bool:
    return await arena.run.lag() == 0


async def _reference(arena: Arena) -> Final:
    """What one undisturbed worker makes of the topic; it must count every sample, and repeat none."""
    run = await arena.site.run(DWCP_CHECKPOINT_INTERVAL="5")
    worker = run.start()
    await run.caught_up(4 * DEADLINE)
    total = sum((await run.ends(run.source)).values())
    counted = await worker.metric("dwcp_samples_total")
    assert counted == total, f"the topic has {total} samples, the reference counted {counted}"
    run.stop_all()
    final = await run.final()
    assert final.repeats == 0, "the reference was not undisturbed"
    return final


def _compare_with_truth(arena: Arena, final: Final) -> None:
    """The first population's transitions are known beforehand."""
    known = arena.load.known
    names = defaultdict(bool, {a["entity"]: int(a["entity"][1:]) < known.entities for a in final.alerts.values()})
    found = {t for t in final.transitions if names[t[0]]}
    expected = type(known)(known.entities, arena.load.step).transitions()
    assert found == expected, f"{len(expected - found)} transitions lost, {len(found - expected)} not expected"

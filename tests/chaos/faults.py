"""The faults: each is a coroutine that does harm to an arena and, where it can, ends it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from dwcp_stream.kafka.topics import admin_client
from tests.chaos.arena import MOST_WORKERS, Arena
from tests.integration import probe
from tests.integration.workers import WorkerProcess

CLOCK = Path(__file__).parent / "clock"
SHIFTS = (-40 * 86_400.0, -3_000.0, 3_000.0)
"""Seconds. Not over an hour ahead: Kafka refuses records that are further ahead of its own clock."""

REFUSED_BYTES, ACCEPTED_BYTES = 150, 1_048_588


async def hold(seconds: float) -> None:
    """Let a fault last: its length is part of the plan, not a wait for something to come about."""
    await asyncio.sleep(seconds)


async def kill(arena: Arena, draw: float) -> None:
    """Kill -9 a worker and start another."""
    await arena.kill(arena.victim(draw))
    arena.run.start()


async def term(arena: Arena, draw: float) -> None:
    """TERM a worker, and start another at once, so that leaving and joining overlap."""
    worker = arena.victim(draw)
    arena.run.start()
    await arena.terminate(worker)


async def sleep(arena: Arena, draw: float) -> None:
    """SIGSTOP a worker until the group has given it up, then wake it."""
    worker = arena.victim(draw)
    if len(arena.workers) == 1:
        await arena.run.ready(arena.run.start())
    await arena.until(lambda: _ready(worker), "a worker that is in the group")
    worker.pause()
    try:
        await arena.until(lambda: _without_one(arena), "a group without the worker that sleeps")
        await hold(2 * (draw * 7 % 1))  # the others have got more or less far when it wakes
    finally:
        worker.resume()


async def _ready(worker: WorkerProcess) -> bool:
    return (await worker.get("/health/ready"))[0] == 200


async def _without_one(arena: Arena) -> bool:
    return await arena.members() < len(arena.workers)


async def join(arena: Arena, draw: float) -> None:
    """Start one more worker; with all there, TERM one first."""
    if len(arena.workers) >= MOST_WORKERS:
        await arena.terminate(arena.victim(draw))
    arena.run.start()


async def leave(arena: Arena, draw: float) -> None:
    """TERM a worker; the last one is replaced first."""
    if len(arena.workers) == 1:
        await arena.run.ready(arena.run.start())
    await arena.terminate(arena.victim(draw))


async def throttle(arena: Arena, draw: float) -> None:
    """Give a worker a tenth to a half of its time for a few seconds."""
    worker, share = arena.victim(draw), 0.1 + 0.4 * draw
    for _ in range(20):
        worker.pause()
        try:
            await hold(0.2 * (1 - share))
        finally:
            worker.resume()
        await hold(0.2 * share)


async def clock(arena: Arena, draw: float) -> None:
    """Replace a worker by one whose wall clock is wrong."""
    worker = arena.victim(draw)
    shift = SHIFTS[int(draw * 1000) % len(SHIFTS)]
    path = f"{CLOCK}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    arena.run.start(PYTHONPATH=path, CHAOS_CLOCK_SHIFT=str(shift))
    await arena.kill(worker)


async def broker_restart(arena: Arena, draw: float) -> None:
    """Stop the broker in good order and start it again."""
    await arena.all_started()
    await asyncio.to_thread(arena.kafka.restart)


async def broker_kill(arena: Arena, draw: float) -> None:
    """Kill -9 the broker and start it again."""
    await arena.all_started()
    await asyncio.to_thread(arena.kafka.kill)
    await asyncio.to_thread(arena.kafka.start)


async def broker_pause(arena: Arena, draw: float) -> None:
    """Stop the broker for less than a session."""
    await _pause_broker(arena, 1 + 1.5 * draw)


async def broker_timeout(arena: Arena, draw: float) -> None:
    """Stop the broker for longer than a request may take."""
    await _pause_broker(arena, 6 + 3 * draw)


async def _pause_broker(arena: Arena, seconds: float) -> None:
    await arena.all_started()
    arena.kafka.pause()
    try:
        await hold(seconds)
    finally:
        arena.kafka.resume()


async def state_refused(arena: Arena, draw: float) -> None:
    """Let the broker refuse the state until two checkpoints have failed."""
    await _refuse(arena, arena.run.changelog)


async def outputs_refused(arena: Arena, draw: float) -> None:
    """Let the broker refuse alerts until two checkpoints have failed."""
    await _refuse(arena, arena.run.topic("anomalies"))


async def _refuse(arena: Arena, topic: str) -> None:
    await arena.settled()  # someone must be there to fail
    before = await arena.failures()
    await _limit(arena, topic, REFUSED_BYTES)
    try:
        await arena.until(lambda: _failed(arena, before + 2), "two failed checkpoints")
    finally:
        await _limit(arena, topic, ACCEPTED_BYTES)


async def _failed(arena: Arena, failures: float) -> bool:
    return await arena.failures() >= failures


async def _limit(arena: Arena, topic: str, size: int) -> None:
    async with admin_client(arena.run.settings) as admin:
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, {"max.message.bytes": str(size)})])


async def resent(arena: Arena, draw: float) -> None:
    """Send a whole range of steps again."""
    await _trouble(arena, "resend", 5 + int(25 * draw))


async def reordered(arena: Arena, draw: float) -> None:
    """Shuffle samples over steps, among them some that were sent and some that are to come."""
    await _trouble(arena, "reorder", 3 + int(5 * draw))


async def time_jumps(arena: Arena, draw: float) -> None:
    """Send samples whose clock is minutes or hours off, ahead and behind."""
    await _trouble(arena, "jump", 3 + int(5 * draw))


async def _trouble(arena: Arena, name: str, amount: int) -> None:
    setattr(arena.load.trouble, name, amount)

    async def sent() -> bool:
        return getattr(arena.load.trouble, name) == 0

    await arena.until(sent, "the trouble is sent", every=0.05)


async def swap(arena: Arena, draw: float) -> None:
    """Publish the same graph as the next version and make it champion."""
    probe.publish_model(arena.directory / "models", arena.site.stream)


FAULTS: dict[str, Callable[[Arena, float], Awaitable[None]]] = {
    "kill": kill,
    "term": term,
    "sleep": sleep,
    "join": join,
    "leave": leave,
    "throttle": throttle,
    "clock": clock,
    "broker-restart": broker_restart,
    "broker-kill": broker_kill,
    "broker-pause": broker_pause,
    "broker-timeout": broker_timeout,
    "state-refused": state_refused,
    "outputs-refused": outputs_refused,
    "resent": resent,
    "reordered": reordered,
    "time-jumps": time_jumps,
    "swap": swap,
}

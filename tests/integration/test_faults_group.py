"""Workers that stop, join, leave, and sleep through the loss of their partitions."""

import pytest

from tests.integration.harness import wait_until
from tests.integration.workers import Feeder, Run, WorkerProcess, assert_same

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


async def processed(worker: WorkerProcess) -> float:
    """Samples that a worker has processed; 0 while it does not answer."""
    status, _ = await worker.get("/metrics")
    return await worker.metric("dwcp_samples_total") if status == 200 else 0.0


async def busy(worker: WorkerProcess, more: float = 1.0) -> None:
    """Wait until a worker has processed some more samples."""
    start = await processed(worker)

    async def check() -> bool:
        assert worker.running, worker.tail()
        return await processed(worker) >= start + more

    await wait_until(check, lambda: f"a worker that processes samples\n{worker.tail()}", every=0.1)


async def finish(run: Run) -> None:
    await run.caught_up()
    for worker in run.workers:
        if worker.running:
            assert await worker.terminate() == 0, worker.tail()


async def test_term_hands_over_without_a_repeat(filled, filled_site) -> None:
    run = await filled_site.run(DWCP_MAX_POLL_RECORDS="500", DWCP_CHECKPOINT_INTERVAL="60")
    first = run.start()
    await busy(first, 20_000)
    assert await first.terminate() == 0, first.tail()
    lag = await run.lag()
    assert 0 < lag < 80_000, "the last checkpoint, at TERM, covers what was processed"
    second = run.start(DWCP_CHECKPOINT_INTERVAL="0.3")
    await run.caught_up()
    assert await second.metric("dwcp_samples_total") == lag
    assert await second.metric("dwcp_samples_replayed_total") == 0
    await finish(run)
    final = await run.final()
    assert_same(final, filled.reference)
    assert final.repeats == 0


async def test_term_while_a_worker_joins_its_group(site) -> None:
    await site.create()
    run = await site.run()
    worker = run.start()
    await wait_until(lambda: "LaneThread]: Starting" in worker.log.read_text(), lambda: f"it joins\n{worker.tail()}")
    assert await worker.terminate() == 0, worker.tail()


async def test_a_second_worker_joins_and_leaves(site) -> None:
    await site.create()
    run = await site.run()
    first = run.start()
    await run.ready(first)
    feeder = Feeder(site, entities=200, steps_per_second=20)
    await busy(first)
    second = run.start()
    await busy(second, 500)
    assert await second.terminate() == 0, second.tail()
    await busy(first, 500)
    third = run.start()
    await busy(third, 100)
    third.kill()
    await busy(first, 4_000)
    telemetry = await feeder.stop()
    await finish(run)
    final = await run.final()
    assert_same(final, await site.reference())
    assert final.transitions == telemetry.transitions()


async def test_a_worker_that_slept_through_the_loss_of_its_partitions_spoils_nothing(site) -> None:
    await site.create()
    run = await site.run()
    sleeper = run.start()
    await run.ready(sleeper)
    feeder = Feeder(site, entities=200, steps_per_second=20)
    await busy(sleeper, 500)
    sleeper.pause()
    other = run.start()
    await busy(other, 2_000)  # only after the sleeper's session has ended
    sleeper.resume()
    await busy(sleeper, 500)  # it has joined again and has partitions
    telemetry = await feeder.stop()
    await finish(run)
    final = await run.final()
    assert_same(final, await site.reference())
    assert final.transitions == telemetry.transitions()

"""A backlog of many times what may wait in a worker drains in bounded memory."""

import json
import statistics
from pathlib import Path

import pytest

from tests.integration.harness import wait_until
from tests.integration.probe import Telemetry
from tests.integration.workers import PARTITIONS, Run, Site, WorkerProcess

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.full]

POLL, IN_FLIGHT = 200, 4
"""Records of a chunk in these tests, and chunks of a partition that wait at a time."""
GROWTH = 1.15
"""How much more memory the second half of a drain may take than the first."""


def resident(worker: WorkerProcess) -> int:
    """Bytes of memory that a worker holds."""
    pages = Path(f"/proc/{worker.process.pid}/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * 4096


async def live(worker: WorkerProcess) -> tuple[int, dict[str, str]]:
    """Status of /health/live, and the reason of each check that is not met."""
    status, body = await worker.get("/health/live")
    checks = json.loads(body)["checks"] if body else {}
    return status, {name: check["reason"] for name, check in checks.items() if not check["ok"]}


async def drained(run: Run, worker: WorkerProcess) -> list[tuple[float, int]]:
    """Watch a worker until it has caught up: (share processed, resident bytes), live all the while."""
    total, seen = sum((await run.ends(run.source)).values()), []

    async def done() -> bool:
        assert worker.running, worker.tail()
        if (await worker.get("/metrics"))[0] != 200:
            return False
        share = await worker.metric("dwcp_samples_total") / total
        if share:
            seen.append((share, resident(worker)))
            status, reasons = await live(worker)
            assert status == 200, reasons
        return share >= 1 and await run.lag() == 0

    await wait_until(done, lambda: f"the backlog drained\n{worker.tail()}", 150.0, every=0.1)
    return seen


async def test_a_backlog_drains_in_bounded_memory(site) -> None:
    """150,000 samples are 47 times what may wait in a worker (4 chunks of 200 records of each of 4 partitions)."""
    telemetry = Telemetry(500, 300)
    await site.create()
    await site.write(telemetry)
    run = await site.run(DWCP_MAX_POLL_RECORDS=str(POLL))
    total = sum((await run.ends(run.source)).values())
    assert total >= 10 * POLL * IN_FLIGHT * PARTITIONS
    worker = run.start()
    seen = await drained(run, worker)
    early = [size for share, size in seen if 0.1 <= share < 0.55]
    late = [size for share, size in seen if share >= 0.55]
    assert len(early) >= 5, seen
    assert len(late) >= 5, seen
    assert max(late) <= GROWTH * max(early), (max(early), max(late))
    assert statistics.median(late) <= GROWTH * statistics.median(early)
    assert (await run.finish()).transitions == telemetry.transitions()


async def test_a_worker_whose_partitions_stop_is_not_alive_until_they_go_on(own_kafka, tmp_path, unique) -> None:
    """The broker stops in the middle of a backlog. While it answered, the worker was live."""
    site = Site(own_kafka.bootstrap, tmp_path, unique)
    telemetry = Telemetry(500, 200)
    try:
        await site.create()
        await site.write(telemetry)
        # the ends of partitions are asked for anew for five seconds at a time: a shorter limit would fail for that
        run = await site.run(DWCP_MAX_POLL_RECORDS="50", DWCP_LIVENESS_SECONDS="8", DWCP_THREADS="1")
        worker = run.start()
        await run.processing(0.05)
        assert await run.lag() > 10_000
        own_kafka.pause()

        async def stopped() -> bool:
            status, reasons = await live(worker)
            return status == 503 and any("records to read" in reason for reason in reasons.values())

        async def going_on() -> bool:
            return (await live(worker))[0] == 200

        await wait_until(stopped, lambda: f"not live\n{worker.tail()}", 60.0)
        own_kafka.resume()
        await wait_until(going_on, lambda: f"live again\n{worker.tail()}", 60.0)
        assert (await run.finish()).transitions == telemetry.transitions()
    finally:
        site.stop()

"""A backlog of many times what is fetched at once drains in bounded memory; a broker that stands still is noticed."""

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


@pytest.fixture
def own_site(own_kafka, tmp_path, unique):
    """A site on a broker that the test may pause."""
    site = Site(own_kafka.bootstrap, tmp_path, unique)
    yield site
    own_kafka.resume()
    site.stop()


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


async def test_a_broker_that_stops_answering_shows_as_not_alive_and_costs_nothing(own_kafka, own_site) -> None:
    telemetry = Telemetry(500, 240)
    await own_site.create()
    await own_site.write(telemetry, 0, 40)
    run = await own_site.run(
        DWCP_MAX_POLL_RECORDS=str(POLL), DWCP_LIVENESS_SECONDS="6", DWCP_KAFKA__SESSION_TIMEOUT="20"
    )
    worker = run.start()
    await run.caught_up()
    assert (await live(worker))[0] == 200
    held = resident(worker)
    await own_site.write(telemetry, 40)
    await wait_until(lambda: processed(worker, 25_000), "some of the backlog processed", every=0.02)
    own_kafka.pause()

    async def stalled() -> bool:
        assert worker.running, worker.tail()
        status, reasons = await live(worker)
        return status == 503 and any("records to read" in reason for reason in reasons.values())

    await wait_until(stalled, lambda: f"a partition that stands still\n{worker.tail()}")
    assert resident(worker) <= 2 * held, "what cannot be sent must not pile up"
    own_kafka.resume()

    async def recovered() -> bool:
        return (await live(worker))[0] == 200

    await wait_until(recovered, lambda: f"alive again\n{worker.tail()}")
    final = await run.finish()
    assert final.transitions == telemetry.transitions()
    assert len(final.windows) == telemetry.entities


async def processed(worker: WorkerProcess, samples: int) -> bool:
    assert worker.running, worker.tail()
    status, _ = await worker.get("/metrics")
    return status == 200 and await worker.metric("dwcp_samples_total") >= samples

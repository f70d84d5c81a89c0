"""Work beside the app: its outcome, its error, and that nobody waits for it at the end."""

import asyncio
import subprocess
import sys
import threading

import pytest

from topologies.background import in_daemon_thread


async def test_what_it_returns_and_what_it_raises() -> None:
    assert await in_daemon_thread(lambda: threading.current_thread().daemon) is True

    def fail() -> None:
        raise RuntimeError("no memory")

    with pytest.raises(RuntimeError, match="no memory"):
        await in_daemon_thread(fail)


async def test_whoever_is_cancelled_waits_no_longer() -> None:
    begun, end = threading.Event(), threading.Event()

    def wait() -> None:
        begun.set()
        end.wait()

    working = asyncio.create_task(in_daemon_thread(wait))
    await asyncio.to_thread(begun.wait, 10.0)
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    end.set()


def test_a_process_ends_without_it() -> None:
    program = """
import asyncio, threading
from topologies.background import in_daemon_thread

async def main():
    working = asyncio.create_task(in_daemon_thread(threading.Event().wait))
    await asyncio.sleep(0)
    working.cancel()

asyncio.run(main())
"""
    assert subprocess.run([sys.executable, "-c", program], timeout=60, check=False).returncode == 0

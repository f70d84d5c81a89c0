"""A task beside the app: begun when the app starts, cancelled when it stops."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine
from typing import TypeVar

T = TypeVar("T")


async def in_daemon_thread(work: Callable[[], T]) -> T:
    """Run what may take minutes in a thread that the process does not wait for when it ends.

    Whoever is cancelled waits no longer; the thread goes on as long as the process.
    """
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if outcome.cancelled():
            return
        if error is None:
            outcome.set_result(result)  # type: ignore[arg-type]  # it is a T where there is no error
        else:
            outcome.set_exception(error)

    def run() -> None:
        try:
            found, error = work(), None
        except BaseException as raised:  # noqa: BLE001  it is raised where the work was asked for
            found, error = None, raised
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(settle, found, error)

    threading.Thread(target=run, name="work", daemon=True).start()
    return await outcome


class Background:
    """Holds one task."""

    def __init__(self) -> None:
        self._task: asyncio.Task[None] | None = None

    def begin(self, run: Coroutine[None, None, None]) -> None:
        """Let it run."""
        self._task = asyncio.get_running_loop().create_task(run)

    async def end(self) -> None:
        """Cancel it, and wait until it has ended; nothing to do if it was never begun."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

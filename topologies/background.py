"""A task beside the app: begun when the app starts, cancelled when it stops."""

import asyncio
import contextlib
from collections.abc import Coroutine


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

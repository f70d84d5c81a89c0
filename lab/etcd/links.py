"""The links between members: the handle to the process of proxies (`switchboard`)."""

import asyncio
import json
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from lab.etcd.errors import LabError
from lab.etcd.proxy import Shape

ANSWER: Final = 10.0  # seconds
ROOT: Final = Path(__file__).parents[2]


class Links:
    """Handle to the process of proxies."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    async def start(self, targets: list[int], seed: int = 0) -> list[int]:
        """Put a proxy before each of these ports; return the ports that the proxies listen on."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "lab.etcd.switchboard"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=ROOT,
            start_new_session=True,
        )
        said = await self._ask({"do": "listen", "targets": targets, "seed": seed})
        return list(said["ports"])

    async def name(self, ids: dict[int, int]) -> None:
        """Say which member has which id, so that a connection's sender can be told."""
        await self._ask({"do": "name", "ids": {str(member): index for member, index in ids.items()}})

    async def impair(self, members: Iterable[int], shape: Shape) -> None:
        """Shape all that goes from and to these members; others are healed."""
        await self._ask({"do": "impair", "members": list(members), "shape": asdict(shape)})

    async def heal(self) -> None:
        """End every impairment; what was held back arrives."""
        await self.impair((), Shape())

    async def reset(self, members: Iterable[int]) -> int:
        """Reset the connections from and to these members; return how many."""
        return int((await self._ask({"do": "reset", "members": list(members)}))["reset"])

    async def stop(self) -> None:
        """End the process."""
        if self._process is None or self._process.stdin is None:
            return
        self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), ANSWER)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    async def _ask(self, command: dict[str, Any]) -> dict[str, Any]:
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise LabError("the links are not started", remedy="Make the cluster with links=True")
        async with self._turn:
            process.stdin.write(json.dumps(command).encode() + b"\n")
            line = await asyncio.wait_for(process.stdout.readline(), ANSWER)
        if not line:
            raise LabError("the process of proxies ended", where="python -m lab.etcd.switchboard")
        answer: dict[str, Any] = json.loads(line)
        return answer

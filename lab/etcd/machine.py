"""How busy the machine is, and with whose work: a row is disturbed if others took much of it.

The machine are the cores that this process may use. Pinned to some of them (`taskset`), with the members it starts, a
recording goes on beside other work on the rest.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

TICKS: Final = os.sysconf("SC_CLK_TCK")
OTHERS: Final = 0.3  # share of all cores that other processes may take
STOLEN: Final = 0.05  # share of all cores that a host may take away
LATE: Final = 0.15  # seconds a sample may be late: the recorder itself did not get its turn


@dataclass(frozen=True)
class Usage:
    """One row's share of the machine.

    Attributes
    ----------
    busy, stolen, waiting
        Shares of all cores that ran something, that a host took away, that idled with a disk at work.
    own_cores
        Cores that members, proxies and recorder used.
    others
        Share of all cores that other processes (and the kernel, for anybody) used.
    loadavg
        Of one minute.
    """

    busy: float
    stolen: float
    waiting: float
    own_cores: float
    others: float
    loadavg: float

    def disturbed(self, dt: float, step: float = 1.0) -> bool:
        """Whether a row of `dt` seconds, wanted every `step`, says something about others rather than the cluster."""
        return self.others > OTHERS or self.stolen > STOLEN or abs(dt - step) > LATE


class Machine:
    """Reads /proc; each call of `read` tells of the time since the last."""

    def __init__(self, proc: Path = Path("/proc"), cores: Iterable[int] | None = None) -> None:
        self._proc = proc
        self._cores = tuple(sorted(os.sched_getaffinity(0) if cores is None else cores))
        self._last: tuple[list[float], dict[int, float]] | None = None

    def read(self, pids: Iterable[int]) -> Usage:
        """Return the usage since the last call; zeros the first time.

        Parameters
        ----------
        pids
            Own processes. One that is new is taken to have begun since the last call; the last of one that ended is
            not counted as own.
        """
        numbers = self._numbers()
        own = {pid: ticks for pid in pids if (ticks := self._ticks(pid)) is not None}
        loadavg = float((self._proc / "loadavg").read_text().split()[0])
        last, self._last = self._last, (numbers, own)
        if last is None:
            return Usage(0.0, 0.0, 0.0, 0.0, 0.0, loadavg)
        user, nice, system, idle, waiting, hard, soft, stolen = (a - b for a, b in zip(numbers, last[0], strict=True))
        busy = user + nice + system + hard + soft
        total = max(busy + idle + waiting + stolen, 1.0)
        mine = sum(ticks - last[1].get(pid, 0.0) for pid, ticks in own.items())
        return Usage(
            busy=round(busy / total, 3),
            stolen=round(stolen / total, 3),
            waiting=round(waiting / total, 3),
            own_cores=round(mine / total * len(self._cores), 3),
            others=round(max(busy - mine, 0.0) / total, 3),
            loadavg=loadavg,
        )

    def _numbers(self) -> list[float]:
        """Return the ticks of our cores: user, nice, system, idle, waiting, two kinds of interrupts, stolen."""
        wanted = {f"cpu{core}" for core in self._cores}
        lines = [line.split() for line in (self._proc / "stat").read_text().splitlines()]
        return [
            sum(map(float, column)) for column in zip(*(line[1:9] for line in lines if line[0] in wanted), strict=True)
        ]

    def _ticks(self, pid: int) -> float | None:
        try:
            # after the name, which may hold blanks: state is the first, user and system time the 12th and 13th
            rest = (self._proc / str(pid) / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return float(rest[11]) + float(rest[12])

"""Telemetry of a recorded etcd cluster under faults, played by many entities that are out of step with each other."""

from __future__ import annotations

import csv
import gzip

import numpy as np
from numpy.typing import NDArray

from benchmarks.support import ROOT
from dwcp_stream.streams import load_stream

FILE = ROOT / "tests" / "data" / "etcd" / "dev_r3.csv.gz"
PLAYED = slice(240, 420)
"""Rows of the file that are played over and over: two faults and the quiet between them. The shipped model makes about
one transition of every twenty samples of it, many more than real clusters give, so that p99.9 is of thousands."""


class Recording:
    """The rows of the recording as JSON, entity and time left open.

    Parameters
    ----------
    entities
        Clusters that play it; each begins at a row of its own.
    """

    def __init__(self, entities: int) -> None:
        fields = [f.name for f in load_stream(ROOT / "config" / "streams" / "consensus.toml").fields]
        with gzip.open(FILE, "rt", encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))[PLAYED]
        self.rows = [",".join(_member(name, row[name]) for name in fields).encode() + b"}" for row in rows]
        self.keys = [f"c{number:06d}".encode() for number in range(entities)]
        self._heads = [b'{"cluster_id":"%s","ts":' % key for key in self.keys]
        rng = np.random.default_rng(7)
        self._begins = rng.integers(0, len(self.rows), entities).tolist()
        self.order: NDArray[np.int64] = rng.permutation(entities)

    def value(self, entity: int, number: int, ts: float) -> bytes:
        """An entity's sample of a number, counted from 0."""
        row = self.rows[(self._begins[entity] + number) % len(self.rows)]
        return b"%s%.3f,%s" % (self._heads[entity], ts, row)


def _member(name: str, text: str) -> str:
    try:
        float(text)
    except ValueError:
        return f'"{name}":"{text}"'
    return f'"{name}":{text}'

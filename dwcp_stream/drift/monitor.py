"""The drift state of one model on one partition: signals, detectors, and what they add up to."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dwcp_stream.drift.adwin import Adwin
from dwcp_stream.drift.blocks import BlockMeans
from dwcp_stream.drift.detector import Detector
from dwcp_stream.drift.page_hinkley import PageHinkley
from dwcp_stream.drift.psi import MODERATE, SIGNIFICANT, WINDOW_BLOCKS, InputShares
from dwcp_stream.errors import MISFITS
from dwcp_stream.events import Drift, DriftState, Signal, rfc3339

STATE_VERSION = 1
SIGNALS = ("score", "error")
HOLD = 12
"""Blocks for which a detector's finding counts; after that the new level is what is usual."""
FARTHEST = 10_000
"""Blocks that a row may lie ahead of the oldest open block; farther off, its time is taken for wrong."""

_RANK: dict[DriftState, int] = {"stable": 0, "warning": 1, "drifted": 2}


class Watched:
    """One signal: its open blocks, its detectors, and for how many blocks what they found still counts."""

    def __init__(self) -> None:
        self.means = BlockMeans()
        self.detectors: dict[str, Detector] = {"adwin": Adwin(), "page_hinkley": PageHinkley()}
        self.detections = dict.fromkeys(self.detectors, 0)
        self._drifted = dict.fromkeys(self.detectors, 0)
        self._warned = dict.fromkeys(self.detectors, 0)

    def finish(self, block: int) -> Signal:
        """Close a block: the detectors see its mean, if it has one."""
        mean, n = self.means.pop(block)
        for name, detector in self.detectors.items():
            self._drifted[name] = max(0, self._drifted[name] - 1)
            self._warned[name] = max(0, self._warned[name] - 1)
            if mean is not None:
                detector.update(mean)
                if detector.drift:
                    self._drifted[name] = HOLD
                    self.detections[name] += 1
                elif detector.warning:
                    self._warned[name] = HOLD
        return Signal(mean=mean, n=n, detectors={name: self.state_of(name) for name in self.detectors})

    def state_of(self, name: str) -> DriftState:
        """Return what a detector's findings come to now."""
        if self._drifted[name]:
            return "drifted"
        return "warning" if self._warned[name] else "stable"

    def state(self) -> dict[str, Any]:
        """Return the signal as plain values."""
        return {
            "means": self.means.state(),
            "detectors": {name: detector.state() for name, detector in self.detectors.items()},
            "detections": dict(self.detections),
            "drifted": dict(self._drifted),
            "warned": dict(self._warned),
        }

    def load(self, plain: Any) -> list[str]:
        """Take over what `state` gave; returns what could not be."""
        self.means.load(plain["means"])
        said = []
        for name, detector in self.detectors.items():
            reason = detector.load(plain["detectors"].get(name))
            if reason is not None:
                said.append(reason)
            self.detections[name] = int(plain["detections"].get(name, 0))
            self._drifted[name] = int(plain["drifted"].get(name, 0))
            self._warned[name] = int(plain["warned"].get(name, 0))
        return said


class DriftMonitor:
    """Watches block means of scores and forecast errors, and the shares of inputs.

    The state is `drifted` while a detector's finding of the last `HOLD` blocks counts or an input's index
    is over 0.25, `warning` with weaker evidence or over 0.1, else `stable`. It changes at the end of blocks
    of event time only.

    Parameters
    ----------
    stream, model
        Names.
    reference
        Training histograms of the manifest, see `InputShares`.
    block_seconds
        Length of a block, longer than the signals' autocorrelation.
    fields
        Names of the columns of the inputs.
    version, partition
        Model version and partition watched.
    lateness
        Seconds of event time to wait after a block's end; rows that come later are counted in `late` only.
    psi_blocks
        Blocks over which shares of inputs are taken; make them span a day where inputs have a daily shape.
    """

    def __init__(
        self,
        stream: str,
        model: str,
        reference: Mapping[str, Mapping[str, Sequence[float]]],
        block_seconds: float,
        fields: Sequence[str],
        *,
        version: int,
        partition: int,
        lateness: float = 0.0,
        psi_blocks: int = WINDOW_BLOCKS,
    ) -> None:
        self.stream, self.model, self.partition = stream, model, partition
        self.block_seconds, self.lateness = block_seconds, lateness
        self._fields, self._psi_blocks = tuple(fields), psi_blocks
        self.reset(version, reference)

    def reset(self, version: int, reference: Mapping[str, Mapping[str, Sequence[float]]]) -> None:
        """Start anew, with another version of the model: what drifted from the old one says nothing of it."""
        self.version, self._reference = version, reference
        self.current: DriftState = "stable"
        self.late = 0
        self.signals = {name: Watched() for name in SIGNALS}
        self.inputs = InputShares(reference, self._fields, self._psi_blocks)
        self.psi: dict[str, float] = {}
        self._next: int | None = None

    def observe(
        self,
        ts: NDArray[np.float64],
        scores: NDArray[np.float32],
        inputs: NDArray[np.float32] | None = None,
        errors: NDArray[np.float32] | None = None,
    ) -> None:
        """Add rows to their blocks.

        Parameters
        ----------
        ts
            Event times, epoch seconds, shape (b,).
        scores, errors
            Score and forecast error of each row, shape (b,); what is not finite is left out.
        inputs
            Newest row of each window in the model's fields, shape (b, F).
        """
        blocks, keep = self._blocks(ts)
        self.signals["score"].means.add(blocks, scores[keep])
        if inputs is not None:
            self.inputs.add(blocks, inputs[keep])
        if errors is not None:
            self.signals["error"].means.add(blocks, errors[keep])

    def observe_errors(self, ts: NDArray[np.float64], errors: NDArray[np.float32]) -> None:
        """Add forecast errors, as `Advanced.errors` gives them, of rows that need not have a verdict."""
        blocks, keep = self._blocks(ts)
        self.signals["error"].means.add(blocks, errors[keep])

    def _blocks(self, ts: NDArray[np.float64]) -> tuple[NDArray[np.int64], Any]:
        blocks = np.floor(ts / self.block_seconds).astype(np.int64)
        if not len(blocks):
            return blocks, slice(None)
        if self._next is None:
            self._next = int(blocks[0])
        low, high = int(blocks.min()), int(blocks.max())
        if low >= self._next and high <= self._next + FARTHEST:
            return blocks, slice(None)
        keep = (blocks >= self._next) & (blocks <= self._next + FARTHEST)
        self.late += int(len(keep) - keep.sum())
        return blocks[keep], keep

    def finish(self, watermark: float) -> list[Drift]:
        """Close the blocks that ended `lateness` before the watermark; returns changes of state in order."""
        if self._next is None or not np.isfinite(watermark):
            return []
        end = int(np.floor((watermark - self.lateness) / self.block_seconds))
        waiting = set().union(*(watched.means.blocks() for watched in self.signals.values()))
        events = []
        for block in sorted(block for block in waiting if block < end):
            event = self._finish_block(block)
            if event is not None:
                events.append(event)
        self._next = max(self._next, end)
        return events

    def _finish_block(self, block: int) -> Drift | None:
        signals = {name: watched.finish(block) for name, watched in self.signals.items()}
        self.psi, n = self.inputs.finish(block)
        found: dict[str, DriftState] = {
            f"{name}: {by}": state for name, signal in signals.items() for by, state in signal.detectors.items()
        }
        found |= {f"psi: {name}": psi_state(index) for name, index in self.psi.items()}
        previous, self.current = self.current, max(found.values(), key=_RANK.__getitem__)
        if previous == self.current:
            return None
        return Drift(
            stream=self.stream,
            model=self.model,
            version=self.version,
            partition=self.partition,
            state=self.current,
            previous=previous,
            reasons=[what for what, state in found.items() if state == self.current != "stable"],
            block_start=rfc3339(block * self.block_seconds),
            block_end=rfc3339((block + 1) * self.block_seconds),
            event_time=rfc3339((block + 1) * self.block_seconds),
            signals={name: signal for name, signal in signals.items() if signal.n},
            psi={name: round(index, 6) for name, index in self.psi.items()},
            psi_n=n,
        )

    def succeeded(self, version: int, watermark: float) -> Drift | None:
        """Return the change to stable that another version of the model brings; None if the state was stable.

        Nothing that drifted from this version says anything of the other, which gets a monitor of its own.
        """
        if self.current == "stable":
            return None
        block = int(np.floor(watermark / self.block_seconds))
        return Drift(
            stream=self.stream,
            model=self.model,
            version=version,
            partition=self.partition,
            state="stable",
            previous=self.current,
            reasons=[f"version {version} took over from version {self.version}"],
            block_start=rfc3339(block * self.block_seconds),
            block_end=rfc3339((block + 1) * self.block_seconds),
            event_time=rfc3339(watermark),
            signals={},
            psi={},
            psi_n=0,
        )

    def states(self) -> dict[str, DriftState]:
        """Return the state by detector: `adwin`, `page_hinkley` (the worse of its signals) and `psi`."""
        named = next(iter(self.signals.values())).detectors
        states: dict[str, DriftState] = {
            name: max((w.state_of(name) for w in self.signals.values()), key=_RANK.__getitem__) for name in named
        }
        indices = [psi_state(index) for index in self.psi.values()]
        return states | {"psi": max(indices, key=_RANK.__getitem__, default="stable")}

    def detections(self) -> dict[str, int]:
        """Return how often each detector has found a change of each signal, as `signal/detector`."""
        return {
            f"{name}/{by}": count for name, watched in self.signals.items() for by, count in watched.detections.items()
        }

    def state(self) -> dict[str, Any]:
        """Return all that matters as plain values."""
        return {
            "v": STATE_VERSION,
            "version": self.version,
            "block_seconds": self.block_seconds,
            "current": self.current,
            "late": self.late,
            "next": self._next,
            "psi": dict(self.psi),
            "inputs": self.inputs.state(),
            "signals": {name: watched.state() for name, watched in self.signals.items()},
        }

    def load(self, plain: Any) -> list[str]:
        """Take over what `state` gave.

        Returns
        -------
        list of str
            What starts anew, and why; empty if everything goes on.
        """
        try:
            for what, theirs, ours in (
                ("state version", plain["v"], STATE_VERSION),
                ("model version", plain["version"], self.version),
                ("block length", plain["block_seconds"], self.block_seconds),
            ):
                if theirs != ours:
                    return [f"drift of {self.model} starts anew: its state has {what} {theirs}, not {ours}"]
            said = [reason for name, watched in self.signals.items() for reason in watched.load(plain["signals"][name])]
            reason = self.inputs.load(plain["inputs"])
            self.current = plain["current"] if plain["current"] in _RANK else "stable"
            self.late = int(plain["late"])
            self._next = None if plain["next"] is None else int(plain["next"])
            self.psi = {} if reason else {str(k): float(v) for k, v in plain["psi"].items()}
        except MISFITS as error:
            self.reset(self.version, self._reference)
            return [f"drift of {self.model} starts anew: its state cannot be read ({error!r})"]
        return [*said, reason] if reason else said


def psi_state(index: float) -> DriftState:
    """Return what a population stability index means."""
    if index > SIGNIFICANT:
        return "drifted"
    return "warning" if index > MODERATE else "stable"

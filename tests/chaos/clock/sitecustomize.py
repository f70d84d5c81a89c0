"""Shift the wall clock of a worker: `time.time` is CHAOS_CLOCK_SHIFT seconds ahead (or behind, if negative).

Python imports this when the folder is on PYTHONPATH. The timestamps of what the worker writes come from that clock.
"""

import os
import time

_shift, _time = float(os.environ.get("CHAOS_CLOCK_SHIFT", "0")), time.time


def _shifted() -> float:
    return _time() + _shift


time.time = _shifted

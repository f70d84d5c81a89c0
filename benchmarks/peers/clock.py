"""What the peers' programs share: their arguments, the samples' fields, and a clock that prints the rate and ends.

Only the standard library: these programs run in an environment of their own, without dwcp-stream.
"""

from __future__ import annotations

import os
import sys
import time

ROWS = 30
EVERY = 1000
FIELDS = (
    "ts", "queue_depth", "proposals_pending", "proposals_committed", "latency_p50", "latency_p95", "latency_p99",
    "leader_changes", "quorum_size", "active_nodes", "network_tier", "dwcp_mode", "consensus_type",
)  # fmt: skip


def arguments() -> tuple[str, str, int, int, str]:
    """BOOTSTRAP TOPIC MESSAGES WARM, and a name of this run alone for groups and state."""
    bootstrap, topic, messages, warm = sys.argv[1:5]
    return bootstrap, topic, int(messages), int(warm), f"peer-{os.getpid()}"


def output_topic(topic: str) -> str:
    """Where a message is published for every 1,000 samples; it exists already."""
    return f"{topic}.output"


class Clock:
    """Counts samples: starts after the first `warm`, and ends the process once `messages` are done."""

    def __init__(self, messages: int, warm: int) -> None:
        self.messages, self.warm, self.seen = messages, warm, 0
        self.begun = self.busy = 0.0

    def count(self) -> bool:
        """Count a sample; True if a message is due."""
        self.seen += 1
        if self.seen == self.warm:
            self.begun, self.busy = time.perf_counter(), time.process_time()
        elif self.seen == self.messages:
            self.end()
        return self.seen % EVERY == 0

    def end(self) -> None:
        """Print the rate and leave at once: how long a program takes to shut down is not measured."""
        counted = self.messages - self.warm
        spent, busy = time.perf_counter() - self.begun, time.process_time() - self.busy
        # Faust replaces sys.stdout by its log.
        sys.__stdout__.write(f"{counted / spent:,.0f} messages/s, {1e6 * busy / counted:.3f} us CPU/message\n")
        sys.__stdout__.flush()
        os._exit(0)

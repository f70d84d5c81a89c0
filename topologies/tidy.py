"""What keeps a worker's memory flat for hours: garbage in cycles, free pages, what is remembered of keys."""

import ctypes
import gc
from collections.abc import Callable
from functools import cache

from dwcp_stream.kafka.producer import key_hash

GC_THRESHOLDS = (100_000, 50, 100)
"""Objects more than before, and rounds, after which the three generations are gone through."""

M_ARENA_MAX = -8
"""glibc's number of the setting."""


def collect_seldom() -> None:
    """Look for cycles of garbage seldom, and not among what is there from the beginning.

    A fetched record is an object that the collector looks at, and some ten thousands are in flight: with Python's own
    thresholds, each chunk would be gone through several times. They are in no cycle and go without the collector.

    What is in a cycle is little, most of it closed connections: of the admin client that asks about topics, and of
    those who read the metrics. It would be hours before there is enough of it for these thresholds, so `tidy` collects.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


def one_heap() -> None:
    """Let all threads take memory from one heap; to be called before there are others.

    glibc gives each thread a heap of its own, and each keeps what it ever needed at once, in pieces between what is in
    use. Arrays, fetched records and snapshots of all sizes come and go in several threads here: what was free in their
    heaps went from 18 to 32 MiB in nine minutes of steady load. In one heap that `tidy` trims it was 11 to 20.
    """
    if setting := _libc("mallopt"):
        setting(M_ARENA_MAX, 1)


def tidy() -> None:
    """Give up what nobody uses; to be called every minute or so, where a pause of some milliseconds does no harm.

    Pages that are free between others in use go back to the system; those that are needed again cost a fault each.
    Keys of entities that have gone would stay among the remembered hashes until 65,536 others have come.
    """
    key_hash.cache_clear()
    gc.collect()
    if trim := _libc("malloc_trim"):
        trim(0)


@cache
def _libc(name: str) -> Callable[..., int] | None:
    """Return a function of glibc's allocator, None where the C library has none."""
    try:
        found: Callable[..., int] = getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError, TypeError):  # another C library, or Windows
        return None
    return found

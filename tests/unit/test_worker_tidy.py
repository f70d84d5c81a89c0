"""What a worker's memory gives up every minute."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dwcp_stream.kafka.producer import key_hash
from topologies import tidy as module
from topologies.tidy import one_heap, tidy

MIB = 1 << 20


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(module._libc("malloc_trim") is None, reason="the C library keeps free pages as it likes")
def test_pages_between_what_is_in_use_are_given_back():
    arrays = [np.ones(64 << 10, np.uint8) for _ in range(1600)]  # too small to be mapped each on its own
    kept = arrays[:: len(arrays) // 20]
    del arrays
    before = resident()
    tidy()
    assert resident() < before - 50 * MIB
    assert all(array.all() for array in kept)


THREADS = """
import sys, threading
from pathlib import Path
from topologies.tidy import one_heap

if "one" in sys.argv:
    one_heap()
barrier = threading.Barrier(5)
def work():
    held = [bytes(50_000) for _ in range(100)]
    barrier.wait()
    barrier.wait()
threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads:
    thread.start()
barrier.wait()
(heap,) = [line.split()[0] for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith("[heap]")]
begin, end = (int(part, 16) for part in heap.split("-"))
print(end - begin)
barrier.wait()
"""


@pytest.mark.skipif(module._libc("mallopt") is None, reason="the C library has heaps as it likes")
def test_threads_take_memory_from_one_heap():
    def heap(*how: str) -> int:
        command = [sys.executable, "-c", THREADS, *how]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    assert heap("one") > heap() + 15 * MIB  # of the 20 MB that the threads hold


def test_a_c_library_of_another_kind_is_no_error(monkeypatch):
    monkeypatch.setattr(module, "_libc", lambda _name: None)
    tidy()
    one_heap()


def test_hashes_of_keys_are_forgotten():
    key_hash(b"c1/0")
    tidy()
    assert key_hash.cache_info().currsize == 0

"""Single key presses of a terminal, without waiting for Enter."""

import asyncio
import os
import sys
import termios
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def pressed(take: Callable[[str], None]) -> Iterator[None]:
    """Call `take` with each key that is pressed while the block runs, inside the running event loop.

    Does nothing where standard input is no terminal. The terminal is left as it was.
    """
    file = sys.stdin.fileno()
    if not os.isatty(file):
        yield
        return
    loop, before = asyncio.get_running_loop(), termios.tcgetattr(file)
    tty.setcbreak(file)
    loop.add_reader(file, lambda: take(os.read(file, 1).decode(errors="replace")))
    try:
        yield
    finally:
        loop.remove_reader(file)
        termios.tcsetattr(file, termios.TCSADRAIN, before)

"""How deep a JSON text is nested, told without parsing it."""

import re

import numpy as np

MAX_DEPTH = 400
"""Levels a record may be nested. A parser stops at Python's recursion limit, less the frames of whoever called it: near
that limit the same record would be taken by one caller and refused by another."""

# a text of fewer bytes than this cannot be nested too deep and be JSON
SHALLOW_BYTES = 2 * MAX_DEPTH
# possessive: what could be taken back would be remembered, a hundred bytes for each of the text
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)


def too_deep(text: bytes) -> bool:
    """Tell whether a JSON text is nested more than `MAX_DEPTH` levels; of what is no JSON either answer may come.

    Examples
    --------
    >>> too_deep(b'{"a": ' + 400 * b"[" + 400 * b"]" + b"}"), too_deep(b'["' + 1000 * b"[" + b'"]')
    (True, False)
    """
    if text.count(b"[") + text.count(b"{") <= MAX_DEPTH:  # the case of all but a few
        return False
    marks = np.frombuffer(_STRING.sub(b"", text), np.uint8) | 0x20  # [ and { differ in this bit alone, as do ] and }
    steps = (marks == ord("{")).astype(np.int8) - (marks == ord("}"))
    return int(np.cumsum(steps, dtype=np.int32).max(initial=0)) > MAX_DEPTH

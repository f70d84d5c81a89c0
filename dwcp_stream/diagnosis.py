"""What `doctor` can find: a finding says what is wrong, where, and what to do about it."""

from dataclasses import dataclass
from typing import Literal

from dwcp_stream.errors import DwcpError


@dataclass(frozen=True)
class Finding:
    """One thing that doctor found.

    Parameters
    ----------
    level
        `problem` is wrong and makes doctor fail; `note` is worth knowing and may be meant.
    check
        The check that found it.
    where
        File, topic, model or broker.
    what
        What is the matter, in a clause.
    remedy
        What to do.
    """

    level: Literal["problem", "note"]
    check: str
    where: str
    what: str
    remedy: str = ""


def problem(check: str, error: DwcpError) -> Finding:
    """Return the finding for an error that a check ran into."""
    return Finding("problem", check, error.where, error.what, error.remedy)

"""What a guess is: what was decided, about what, and why."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Guess:
    """One guess.

    Parameters
    ----------
    about
        A column of the file, or a key of the definition.
    what
        What was decided, such as `counter` or `left out`.
    why
        What in the file speaks for it.
    """

    about: str
    what: str
    why: str

"""Selectors of series in PromQL's notation: `name{label="value",other!~"a|b"}`."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

NAME: Final = "__name__"
_WHOLE: Final = re.compile(r"\s*(?P<name>[A-Za-z_:][A-Za-z0-9_:]*)?\s*(?:\{(?P<labels>.*)\})?\s*", re.DOTALL)
_MATCHER: Final = re.compile(
    r'\s*(?P<label>[A-Za-z_][A-Za-z0-9_]*)\s*(?P<how>=~|!~|!=|=)\s*"(?P<value>(?:[^"\\]|\\.)*)"\s*(?:,|$)'
)


@dataclass(frozen=True)
class Selector:
    """Which series are meant; regular expressions match whole values, and a label that is absent is empty.

    Parameters
    ----------
    text
        As it was written, for `match[]` of a federation.
    matchers
        Label and test of each condition.
    name
        Name that the series must have, None if only conditions tell.
    """

    text: str
    matchers: tuple[tuple[str, Callable[[str], bool]], ...]
    name: str | None

    def matches(self, name: str, labels: Mapping[str, str]) -> bool:
        """Return whether a series is meant."""
        if self.name is not None and name != self.name:
            return False
        return all(test(name if label == NAME else labels.get(label, "")) for label, test in self.matchers)


def parse_selector(text: str) -> Selector:
    """Parse a selector.

    Raises
    ------
    ValueError
        If it is none, or would match every series.

    Examples
    --------
    >>> selector = parse_selector('cpu{mode!~"idle|iowait"}')
    >>> selector.matches("cpu", {"mode": "user"}), selector.matches("cpu", {"mode": "idle"})
    (True, False)
    """
    whole = _WHOLE.fullmatch(text)
    if whole is None or not (whole["name"] or whole["labels"]):
        raise ValueError(f"{text!r} is no selector of series")
    matchers: list[tuple[str, Callable[[str], bool]]] = []
    rest, at = whole["labels"] or "", 0
    while at < len(rest.rstrip()):
        found = _MATCHER.match(rest, at)
        if found is None:
            raise ValueError(f"{text!r} is no selector of series: cannot read {rest[at:]!r}")
        matchers.append((found["label"], _test(found["how"], _unescaped(found["value"]), text)))
        at = found.end()
    return Selector(text, tuple(matchers), whole["name"])


def _test(how: str, value: str, text: str) -> Callable[[str], bool]:
    if how in ("=", "!="):
        return (lambda got: got == value) if how == "=" else (lambda got: got != value)
    try:
        pattern = re.compile(value)
    except re.error as error:
        raise ValueError(f"{text!r} has no regular expression in {value!r}: {error}") from error
    if how == "=~":
        return lambda got: pattern.fullmatch(got) is not None
    return lambda got: pattern.fullmatch(got) is None


def _unescaped(value: str) -> str:
    """Take the escapes of a quoted string out: of quotes and of backslashes."""
    return re.sub(r'\\(["\\])', r"\1", value)

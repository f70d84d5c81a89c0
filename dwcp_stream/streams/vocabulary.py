"""Words of a vocabulary as codes: case is ignored, aliases and numbers are understood."""

from math import isfinite

from dwcp_stream.streams.definition import Field

UNKNOWN = -1.0
MISSING = float("nan")

_MAX_CACHED = 4096
_MAX_WORD = 64


class Codes(dict[str | float | None, float]):
    """Code of each word seen so far; a new word is looked up once and remembered, up to a bound.

    Numbers stand for their text (1 and 1.0 for "1"), as files often hold a coded category as a float.
    `codes[word]` is the position in the vocabulary, `UNKNOWN` (-1), or NaN for None.

    Examples
    --------
    >>> tier = Field(name="tier", vocabulary=("tier1", "tier2"), aliases={"2": "tier2"})
    >>> codes = Codes(tier)
    >>> codes["TIER1"], codes[2.0], codes["tier9"]
    (0.0, 1.0, -1.0)
    """

    def __init__(self, field: Field) -> None:
        super().__init__()
        self._positions = {word.lower(): float(code) for code, word in enumerate(field.vocabulary)}
        for alias, word in field.aliases.items():
            self._positions.setdefault(alias.lower(), self._positions[word.lower()])

    def __missing__(self, word: str | float | None) -> float:
        code = self._lookup(word)
        if len(self) >= _MAX_CACHED:  # a producer of random words must not fill the memory
            self.clear()
        if not isinstance(word, str) or len(word) <= _MAX_WORD:
            self[word] = code
        return code

    def _lookup(self, word: str | float | None) -> float:
        if word is None:
            return MISSING
        text = word.lower() if isinstance(word, str) else ""
        code = self._positions.get(text)
        if code is None:
            code = self._positions.get(_integer_text(word))
        return UNKNOWN if code is None else code


def _integer_text(word: str | float) -> str:
    """Text of a whole number, "1" for 1.0 or "1.0"; empty if it is none."""
    if isinstance(word, str) and len(word) > _MAX_WORD:
        return ""
    try:
        number = float(word)
    except ValueError:
        return ""
    return str(int(number)) if isfinite(number) and abs(number) < 1e15 and number == int(number) else ""

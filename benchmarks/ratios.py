"""Ratios of benchmark results: found in a result, kept in a file, and compared.

Absolute figures belong to one machine and one moment; a ratio compares two programs in the same run, so it can be
compared between runs. In a result it is whatever stands under a key `ratio`: a number, or numbers by name.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

STORED = Path(__file__).with_name("ratios.json")
KEY = "ratio"

Ratios = dict[str, dict[str, float]]
"""Ratios by name, by benchmark."""


def ratios_of(found: Mapping[str, Any]) -> dict[str, float]:
    """Every ratio of one result by its path, such as ``cases[entities=1000].ratio.quix``.

    An element of a list is named by its first entry, so that it is found again when the list grows.
    """
    return dict(_walk(found, "", False))


def _walk(value: Any, path: str, inside: bool) -> Iterator[tuple[str, float]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _walk(inner, f"{path}.{key}" if path else str(key), inside or key == KEY)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _walk(inner, f"{path}[{_name(inner, number)}]", inside)
    elif inside and isinstance(value, int | float) and not isinstance(value, bool):
        yield path, float(value)


def _name(element: Any, number: int) -> str:
    if isinstance(element, Mapping) and element:
        key, first = next(iter(element.items()))
        if isinstance(first, str | int):
            return f"{key}={first}"
    return str(number)


def read(path: Path) -> Ratios:
    """Read ratios from a result that a benchmark printed, or from a file of stored ratios.

    Raises
    ------
    OSError
        The file cannot be read.
    ValueError
        It is neither of the two.
    """
    text = json.loads(path.read_text(encoding="utf-8"))
    if isinstance(text, dict) and isinstance(text.get("benchmark"), str):
        return {text["benchmark"]: ratios_of(text)}
    if isinstance(text, dict) and text and all(isinstance(r, dict) and "ratios" in r for r in text.values()):
        return {name: {path: float(value) for path, value in kept["ratios"].items()} for name, kept in text.items()}
    raise ValueError("is neither a benchmark's JSON nor stored ratios")


def store(found: Mapping[str, Any], path: Path) -> None:
    """Keep the ratios of a result, and the machine, in place of those of the same benchmark before."""
    kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    ratios = {name: round(value, 4) for name, value in ratios_of(found).items()}
    kept[found["benchmark"]] = {"machine": found["machine"], "ratios": ratios}
    path.write_text(json.dumps(kept, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def compare(old: Ratios, new: Ratios) -> list[dict[str, Any]]:
    """Rows of both, in the order of the new: benchmark, ratio, old, new, and the change as a share of the old.

    A benchmark that only one side ran is left out; a ratio that only one side has is shown without a change.
    """
    rows = []
    for benchmark in (name for name in new if name in old):
        was, now = old[benchmark], new[benchmark]
        for name in [*now, *(name for name in was if name not in now)]:
            before, after = was.get(name), now.get(name)
            change = after / before - 1.0 if before and after is not None else None
            rows.append({"benchmark": benchmark, "ratio": name, "old": before, "new": after, "change": change})
    return rows

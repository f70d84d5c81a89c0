"""A record that the fast decoders refused, field by field: what is good in it, what is not, and why."""

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from dwcp_stream.errors import UNREADABLE
from dwcp_stream.streams.decoded import ErrorType, Fault
from dwcp_stream.streams.record_types import RecordTypes, learnable


class Salvaged(NamedTuple):
    """What a second look at a record found.

    `fault` condemns the whole record; else `columns` are its values in column order, scalars for a single
    sample, and for a frame of `rows` rows lists (or scalars that hold for all rows) with None in place of
    bad values, which `bad` explains by row.
    """

    unknown: int
    names: tuple[str, ...] = ()
    fault: Fault | None = None
    columns: tuple[Any, ...] = ()
    rows: int | None = None
    bad: dict[int, Fault] = {}  # noqa: RUF012 - never written to


class Salvager:
    """Field-by-field decoding of records, for the few that need it."""

    def __init__(self, types: RecordTypes, max_rows: int) -> None:
        self._types = types
        self._max_rows = max_rows
        self._envelope = msgspec.json.Decoder(dict[str, msgspec.Raw])
        self._items = msgspec.json.Decoder(list[msgspec.Raw])
        self._scalar: list[Callable[[Any], Any]] = [msgspec.json.Decoder(kind).decode for kind in types.scalars]
        self._column: list[Callable[[Any], Any]] = [
            msgspec.json.Decoder(list[kind] | kind).decode  # type: ignore[valid-type]
            for kind in types.scalars
        ]
        self._known = frozenset(types.names)

    def salvage(self, value: bytes) -> Salvaged:
        """Look at one record."""
        try:
            raw = self._envelope.decode(value)
        except msgspec.ValidationError as error:
            return Salvaged(0, fault=Fault("wrong_type", str(error)))
        except UNREADABLE as error:
            return Salvaged(0, fault=Fault("undecodable", str(error)))
        unknown = tuple(name for name in raw if name not in self._known)
        names = tuple(filter(learnable, unknown))
        time = raw.get(self._types.names[0])
        found = self._frame(raw, time) if time is not None and bytes(time).startswith(b"[") else self._sample(raw)
        return found._replace(unknown=len(unknown), names=names)

    def _sample(self, raw: dict[str, msgspec.Raw]) -> Salvaged:
        columns: list[Any] = []
        for index, name in enumerate(self._types.names):
            given = raw.get(name)
            try:
                columns.append(None if given is None else self._scalar[index](given))
            except UNREADABLE as error:
                return Salvaged(0, fault=self._fault(index, error))
        return Salvaged(0, columns=tuple(columns))

    def _frame(self, raw: dict[str, msgspec.Raw], time: msgspec.Raw) -> Salvaged:
        try:
            rows = len(self._items.decode(time))
        except UNREADABLE as error:
            return Salvaged(0, fault=Fault("undecodable", str(error)))
        if rows > self._max_rows:
            return Salvaged(0, fault=too_many_rows(rows, self._max_rows))
        columns: list[Any] = []
        bad: dict[int, Fault] = {}
        for index, name in enumerate(self._types.names):
            given = raw.get(name)
            column = None if given is None else self._salvage_column(index, given, rows, bad)
            if isinstance(column, list) and len(column) != rows:
                return Salvaged(0, fault=ragged(name, len(column), rows))
            columns.append(column)
        if not rows and bad:  # there is no row to carry the fault, and it must not be lost
            return Salvaged(0, fault=bad[0])
        return Salvaged(0, columns=tuple(columns), rows=rows, bad=bad)

    def _salvage_column(self, index: int, given: msgspec.Raw, rows: int, bad: dict[int, Fault]) -> Any:
        try:
            return self._column[index](given)
        except UNREADABLE as error:
            if not bytes(given).startswith(b"["):
                fault = self._fault(index, error)
                for row in range(max(rows, 1)):
                    bad.setdefault(row, fault)
                return None
        column: list[Any] = []
        for row, item in enumerate(self._items.decode(given)):
            try:
                column.append(self._scalar[index](item))
            except UNREADABLE as error:
                bad.setdefault(row, self._fault(index, error))
                column.append(None)
        return column

    def _fault(self, index: int, error: Exception) -> Fault:
        """Name the error by the column it is in; msgspec tells types and ranges apart by its message."""
        text = str(error).removesuffix(" - at `$`")
        kind: ErrorType = "wrong_type"
        if not isinstance(error, msgspec.ValidationError):
            kind = "undecodable"
        elif index == 0:
            kind = "bad_time"
        elif index < self._types.first_field:
            kind = "bad_entity"
        elif "out of range" in text:
            kind = "out_of_range"
        return Fault(kind, f"{self._types.names[index]}: {text}")


def ragged(name: str, length: int, rows: int) -> Fault:
    """Fault of a frame whose columns differ in length."""
    return Fault("ragged_frame", f"{name} has {length} values where the time column has {rows}")


def too_many_rows(rows: int, limit: int) -> Fault:
    """Fault of a frame that is longer than allowed."""
    return Fault("too_large", f"the frame has {rows} rows, more than {limit}; send several frames")

"""What a part that keeps something per entity offers to the pipeline."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeAlias

from dwcp_stream.windows.layout import I64

Plain: TypeAlias = bool | int | float | str | bytes | Sequence[Any] | Mapping[str, Any] | None
"""What msgpack can hold without help: it goes into a snapshot as it is."""


class TakenPart(Protocol):
    """A copy of some slots of a part, made quickly between two chunks and encoded later."""

    def plain(self, i: int) -> Plain:
        """Return the state of the i-th slot taken, or None when there is nothing worth keeping."""


class SlotPart(Protocol):
    """State per entity slot: alerts, forecasts, model states. One instance serves one partition.

    Slots are those of `Windows`; arrays grow with its capacity and are cleared when it frees a slot.
    """

    def resize(self, capacity: int) -> None:
        """Make room for slots 0 .. capacity - 1; never shrinks, keeps what is held."""

    def clear(self, slots: I64) -> None:
        """Forget what is held for these slots, so that other entities may use them."""

    def take(self, slots: I64) -> TakenPart:
        """Copy the state of these slots: by fancy indexing only, about a microsecond per slot."""

    def load(self, slot: int, plain: Plain) -> None:
        """Put back what `TakenPart.plain` gave (not called for None)."""

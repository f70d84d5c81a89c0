"""Notices that an alias which a stream binds has come to point at another version."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from dwcp_stream.registry.aliases import Alias
from dwcp_stream.registry.repository import ModelRepository
from dwcp_stream.streams import ModelBinding


class Pointed(NamedTuple):
    """What a model's aliases point at, and the percentage of entities for its challenger."""

    versions: dict[Alias, int]
    share: int


@dataclass(slots=True)
class AliasWatch:
    """Compares the table of aliases with what it was at the last look.

    Parameters
    ----------
    repository
        Where `aliases.json` is: a small file, replaced as a whole, so it is read anew each time.
    bindings
        The models and aliases to watch.
    """

    repository: ModelRepository
    bindings: Sequence[ModelBinding]
    _seen: dict[str, int | None] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        """Look once: what the aliases point at now is what the worker begins with."""
        self.moved()

    def moved(self) -> list[tuple[ModelBinding, int]]:
        """Return the bindings whose alias has moved since the last look, and to which version.

        An alias that was taken away is no move: there is nothing to move to.

        Raises
        ------
        ModelError
            If the file cannot be read as a table of aliases.
        """
        found = []
        for binding in self.bindings:
            version = self.version(binding)
            if version is not None and version != self._seen.get(binding.name):
                found.append((binding, version))
            self._seen[binding.name] = version
        return found

    def forget(self, binding: ModelBinding) -> None:
        """Take a binding's alias for moved at the next look."""
        self._seen.pop(binding.name, None)

    def version(self, binding: ModelBinding) -> int | None:
        """Return what a binding's alias points at now."""
        pointed = self.repository.aliases(binding.name)
        return next((number for alias, number in pointed.items() if alias == binding.alias), None)

    def beside(self) -> dict[str, Pointed]:
        """Return what the aliases of models whose champion is bound point at, by name; ModelError as for `moved`."""
        names = [binding.name for binding in self.bindings if binding.alias == "champion"]
        return {name: Pointed(self.repository.aliases(name), self.repository.share(name)) for name in names}

"""Replace attributes of instances, and restore every one of them."""

from __future__ import annotations

from types import TracebackType
from typing import Any

_ABSENT = object()


class Patches:
    """Attributes set on instances for a while; leaving the context restores each ``__dict__`` exactly.

    Only instance dictionaries are written, never classes, so other objects of the same class are not
    affected. Writing the dictionary directly avoids ``nn.Module.__setattr__``, which would register values.
    """

    def __init__(self) -> None:
        self._saved: list[tuple[dict[str, Any], str, Any, Any]] = []

    def set(self, target: object, name: str, value: object) -> None:
        """Set ``target.name`` until the patches are undone.

        Args:
            target: an instance with a ``__dict__``.
            name: the attribute.
            value: its new value.
        """
        attributes = vars(target)
        self._saved.append((attributes, name, attributes.get(name, _ABSENT), value))
        attributes[name] = value

    def undo(self) -> None:
        """Restore everything, last change first. An attribute that somebody replaced since is left alone."""
        while self._saved:
            attributes, name, before, ours = self._saved.pop()
            if attributes.get(name, _ABSENT) is not ours:
                continue
            if before is _ABSENT:
                del attributes[name]
            else:
                attributes[name] = before

    def __enter__(self) -> Patches:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.undo()

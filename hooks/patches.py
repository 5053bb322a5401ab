"""Replace attributes of instances, and restore every one of them exactly, in whatever order.

Only instance dictionaries are written, never classes, so other objects of the same class are not affected.
Writing the dictionary directly avoids ``nn.Module.__setattr__``, which would register values.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

from hooks.instance_class import untouched_class
from hooks.method_layer import Layer

_ABSENT = object()


_below: dict[int, tuple[Layer, Any]] = {}
"""Every layer by its ``id``, and what stood in the instance's dictionary in its place."""

_lock = threading.RLock()


def add_layer(target: object, name: str, layer: Layer) -> None:
    """Put a layer over a method; ``layer.inner`` has to be what is called today.

    Args:
        target: an instance with a ``__dict__``.
        name: the method.
        layer: the layer.
    """
    add_layers(name, [(target, layer)])


def add_layers(name: str, layers: Iterable[tuple[object, Layer]]) -> None:
    """Put a layer over a method of each of several instances.

    Args:
        name: the method.
        layers: the instances, each with its layer.
    """
    with _lock:
        for target, layer in layers:
            attributes = vars(target)
            _below[id(layer)] = layer, attributes.get(name, _ABSENT)
            attributes[name] = layer


def remove_layer(target: object, name: str, layer: Layer) -> None:
    """Take a layer away. One that somebody else has put something over stays, and passes every call on.

    Args:
        target: the instance.
        name: the method.
        layer: the layer.
    """
    remove_layers(name, [(target, layer)])


def remove_layers(name: str, layers: Iterable[tuple[object, Layer]]) -> None:
    """Take the layers of several instances away, also where that was begun before and interrupted.

    Args:
        name: the method.
        layers: the instances, each with its layer.
    """
    with _lock:
        for target, layer in layers:
            found = _below.get(id(layer))
            if found is not None:
                _take_out(vars(target), name, *found)
                # The attribute first: called again after an interruption, this goes on where it was.
                del _below[id(layer)]


def is_in_place(layer: Layer) -> bool:
    """Whether a layer was put over a method and has not been taken away.

    Args:
        layer: the layer.
    """
    return id(layer) in _below


def _take_out(attributes: dict[str, Any], name: str, layer: Layer, below: Any) -> None:
    top = attributes.get(name)
    if top is layer:
        _restore(attributes, name, below)
        return
    while id(top) in _below:  # there are others of ours over it
        above, top = _below[id(top)]
        if top is layer:
            above.inner = layer.inner
            _below[id(above)] = above, below


def _without_layers(value: Any) -> Any:
    while id(value) in _below:
        value = _below[id(value)][1]
    return value


def below_layers(attributes: dict[str, Any], name: str) -> Any:
    """What stands in an instance's dictionary, or stood there before the layers; None without it.

    Args:
        attributes: the dictionary.
        name: the attribute.
    """
    with _lock:
        found = _without_layers(attributes.get(name, _ABSENT))
    return None if found is _ABSENT else found


def without_layers(state: dict[str, Any]) -> dict[str, Any]:
    """The state of an instance as it is without layers.

    Args:
        state: its dictionary, or what was made of it; left as it is.
    """
    clean = dict(state)
    with _lock:
        for name, value in state.items():
            if id(value) in _below:
                _restore(clean, name, _without_layers(value))
    return clean


def reduced_without_layers(reduced: Any, rest: Callable[[dict[str, Any]], None] = lambda _: None) -> Any:
    """What ``__reduce_ex__`` of an instance gives without layers, so that copies and pickles have none.

    Args:
        reduced: what it gave.
        rest: called with the state that the copy gets, to take out of it what is left.
    """
    if not isinstance(reduced, tuple):
        return reduced
    made = (reduced[0], tuple(map(_untouched, reduced[1])))
    if len(reduced) < 3 or not isinstance(reduced[2], dict):
        return (*made, *reduced[2:])
    state = without_layers(reduced[2])
    rest(state)
    return (*made, state, *reduced[3:])


def _untouched(part: Any) -> Any:
    """A part of what a copy is made from; some classes pass on the whole dictionary of the instance."""
    if type(part) is dict and any(id(value) in _below for value in part.values()):
        return without_layers(part)
    return untouched_class(part) if isinstance(part, type) else part


def take_out_copied(original: object, copied: object) -> None:
    """Take out of a copy what it has only because layers stood in the dictionary that was copied.

    Args:
        original: what was copied.
        copied: the copy, with a dictionary of its own.
    """
    attributes = vars(copied)
    with _lock:
        added = [name for name, value in vars(original).items() if _without_layers(value) is _ABSENT]
        for name, value in [*attributes.items()] if copied is not original else ():
            if id(value) in _below:
                _restore(attributes, name, _without_layers(value))
            elif name in added and _is_of_class(value, copied, name):
                del attributes[name]


def _is_of_class(value: Any, instance: object, name: str) -> bool:
    """Whether a value is the method that an instance has from its class anyway."""
    found = getattr(type(instance), name, None)
    return getattr(value, "__self__", None) is instance and getattr(value, "__func__", found) is found


def _restore(attributes: dict[str, Any], name: str, before: Any) -> None:
    if before is _ABSENT:
        del attributes[name]
    else:
        attributes[name] = before


class Patches:
    """Values set on instances for a while; :meth:`undo` restores each ``__dict__`` exactly."""

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
            if attributes.get(name, _ABSENT) is ours:
                _restore(attributes, name, before)

"""Replace attributes of instances, and restore every one of them exactly, in whatever order.

Only instance dictionaries are written, never classes, so other objects of the same class are not affected.
Writing the dictionary directly avoids ``nn.Module.__setattr__``, which would register values.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hooks.instance_class import untouched_class
from hooks.method_layer import Layer

_ABSENT = object()


class Inherited:
    """The method that an instance has from its class; patches of the class hold here too.

    Args:
        target: the instance.
        name: the method.
    """

    def __init__(self, target: object, name: str) -> None:
        self._target = target
        self._name = name
        self.__doc__ = self.method.__doc__
        self.__module__ = getattr(self.method, "__module__", type(target).__module__)

    @property
    def method(self) -> Callable[..., Any]:
        """The method as it is now, bound to the instance."""
        kind = type(self._target)
        found: Any = next(vars(each)[self._name] for each in kind.__mro__ if self._name in vars(each))
        method: Callable[..., Any] = found.__get__(self._target, kind)
        return method

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return self.method.__class__

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the method."""
        return self.method(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.method, name)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return copy.deepcopy(self.method, memo)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.method.__reduce_ex__(protocol)


@dataclass
class _Stack:
    """The layers over one attribute of one instance, lowest first.

    Attributes:
        attributes: the instance's dictionary; it lives as long as there are layers.
        before: what stood in the dictionary before the first layer.
        layers: the layers.
    """

    attributes: dict[str, Any]
    before: Any
    layers: list[Layer] = field(default_factory=list)


_stacks: dict[tuple[int, str], _Stack] = {}
_lock = threading.RLock()


def add_layer(target: object, name: str, layer: Layer) -> None:
    """Put a layer over a method; ``layer.inner`` has to be what is called today.

    Args:
        target: an instance with a ``__dict__``.
        name: the method.
        layer: the layer.
    """
    attributes = vars(target)
    with _lock:
        stack = _stacks.get((id(attributes), name))
        top = attributes.get(name, _ABSENT)
        if stack is None or not stack.layers or stack.layers[-1] is not top:
            # None yet, or somebody else has put something over ours: this layer starts a stack of its own.
            stack = _stacks[id(attributes), name] = _Stack(attributes, top)
        stack.layers.append(layer)
        attributes[name] = layer


def remove_layer(target: object, name: str, layer: Layer) -> None:
    """Take a layer away. One that somebody else has put something over stays, and passes every call on.

    Args:
        target: the instance.
        name: the method.
        layer: the layer.
    """
    attributes = vars(target)
    with _lock:
        stack = _stacks.get((id(attributes), name))
        if stack is None:
            return
        # The attribute first: called again after an interruption, this goes on where it was.
        if layer in stack.layers:
            _take_out(stack, name, stack.layers.index(layer))
        if not stack.layers:
            _stacks.pop((id(attributes), name), None)


def _take_out(stack: _Stack, name: str, place: int) -> None:
    layer = stack.layers[place]
    if place < len(stack.layers) - 1:
        stack.layers[place + 1].inner = layer.inner
    elif stack.attributes.get(name, _ABSENT) is layer:
        _restore(stack.attributes, name, stack.layers[place - 1] if place else stack.before)
    stack.layers.pop(place)


def below_layers(attributes: dict[str, Any], name: str) -> Any:
    """What stands in an instance's dictionary, or stood there before the layers; None without it.

    Args:
        attributes: the dictionary.
        name: the attribute.
    """
    with _lock:
        top = attributes.get(name)
        stack = _stacks.get((id(attributes), name))
        if stack is not None and stack.layers and stack.layers[-1] is top:
            return None if stack.before is _ABSENT else stack.before
        return top


def without_layers(attributes: dict[str, Any], state: dict[str, Any]) -> dict[str, Any]:
    """The state of an instance as it is without layers.

    Args:
        attributes: the instance's dictionary.
        state: the dictionary itself, or what was made of it; left as it is.
    """
    clean = dict(state)
    with _lock:
        for name, value in state.items():
            stack = _stacks.get((id(attributes), name))
            if stack is not None and stack.layers and stack.layers[-1] is value:
                _restore(clean, name, stack.before)
    return clean


def reduced_without_layers(
    attributes: dict[str, Any], reduced: Any, rest: Callable[[dict[str, Any]], None] = lambda _: None
) -> Any:
    """What ``__reduce_ex__`` of an instance gives without layers, so that copies and pickles have none.

    Args:
        attributes: the instance's dictionary.
        reduced: what it gave.
        rest: called with the state that the copy gets, to take out of it what is left.
    """
    if not isinstance(reduced, tuple) or len(reduced) < 3 or not isinstance(reduced[2], dict):
        return reduced
    state = without_layers(attributes, reduced[2])
    rest(state)
    made_of = tuple(untouched_class(each) if isinstance(each, type) else each for each in reduced[1])
    return (reduced[0], made_of, state, *reduced[3:])


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

"""The modules of a model, and the stand-ins for their ``forward`` methods while a run is in progress."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from typing import Any

from torch import nn
from torch.utils.hooks import RemovableHandle

from hooks.modules import tape
from hooks.modules.compiled_code import is_compiled, is_compiled_inside
from hooks.modules.tape import PlainWatched
from hooks.patches import add_layer, remove_layer
from tracer.schema.run import ModuleInfo

_numbers = itertools.count(1)


class ModelModules:
    """The registered modules of a model, shared by all runs of all traces of it.

    Stand-ins are on the modules from the first run in progress to the last; what runs inside a compiled graph
    is left alone, since a stand-in there would break the graph. A module that has forward hooks is noted by a
    hook behind them: what they make of an output is what its caller gets.

    Args:
        model: the model.

    Attributes:
        infos: name and class of each module, the model itself first.
        modules: the modules.
        number: tells it from those of other models, with which it may share modules.
        overwritten: indexes of modules whose outputs turned out to be overwritten in place.
    """

    def __init__(self, model: nn.Module) -> None:
        named = list(model.named_modules())
        self.infos = tuple(ModuleInfo(name=name, class_name=type(module).__name__) for name, module in named)
        self.modules = [module for _, module in named]
        self.overwritten: set[int] = set()
        self.number = next(_numbers)
        self._watched: dict[int, PlainWatched] = {}
        self._hooked: dict[int, _CallHook] = {}
        self._lock = threading.RLock()

    def enter(self) -> None:
        """The first run begins."""
        with self._lock:
            self._install()

    def leave(self) -> None:
        """The last run is over."""
        with self._lock:
            self._uninstall()

    def unseen(self) -> tuple[int, ...]:
        """Indexes of the modules that run inside compiled graphs."""
        return tuple(_compiled(self.modules))

    def _on_hook(self, index: int) -> None:
        """A module that has forward hooks is called: ours runs behind all of them."""
        with self._lock:
            hook = self._hooked.get(index)
            if hook is None or not hook.move_to_end():
                self._hooked[index] = _CallHook(index, self.modules[index], self.number)

    def _install(self) -> None:
        unseen = set(_compiled(self.modules))
        for index, module in enumerate(self.modules):
            if index not in unseen:
                watched = self._watched[index] = tape.parts.watched(
                    module.forward, index, self.number, module._forward_hooks, self._on_hook
                )
                add_layer(module, "forward", watched)

    def _uninstall(self) -> None:
        for hook in self._hooked.values():
            hook.remove()
        self._hooked.clear()
        for index, watched in [*self._watched.items()]:
            remove_layer(self.modules[index], "forward", watched)
            del self._watched[index]


def _compiled(modules: list[nn.Module]) -> Iterator[int]:
    """Indexes of the modules that run inside compiled graphs; modules stand before their children."""
    inside: set[int] = set()
    for index, module in enumerate(modules):
        inner = id(module) in inside
        if inner or is_compiled_inside(module):
            inside.update(id(child) for child in module.children())
        if inner or is_compiled(module):
            yield index


class _CallHook:
    """A forward hook behind all others of a module, which notes the call with what its caller gets.

    Args:
        index: the module's index.
        module: the module.
        owner: number of the model.
    """

    def __init__(self, index: int, module: nn.Module, owner: int) -> None:
        self._index = index
        self._owner = owner
        self._hooks: Any = module._forward_hooks
        self._handle: RemovableHandle = module.register_forward_hook(self._note, with_kwargs=True)

    def move_to_end(self) -> bool:
        """Run behind all hooks that were added since; False if somebody has removed it."""
        if self._handle.id not in self._hooks:
            return False
        if next(reversed(self._hooks)) != self._handle.id:
            self._hooks.move_to_end(self._handle.id)
        return True

    def remove(self) -> None:
        """Remove the hook."""
        self._handle.remove()

    def _note(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        tape.parts.tape.note(self._index, args[0] if args else kwargs, output, self._owner)

"""The modules of a model, and the stand-ins for their ``forward`` methods while a run is in progress."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from operator import is_
from types import MappingProxyType
from typing import Any

from torch import Tensor, nn

from hooks.faults import is_ours
from hooks.inherited import Inherited, method_of
from hooks.method_layer import Layer
from hooks.modules import tape
from hooks.modules.call_frames import hooks_follow
from hooks.modules.call_hook import CallHook, OnChanged
from hooks.modules.compilation import CompilationWatch
from hooks.modules.compiled_code import find_unseen, is_compiled
from hooks.modules.copies import NAMES as COPYING
from hooks.modules.copies import copying_layers, inside_data_parallel
from hooks.modules.direct_call import NAME as DIRECT
from hooks.modules.direct_call import direct_calls
from hooks.modules.tape import PlainWatched
from hooks.patches import add_layers, remove_layers
from hooks.printing import printed
from tracer.schema.run import ModuleInfo, NotSeenReason

_numbers = itertools.count(1)


class ModelModules:
    """The registered modules of a model, shared by all runs of all traces of it.

    Stand-ins are on the modules from the first run in progress to the last; what runs inside a compiled graph
    is left alone, since a stand-in there would break the graph. A module that has forward hooks is noted by a
    hook behind them: what they make of an output is what its caller gets.

    Args:
        model: the model.
        on_changed: called in the context of a call whose output a forward hook has changed.

    Attributes:
        infos: name and class of each module, the model itself first.
        modules: the modules.
        indices: index of each module by its ``id``.
        number: tells it from those of other models, with which it may share modules.
        overwritten: indexes of modules whose outputs turned out to be overwritten in place.
        looked_twice: whether that was searched for in a step.
    """

    def __init__(self, model: nn.Module, on_changed: OnChanged = lambda *_: None) -> None:
        named = list(model.named_modules())
        self.infos = tuple(
            ModuleInfo(name=printed(name), class_name=type(module).__name__) for name, module in named
        )
        self.modules = [module for _, module in named]
        self.indices = {id(module): index for index, module in enumerate(self.modules)}
        self._names = [name for name, _ in named]
        self._children = [dict(module._modules.items()) for module in self.modules]
        self._walked_otherwise = any(_walks_otherwise(kind) for kind in {*map(type, self.modules)})
        self.overwritten: set[int] = set()
        self.looked_twice = False
        self.number = next(_numbers)
        self._on_changed = on_changed
        self._in_runs = False
        self._fresh = False
        self._released = False
        self._unseen: dict[int, NotSeenReason] = {}
        self._compiled_in_runs: dict[int, NotSeenReason] = {}
        self._compilation = CompilationWatch(self.unwatch_compiled)
        self._watched: dict[int, PlainWatched] = {}
        self._copied: dict[str, dict[int, Layer]] = {name: {} for name in COPYING}
        self._replicable = inside_data_parallel(self.modules)
        self._direct: dict[int, Layer] = {}
        self._hooked: dict[int, CallHook] = {}
        self._lock = threading.RLock()

    def are_all_of(self, model: nn.Module) -> bool:
        """Whether these are still the modules of the model.

        Args:
            model: the model that they were found in.
        """
        if self._walked_otherwise:
            found = [*model.modules()]
            return len(found) == len(self.modules) and all(map(is_, found, self.modules))
        return all(map(_has_children, self.modules, self._children))

    def parameters(self) -> dict[str, Tensor]:
        """The parameters by name, each once, as ``named_parameters()`` gives them, without another walk."""
        seen, found = set[int](), dict[str, Tensor]()
        for prefix, module in zip(self._names, self.modules, strict=True):
            for name, parameter in module._parameters.items():
                if parameter is not None and id(parameter) not in seen:
                    seen.add(id(parameter))
                    found[f"{prefix}.{name}" if prefix else name] = parameter
        return found

    def refresh(self) -> None:
        """Look which modules are compiled now; what a run in progress has found stays."""
        with self._lock:
            if not self._in_runs:
                self._unseen = {**find_unseen(self.modules), **self._compiled_in_runs}
                # What comes out of a graph is written to when the next one is replayed.
                self.overwritten |= self._around(self._unseen)
                self._fresh = True

    def enter(self) -> None:
        """The first run begins."""
        with self._lock:
            if not self._fresh:
                self.refresh()
            self._in_runs, self._fresh = True, False
            self._install()
            self._compilation.enter()

    def leave(self) -> None:
        """The last run is over."""
        with self._lock:
            self._in_runs = False
            self._compilation.leave()
            self._unwatch([*self._watched])
            if self._released:  # the block was left while the run went on
                self._let_go()

    def release(self) -> None:
        """Nobody needs these any more: a context that was copied in a run does not keep the modules."""
        with self._lock:
            self._released = True
            if not self._in_runs:
                self._let_go()

    def unseen(self) -> Mapping[int, NotSeenReason]:
        """Why modules are not watched, by index; in a run more may be added, behind the others."""
        return MappingProxyType(self._unseen)

    def _around(self, inside: Collection[int]) -> set[int]:
        """Modules that have some of others in them, at any depth."""
        found = {id(self.modules[index]) for index in inside}
        around = set()
        # Children stand behind their parents.
        for index in reversed(range(len(self.modules) if found else 0)):
            if not found.isdisjoint(map(id, self._children[index].values())):
                around.add(index)
                found.add(id(self.modules[index]))
        return around

    def _let_go(self) -> None:
        self.modules, self._children, self.indices = [], [], {}
        self._on_changed = lambda *_: None

    def _on_hook(self, index: int, output: Any) -> bool:
        """A module that has forward hooks is called: ours runs behind all of them, where torch runs them."""
        with self._lock:
            if index not in self._watched:  # a call that began before the last run was over
                return True
            if not hooks_follow(self.modules[index]):
                return False
            hook = self._hooked.get(index)
            if hook is None or not hook.move_to_end():
                hook = self._hooked[index] = CallHook(index, self.number, self._on_changed)
                hook.add_to(self.modules[index])
        hook.expect(output)
        return True

    def unwatch_compiled(self, module: nn.Module) -> bool:
        """Code that a module calls is about to be compiled: what it may call is watched no more.

        Args:
            module: the module.

        Returns:
            Whether it is one of these.
        """
        if id(module) not in self.indices:
            return False
        inside = {id(each) for each in module.modules() if each is not module or is_compiled(module)}
        with self._lock:
            found = [index for index in self._watched if id(self.modules[index]) in inside]
            self._unwatch(found)
            for index in found:
                self._unseen[index] = self._compiled_in_runs[index] = "compiled"
        return True

    def unwatch_all(self) -> None:
        """The model runs as one compiled graph from now on: nothing is watched before the next run."""
        with self._lock:
            watched = [*self._watched]
            self._unwatch(watched)
            self._unseen.update(dict.fromkeys(watched, "compiled"))

    def _install(self) -> None:
        # One kind after the other: those of one kind are read one after the other, and lie so in memory.
        new, on_hook = tape.parts.watched, self._on_hook
        for index, module in enumerate(self.modules):
            forward = None if index in self._unseen else _forward_of(module)
            if forward is not None:
                self._watched[index] = new(forward, index, self.number, module._forward_hooks, on_hook)
        add_layers("forward", self._on_modules(self._watched))
        self._direct = direct_calls(self._watched, self.modules)
        add_layers(DIRECT, self._on_modules(self._direct))
        for index in self._watched:
            leave_out, replicable = partial(self._leave_out, index), index in self._replicable
            for name, layer in copying_layers(self.modules[index], leave_out, replicable=replicable):
                self._copied[name][index] = layer
        for name, layers in self._copied.items():
            add_layers(name, self._on_modules(layers))

    def _leave_out(self, index: int, state: dict[str, Any]) -> None:
        """Copies and pickles of a module are of the module as it is untraced."""
        hook = self._hooked.get(index)
        if hook is not None:
            hook.leave_out(state)

    def _on_modules(self, layers: Mapping[int, Layer]) -> Iterator[tuple[nn.Module, Layer]]:
        return ((self.modules[index], layer) for index, layer in layers.items())

    def _unwatch(self, indexes: Collection[int]) -> None:
        for index in self._hooked.keys() & indexes:
            self._hooked[index].remove()
        installed: dict[str, dict[int, Any]]
        installed = {DIRECT: self._direct, **self._copied, "forward": self._watched}
        for name, layers in installed.items():
            remove_layers(
                name, ((self.modules[index], layers[index]) for index in indexes if index in layers)
            )
        # Forgotten last: called again after an interruption, this begins anew.
        kept: dict[int, Any]
        for kept in (self._hooked, *installed.values()):
            for index in indexes:
                kept.pop(index, None)


def _forward_of(module: nn.Module) -> Callable[..., Any] | Inherited | None:
    """What is called when a module is called; None where it cannot be looked up, which is no fault before."""
    try:
        return method_of(module, "forward")
    except Exception as error:
        if not is_ours(error):
            raise
        return None  # whatever a property raised; a call of the module raises it again


def _has_children(module: nn.Module, children: Mapping[str, nn.Module | None]) -> bool:
    """Whether a module has just these children, under the same names and in the same order."""
    now = module._modules
    return [*now.keys()] == [*children] and all(map(is_, now.values(), children.values()))


def _walks_otherwise(kind: type[nn.Module]) -> bool:
    """Whether modules of a class have a say in which modules are found in them."""
    return kind.named_modules is not nn.Module.named_modules or kind.modules is not nn.Module.modules

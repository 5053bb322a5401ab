"""What stands on a model while traces of it are open, and how a ``generate()`` finds its traces."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from functools import cache, partial
from typing import Any

import torch
from transformers import GenerationMixin, PreTrainedModel

from hooks.decoding.loops import require_watchable
from hooks.faults import surely
from hooks.inherited import method_of
from hooks.loop import open_traces
from hooks.loop.class_loops import ClassLoops
from hooks.loop.traced_run import TracedRun
from hooks.method_layer import Handler, MethodLayer
from hooks.modules import tape
from hooks.modules.compiled_code import COMPILED, is_compiled, is_compiled_function
from hooks.modules.model_modules import ModelModules
from hooks.patches import add_layer, reduced_without_layers, remove_layer
from tracer.library.decoding_modes import untraced
from tracer.library.loop import Loop
from tracer.library.release import installed_release

Arguments = dict[str, Any]


class Installation:
    """The layers on one model, shared by all traces of it and counted.

    While a trace is open there are layers on methods of the model itself; while a run is in progress, on its
    modules too. What a layer does depends on the context: without an open trace there, nothing.

    Args:
        model: the model that generates.

    Attributes:
        model: the model.
        modules: its modules.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self.modules = self._new_modules()
        self._users: set[object] = set()
        self._runs: list[object] = []
        self._lock = threading.RLock()
        self._class_loops: ClassLoops | None = None
        self._layers: list[tuple[str, MethodLayer]] = []
        self._run_layers: list[tuple[str, MethodLayer]] = []

    def _open(self) -> None:
        """Put the layers on the model."""
        release = installed_release()
        loops: dict[str, Handler] = {loop.method: partial(self._loop, loop) for loop in release.loops}
        for method, mode in release.untraced.items():
            if hasattr(self.model, method):
                loops[method] = _refuser(self, mode)
        handlers: dict[str, Handler] = {"generate": self._generate, "__reduce_ex__": self._reduce}
        if release.on_class:
            self._class_loops = ClassLoops(self.model, loops)
            self._class_loops.show()
        else:
            handlers |= loops
        self._add(handlers, self._layers)

    def _close(self) -> None:
        """Put the model back, also where a run did not come to its end or another thread goes on with one."""
        self._remove(self._run_layers)
        self.modules.leave()
        self._runs.clear()
        self._remove(self._layers)
        if self._class_loops is not None:
            self._class_loops.hide()
        self.modules.release()

    def _add(self, handlers: dict[str, Handler], layers: list[tuple[str, MethodLayer]]) -> None:
        for name, handler in handlers.items():
            layer = MethodLayer(method_of(self.model, name), handler)
            layers.append((name, layer))
            add_layer(self.model, name, layer)

    def _remove(self, layers: list[tuple[str, MethodLayer]]) -> None:
        while layers:
            name, layer = layers[-1]
            remove_layer(self.model, name, layer)
            layers.pop()

    def traces(self) -> tuple[Any, ...]:
        """The traces of this model that are open in this context; none inside of a traced run."""
        if any(run.installation is self for run in runs_in_progress()):
            return ()
        return tuple(trace for trace in open_traces.current() if trace.installation is self)

    def _generate(self, inner: Callable[..., Any], args: tuple[Any, ...], kwargs: Arguments) -> Any:
        traces = self.traces()
        result = self._search_loop(inner, args, kwargs)
        for trace in traces:
            trace.generations += 1
        return result

    def _search_loop(self, inner: Callable[..., Any], args: tuple[Any, ...], kwargs: Arguments) -> Any:
        if self._class_loops is None:
            return inner(*args, **kwargs)
        search = object()
        try:
            self._class_loops.search(search)
            return inner(*args, **kwargs)
        finally:
            surely(partial(self._class_loops.over, search))

    def _loop(self, loop: Loop, inner: Callable[..., Any], args: tuple[Any, ...], kwargs: Arguments) -> Any:
        if self._class_loops is None:
            return self._traced_loop(loop, inner, args, kwargs)
        try:
            self._class_loops.found()
            return self._traced_loop(loop, inner, args, kwargs)
        finally:
            surely(self._class_loops.left)

    def _traced_loop(
        self, loop: Loop, inner: Callable[..., Any], args: tuple[Any, ...], kwargs: Arguments
    ) -> Any:
        traces = self.traces()
        if not traces:
            with _InRun(()):  # a processor that generates on its own inside a traced run
                return inner(*args, **kwargs)
        kwargs = {**dict(zip(_parameters(loop), args, strict=False)), **kwargs}
        loop = loop.with_low_memory(bool(kwargs["generation_config"].low_memory))
        require_watchable(loop, self.model, kwargs)
        input_ids = kwargs.pop("input_ids")
        runs: list[TracedRun] = []
        error: BaseException | None = None
        try:
            self._refresh()
            for trace in traces:
                run = trace.begin_run(loop, input_ids, kwargs)
                if run is not None:
                    runs.append(run)
            return self._run(runs, inner, input_ids, kwargs)
        except BaseException as raised:
            error = raised
            raise
        finally:
            surely(*(partial(run.end, error) for run in reversed(runs)))

    def _run(
        self, runs: Sequence[TracedRun], inner: Callable[..., Any], input_ids: Any, kwargs: Arguments
    ) -> Any:
        if not runs:
            with _InRun(()):
                return inner(input_ids, **kwargs)
        token, in_run = object(), _InRun(runs)
        try:
            self._enter_run(token)
            in_run.enter()
            for run in runs:
                run.enter_probes()
            output = inner(input_ids, **kwargs)
            for run in runs:
                run.output = output
            return output
        finally:
            surely(in_run.leave, *(run.leave_probes for run in runs), partial(self._leave_run, token))

    def _refresh(self) -> None:
        """Modules that were added or replaced since the last run belong to the next one."""
        with self._lock:
            if not self._runs and not self.modules.are_all_of(self.model):
                self.modules.release()
                self.modules = self._new_modules()
            self.modules.refresh()

    def parameters(self) -> dict[str, torch.Tensor]:
        """The parameters of the model by name, each once."""
        with self._lock:
            # While a run is in progress its modules are kept, also where the model has others by now.
            return dict(self.model.named_parameters()) if self._runs else self.modules.parameters()

    def _new_modules(self) -> ModelModules:
        return ModelModules(self.model, self._changed_by_hook)

    def _prepare(self, inner: Callable[..., Any], args: tuple[Any, ...], kwargs: Arguments) -> Any:
        if is_compiled(self.model):
            self._leave_graph(lambda: self.modules.unwatch_compiled(self.model))
            self._see_from_outside()
        runs = runs_in_progress()
        began = [run.capture.clock.now() for run in runs]
        inputs = inner(*args, **kwargs)
        input_ids = args[0] if args else kwargs["input_ids"]
        for run, when in zip(runs, began, strict=True):
            run.capture.on_prepared(input_ids, kwargs.get("attention_mask"), inputs, when)
        return inputs

    def _leave_graph(self, unwatch: Callable[[], object]) -> None:
        """The model was compiled while a run is in progress: nothing of ours may be inside its graph."""
        with self._lock:
            layers = [each for each in self._run_layers if each[0] == "forward"]
            if layers:
                self._run_layers = [each for each in self._run_layers if each[0] != "forward"]
                self._remove(layers)
                unwatch()

    def _see_from_outside(self) -> None:
        """What was compiled while a run is in progress is called in place of ``forward``."""
        with self._lock:
            if self._run_layers and all(name != COMPILED for name, _ in self._run_layers):
                self._add({COMPILED: _forward}, self._run_layers)

    def _get_compiled_call(self, inner: Callable[..., Any], args: tuple[Any, ...], kwargs: Arguments) -> Any:
        """The library compiles the model's call by itself, for the decode steps of a cache of fixed size."""
        call = inner(*args, **kwargs)
        return partial(self._call_compiled, call) if is_compiled_function(call) else call

    def _call_compiled(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Nothing of ours may be inside the graph: the forward pass is seen from outside."""
        self._leave_graph(self.modules.unwatch_all)
        for run in runs_in_progress():
            run.leave_probes()
        return _forward(call, args, kwargs)

    def _changed_by_hook(self, index: int, before: torch.Tensor | None) -> None:
        for run in runs_in_progress():
            if run.installation is self:
                run.capture.on_changed_by_hook(index, before)

    def _enter_run(self, token: object) -> None:
        with self._lock:
            self._runs.append(token)
            if len(self._runs) == 1:
                self.modules.enter()
                handlers: dict[str, Handler] = {
                    "forward": _forward,
                    "prepare_inputs_for_generation": self._prepare,
                    "_update_model_kwargs_for_generation": _update,
                    "_get_candidate_generator": _generator,
                    **{name: partial(_helper, name) for name in _helpers()},
                }
                if is_compiled(self.model):  # it runs inside the graph, and is seen from outside
                    handlers[COMPILED] = handlers.pop("forward")
                if hasattr(self.model, "get_compiled_call"):
                    handlers["get_compiled_call"] = self._get_compiled_call
                self._add(handlers, self._run_layers)
            elif self._replaced("prepare_inputs_for_generation"):
                self._add({"prepare_inputs_for_generation": self._prepare}, self._run_layers)

    def _leave_run(self, token: object) -> None:
        with self._lock:
            if token in self._runs and len(self._runs) > 1:
                self._runs.remove(token)
            elif self._runs in ([token], []):
                self._remove(self._run_layers)
                self.modules.leave()
                self._runs.clear()

    def _replaced(self, name: str) -> bool:
        """Whether somebody else's method stands where a layer of ours stood."""
        top = vars(self.model).get(name)
        return all(layer is not top for _, layer in self._run_layers)

    def _reduce(self, inner: Callable[..., Any], args: tuple[Any, ...], kwargs: Arguments) -> Any:
        """Copies and pickles are of the model as it is untraced."""
        return reduced_without_layers(inner(*args, **kwargs))


_installations: dict[int, Installation] = {}
_lock = threading.RLock()


def acquire(model: PreTrainedModel, user: object) -> Installation:
    """The layers of a model, put on it if this is the first trace of it.

    Args:
        model: the model that generates.
        user: the trace; :func:`release` takes it, also where this was interrupted.
    """
    with _lock:
        installation = _installations.get(id(model))
        if installation is None:
            installation = _installations[id(model)] = Installation(model)
        first = not installation._users
        installation._users.add(user)
        if first:
            installation._open()
        return installation


def release(model: PreTrainedModel, user: object) -> None:
    """A trace is closed; the layers go with the last one. Safe to call twice.

    Args:
        model: the model.
        user: what :func:`acquire` was called with.
    """
    with _lock:
        installation = _installations.get(id(model))
        if installation is None:
            return
        installation._users.discard(user)
        if not installation._users:
            # Forgotten last: called again after an interruption, this goes on where it was.
            installation._close()
            del _installations[id(model)]


class _InProgress:
    """Runs as contexts have them: when they are over, they are so in all of them, and none keeps them.

    Args:
        runs: the runs.

    Attributes:
        runs: those in progress.
    """

    def __init__(self, runs: tuple[TracedRun, ...]) -> None:
        self.runs = runs


_runs: ContextVar[_InProgress | None] = ContextVar("runs_in_progress", default=None)


class _InRun:
    """The runs that forward passes of this context belong to.

    A class, since a generator's context assigns the traceback of an exception that passes, which some refuse.

    Args:
        runs: the runs; none in what a traced run calls on its own.
    """

    def __init__(self, runs: Sequence[TracedRun]) -> None:
        self._new = _InProgress(tuple(runs))
        self._before, self._tapes_before = _runs.get(), tape.parts.active.get()

    def __enter__(self) -> None:
        self.enter()

    def __exit__(self, *_: object) -> None:
        self.leave()

    def enter(self) -> None:
        """From now on the runs are in progress in this context."""
        _runs.set(self._new)
        tape.parts.active.set(tuple(run.tape for run in self._new.runs) or None)

    def leave(self) -> None:
        """They are over; safe to call twice, and where :meth:`enter` was not."""
        self._new.runs = ()
        _runs.set(self._before)
        tape.parts.active.set(self._tapes_before)


def runs_in_progress() -> tuple[TracedRun, ...]:
    """The runs in progress in this context, one for each open trace of the model."""
    found = _runs.get()
    return () if found is None else tuple(run for run in found.runs if not run.ended)


@cache
def _parameters(loop: Loop) -> tuple[str, ...]:
    """The parameters of a loop behind ``self``."""
    return tuple(inspect.signature(getattr(GenerationMixin, loop.method)).parameters)[1:]


@cache
def _helpers() -> Mapping[str, tuple[str, ...]]:
    """Methods in which loops of the installed release decide, each with its parameters."""
    names = {name for loop in installed_release().loops for name in loop.helpers}
    methods = {name: inspect.signature(getattr(GenerationMixin, name)).parameters for name in names}
    return {name: tuple(each for each in found if each != "self") for name, found in methods.items()}


def _refuser(installation: Installation, mode: str) -> Handler:
    def refuse(inner: Callable[..., Any], args: tuple[Any, ...], kwargs: Arguments) -> Any:
        if installation.traces():
            raise untraced(mode)
        with _InRun(()):
            return inner(*args, **kwargs)

    return refuse


def _forward(inner: Callable[..., Any], args: tuple[Any, ...], kwargs: Arguments) -> Any:
    runs = runs_in_progress()
    own = [run for run in runs if run.capture.on_forward_begin(kwargs)]
    outputs = inner(*args, **kwargs) if len(own) == len(runs) else _noted_by(own, inner, args, kwargs)
    for run in own:
        run.capture.on_forward_end(outputs)
    return outputs


def _noted_by(
    runs: Sequence[TracedRun], inner: Callable[..., Any], args: tuple[Any, ...], kwargs: Arguments
) -> Any:
    """A forward pass whose module calls are those of some runs alone."""
    before = tape.parts.active.get()
    try:
        tape.parts.active.set(tuple(run.tape for run in runs) or None)
        return inner(*args, **kwargs)
    finally:
        tape.parts.active.set(before)


def _helper(name: str, inner: Callable[..., Any], args: tuple[Any, ...], kwargs: Arguments) -> Any:
    """A method in which a loop decides."""
    result = inner(*args, **kwargs)
    arguments = {**dict(zip(_helpers()[name], args, strict=False)), **kwargs}
    captures = [run.capture for run in runs_in_progress()]
    ends = [each for each in captures if each.on_helper(name, arguments, result)]
    if not ends:
        return result
    return ends[0].end_early([each.loop for each in captures if each is not ends[0]], result)


def _generator(inner: Callable[..., Any], args: tuple[Any, ...], kwargs: Arguments) -> Any:
    """What proposes tokens; newer loops make it themselves."""
    runs = runs_in_progress()
    if runs:
        kwargs = runs[0].capture.loop.proposer_arguments(kwargs)
    made = inner(*args, **kwargs)
    for run in runs:
        made = run.capture.loop.proposer(made)
    return made


def _update(inner: Callable[..., Any], args: tuple[Any, ...], kwargs: Arguments) -> Any:
    updated = inner(*args, **kwargs)
    for run in runs_in_progress():
        run.capture.on_updated(updated)
    return updated

"""Modules whose ``forward`` is called directly: who asks for torch's own method, or its frame, gets it."""

from __future__ import annotations

import copy
import gc
import io
import operator
import pickle
import re
import sys
import traceback
import warnings
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from types import CodeType, FrameType, MethodType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from hooks.modules import direct_call, tape
from hooks.modules.call_notes import NOTES
from hooks.modules.model_modules import ModelModules

pytestmark = pytest.mark.skipif(
    tape.parts.direct is None, reason="built without a C compiler, or for an older torch"
)

METHOD: CodeType = nn.Module._call_impl.__code__


class Inner(nn.Module):
    """Says who calls it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))
        self.fails = False
        self.before: Callable[[Inner], None] | None = None
        self.callers: list[list[Any]] = []

    def forward(self, x: Tensor) -> Tensor:
        """Double, if it does not fail."""
        if self.before is not None:
            self.before(self)
        if self.fails:
            raise ValueError("it fails")
        self.callers.append([*map(seen_of, frames(sys._getframe()))])
        return 2 * x * self.weight


class Outer(nn.Module):
    """Calls another module."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Inner()

    def forward(self, x: Tensor) -> Tensor:
        """Add one to what the other module gives."""
        y: Tensor = self.inner(x) + 1
        return y


def frames(frame: FrameType | None) -> Iterator[FrameType]:
    """A frame and those below it, as long as they are of torch and of these modules."""
    while frame is not None and frame.f_code.co_name in ("forward", "_call_impl", "_wrapped_call_impl"):
        yield frame
        frame = frame.f_back


def seen_of(frame: FrameType) -> list[Any]:
    """What can be seen of a frame, but which object its code is."""
    code, module = frame.f_code, frame.f_globals["__name__"]
    qualified = getattr(code, "co_qualname", None)
    variables = sorted(frame.f_locals) if code.co_name == "_call_impl" else []
    return [code.co_filename, code.co_name, qualified, code.co_firstlineno, frame.f_lineno, module, variables]


def is_direct(model: Outer) -> bool:
    """Whether torch's own method is left out when a model calls its module."""
    codes: list[CodeType] = []
    model.inner.before = lambda _: codes.extend(frame.f_code for frame in walk(sys._getframe()))
    call(model)
    model.inner.before = None
    return METHOD not in codes


def walk(frame: FrameType | None) -> Iterator[FrameType]:
    """A frame and all below it."""
    while frame is not None:
        yield frame
        frame = frame.f_back


@contextmanager
def in_run(model: nn.Module) -> Iterator[ModelModules]:
    modules = ModelModules(model)
    modules.enter()
    try:
        yield modules
    finally:
        modules.leave()


def call(model: nn.Module) -> Tensor:
    """Call the model."""
    result: Tensor = model(torch.tensor([3.0, 4.0], requires_grad=True))
    return result


def test_forward_is_called_directly() -> None:
    model = Outer()
    untouched = [dict(vars(each)) for each in model.modules()]
    assert not is_direct(model)
    with in_run(model):
        assert is_direct(model)
        assert call(model).tolist() == [7, 9]
    model.inner.before = None
    assert [dict(vars(each)) for each in model.modules()] == untouched


def test_who_walks_the_stack_finds_the_same_frames() -> None:
    model = Outer()
    call(model)
    with in_run(model):
        call(model)
    untraced, traced = model.inner.callers
    assert traced == untraced
    assert [each[1] for each in traced] == ["forward", "_call_impl", "_wrapped_call_impl"] * 2


def test_warnings_that_count_frames_name_the_same_line() -> None:
    def warn(_: Inner) -> None:
        for level in range(2, 9):
            warnings.warn("it", stacklevel=level)

    def warned(within: Within) -> list[tuple[str, int]]:
        model = Outer()
        model.inner.before = warn
        with within(model), warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            call(model)
        return [(each.filename, each.lineno) for each in found][:5]

    assert warned(in_run) == warned(nullcontext)


Seen = list[Any]
Within = Callable[[nn.Module], AbstractContextManager[Any]]


def forward_hook(model: Outer, seen: Seen) -> None:
    model.inner.register_forward_hook(lambda *_: seen.append("hook"))


def forward_pre_hook(model: Outer, seen: Seen) -> None:
    model.inner.register_forward_pre_hook(lambda *_: seen.append("hook"))


def always_called(model: Outer, seen: Seen) -> None:
    model.inner.register_forward_hook(lambda *_: seen.append("hook"), always_call=True)
    model.inner.fails = True


def backward_hook(model: Outer, seen: Seen) -> None:
    model.inner.register_full_backward_hook(lambda *_: seen.append("hook"))


def backward_pre_hook(model: Outer, seen: Seen) -> None:
    model.inner.register_full_backward_pre_hook(lambda *_: seen.append("hook"))


def hooks_exchanged(model: Outer, seen: Seen) -> None:
    model.inner._forward_hooks = OrderedDict({1: lambda *_: seen.append("hook")})


def hooks_of_another_kind(model: Outer, seen: Seen) -> None:
    class Hooks(dict[int, Any]):
        def __bool__(self) -> bool:
            seen.append("asked")
            return False

    model.inner._forward_hooks = Hooks()


def hooks_taken_away(model: Outer, _seen: Seen) -> None:
    del model.inner._forward_hooks


def noting(function: Callable[..., Any], seen: Seen) -> Callable[..., Any]:
    """A function that notes its calls."""

    def noted(*args: Any, **kwargs: Any) -> Any:
        seen.append("mine")
        return function(*args, **kwargs)

    return noted


def forward_exchanged(model: Outer, seen: Seen) -> None:
    vars(model.inner)["forward"] = noting(model.inner.forward, seen)


def method_of_its_class(model: Outer, seen: Seen) -> None:
    class Other(Inner):
        def _call_impl(self, *args: Any, **kwargs: Any) -> Any:
            seen.append("other")
            return super()._call_impl(*args, **kwargs)  # type: ignore[no-untyped-call]

    model.inner.__class__ = Other


def method_of_its_own(model: Outer, seen: Seen) -> None:
    vars(model.inner)["_call_impl"] = noting(model.inner._call_impl, seen)


def hook_while_it_runs(model: Outer, seen: Seen) -> None:
    def add(inner: Inner) -> None:
        inner.before = None
        inner.register_forward_hook(lambda *_: seen.append("hook"))

    model.inner.before = add


def fault(model: Outer, _seen: Seen) -> None:
    model.inner.fails = True


def forward_without_a_frame(model: Outer, _seen: Seen) -> None:
    vars(model.inner)["forward"] = operator.index


def wrong_arguments(model: Outer, _seen: Seen) -> None:
    forward: Any = Inner.forward
    vars(model.inner)["forward"] = partial(forward, model.inner, 1, 2)


CHANGES = [
    forward_hook,
    forward_pre_hook,
    always_called,
    backward_hook,
    backward_pre_hook,
    hooks_exchanged,
    hooks_of_another_kind,
    hooks_taken_away,
    forward_exchanged,
    method_of_its_class,
    method_of_its_own,
    hook_while_it_runs,
    fault,
    forward_without_a_frame,
    wrong_arguments,
]


def observe(model: Outer, seen: Seen) -> None:
    """Note what can be seen of a call."""
    try:
        result = call(model)
        torch.autograd.backward(result.sum())
        seen.append(result.tolist())
    except (ValueError, AttributeError, TypeError) as error:
        seen.append(traceback.format_exception(error))
        seen.append([*map(seen_of, (each for each, _ in traceback.walk_tb(error.__traceback__)))])


def outcome(change: Callable[[Outer, Seen], None], within: Within) -> Seen:
    """What can be seen of calls before and after a change."""
    model, seen = Outer(), Seen()
    with within(model):
        observe(model, seen)
        change(model, seen)
        observe(model, seen)
        observe(model, seen)
    return seen


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_changed_in_a_run_counts(change: Callable[[Outer, Seen], None]) -> None:
    untraced = outcome(change, nullcontext)
    assert outcome(change, in_run) == untraced
    assert untraced


@pytest.mark.parametrize("register", [register_module_forward_hook, register_module_forward_pre_hook])
def test_hooks_of_all_modules_run(register: Callable[[Any], Any]) -> None:
    model, seen = Outer(), Seen()
    with in_run(model):
        call(model)
        handle = register(lambda module, *_: seen.append(type(module)))
        try:
            call(model)
        finally:
            handle.remove()
        call(model)
    assert sorted(each.__name__ for each in seen) == ["Inner", "Outer"]


@pytest.mark.parametrize("wrap", [lambda function: function, staticmethod, classmethod, partial])
def test_what_the_class_gets_in_a_run_is_called(wrap: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def given(within: Within) -> Seen:
        model, seen = Outer(), Seen()

        def patched(*args: Any) -> str:
            seen.append([*map(type, args)])
            return "mine"

        with within(model):
            call(model)
            with monkeypatch.context() as patch:
                patch.setattr(Inner, "_call_impl", wrap(patched))
                seen.append(model.inner(torch.ones(2)))
            seen.append(call(model).tolist())
        return seen

    untraced = given(nullcontext)
    assert given(in_run) == untraced
    assert len(untraced) == 3


def test_exchanged_hooks_of_all_modules_run(monkeypatch: pytest.MonkeyPatch) -> None:
    model, seen = Outer(), Seen()
    hooks = OrderedDict({1: lambda module, *_: seen.append(type(module))})
    with in_run(model):
        call(model)
        with monkeypatch.context() as patch:
            patch.setattr(torch_module, "_global_forward_hooks", hooks)
            call(model)
        assert is_direct(model)
    assert seen == [Inner, Outer]


def test_a_class_that_changes_in_each_call_is_looked_at_again() -> None:
    class Counting(Inner):
        calls = 0

        def forward(self, x: Tensor) -> Tensor:
            type(self).calls += 1
            return super().forward(x)

    model = Outer()
    model.inner = Counting()
    with in_run(model):
        for _ in range(3):
            assert call(model).tolist() == [7, 9]
        assert is_direct(model)
    assert Counting.calls == 4


def test_a_call_within_a_call_that_took_no_hooks_is_noted() -> None:
    class Again(nn.Module):
        def __init__(self, first: Inner) -> None:
            super().__init__()
            self.first = [first]  # it has a parent already

        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = self.first[0].forward(x)
            return result

    model = Outer()
    again = Again(model.inner)
    model.register_module("again", again)
    model.inner.register_forward_hook(lambda *_: None)
    nested = [True]

    def call_again(_: Inner) -> None:
        if nested and nested.pop():
            again(torch.ones(2))

    model.inner.before = call_again
    notes = notes_of(model)
    assert notes.count(1) == 2


def notes_of(model: nn.Module) -> list[int]:
    """The indexes of the modules whose calls a tape notes, in order."""

    class Like:
        wants_statistics = False

    modules = ModelModules(model)
    flags = bytes(len(modules.modules))
    noting = tape.parts.tape(lambda *_: Like, lambda *_: None, flags, flags, modules.number)
    token = tape.parts.active.set((noting,))
    modules.enter()
    try:
        noting.begin()
        call(model)
        _, notes = noting.take()
    finally:
        modules.leave()
        tape.parts.active.reset(token)
    found: list[int] = np.frombuffer(notes, dtype=NOTES)["module"].tolist()
    return found


@pytest.mark.parametrize("install", [sys.settrace, sys.setprofile])
def test_who_looks_at_frames_sees_all(install: Callable[[Any], None]) -> None:
    model, seen = Outer(), Seen()

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code is METHOD:
            seen.append(type(frame.f_locals["self"]))

    before = sys.gettrace() if install is sys.settrace else sys.getprofile()
    with in_run(model):
        call(model)
        install(note)
        try:
            call(model)
        finally:
            install(before)
        call(model)
    assert seen == [Outer, Inner]


def test_a_monitor_sees_torch_s_own_method(monkeypatch: pytest.MonkeyPatch) -> None:
    monitoring = SimpleNamespace(get_tool=lambda number: "debugger" if number == 5 else None)
    monkeypatch.setattr(sys, "monitoring", monitoring, raising=False)
    model = Outer()
    with in_run(model):
        assert not is_direct(model)


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace.* is deprecated:DeprecationWarning")
def test_a_traced_graph_is_that_of_an_untraced_model() -> None:
    def graph(within: Within) -> str:
        model = Outer()
        with within(model):
            call(model)
            traced: Any = torch.jit.trace(model, torch.ones(2))  # type: ignore[no-untyped-call]
            return re.sub(r"___torch_mangle_\d+\.", "", str(traced.inlined_graph))

    untraced = graph(nullcontext)
    # The names of scopes are given by `_slow_forward`, which only torch's own method calls.
    assert "scope: __module.inner" in untraced
    assert graph(in_run) == untraced


def test_the_stand_in_is_like_the_method() -> None:
    model = Outer()
    with in_run(model):
        method: Any = model.inner._call_impl
        assert (method.__name__, method.__self__) == ("_call_impl", model.inner)
        assert method.__func__ is nn.Module._call_impl
    assert isinstance(model.inner._call_impl, MethodType)
    assert method(torch.ones(2)).tolist() == [2, 2]  # whoever has kept it can call it


def test_copies_have_torch_s_own_method() -> None:
    model = Outer()
    with in_run(model):
        call(model)
        copies = [copy.copy(model.inner), copy.deepcopy(model.inner), pickle.loads(pickle.dumps(model.inner))]
        torch.save(model, saved := io.BytesIO())
    for each in (*copies, torch.load(io.BytesIO(saved.getvalue()), weights_only=False).inner):
        assert not {"forward", "_call_impl", "__reduce_ex__"} & set(vars(each))
        assert call(each).tolist() == [6, 8]


def test_a_module_with_a_method_of_its_own_keeps_it() -> None:
    class Own(Inner):
        def _call_impl(self, *args: Any, **kwargs: Any) -> Any:
            return 10 * super()._call_impl(*args, **kwargs)  # type: ignore[no-untyped-call]

    class Asked(Inner):
        def __getattribute__(self, name: str) -> Any:
            if name == "forward":
                return lambda x: x
            return super().__getattribute__(name)

    class Computed(Inner):
        forward = property(lambda _: lambda x: -x)

    for kind, expected in ((Own, [60, 80]), (Asked, [3, 4]), (Computed, [-3, -4])):
        model = kind()
        untraced = call(model).tolist()
        with in_run(model):
            assert call(model).tolist() == untraced == expected


def test_modules_of_two_models() -> None:
    inner = Inner()
    models = nn.Sequential(inner), nn.Sequential(inner)
    with in_run(models[0]):
        with in_run(models[1]):
            assert call(inner).tolist() == [6, 8]
        assert call(inner).tolist() == [6, 8]
    assert "_call_impl" not in vars(inner)
    first, second = map(ModelModules, models)
    for each in (first.enter, second.enter, first.leave):
        each()
        assert call(inner).tolist() == [6, 8]
    second.leave()
    assert "_call_impl" not in vars(inner)


def test_nothing_is_kept_alive() -> None:
    model = Outer()
    with in_run(model) as modules:
        call(model)
        modules.release()
    gone = weakref.ref(model.inner)
    del model, modules
    gc.collect()
    assert gone() is None


def test_a_method_of_another_torch_is_not_known() -> None:
    def _call_impl(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        forward_call = self.forward
        return forward_call(*args, **kwargs)

    assert direct_call._twin_of(_call_impl) is None
    assert direct_call._twin_of(torch.nn.functional.linear) is None
    assert direct_call._twin_of(nn.Module._call_impl) is not None

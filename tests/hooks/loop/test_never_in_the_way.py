"""Copies, forks, compiled code, wrappers, hooks of others and their exceptions: as without a trace."""

from __future__ import annotations

import copy
import functools
import inspect
import io
import os
import pickle
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch
from torch import nn
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
)

from hooks.faults import is_ours, surely
from hooks.loop import installation
from hooks.loop.stand_ins import stand_in
from hooks.modules import model_modules
from hooks.patches import remove_layer, remove_layers
from hooks.probes.attention import AttentionProbe
from hooks.probes.lens import LensProbe
from tests.support.breadth import slow
from tests.support.held import held
from tests.support.models import GREEDY, SAMPLING, batch, collected, generate, tiny_model
from tests.support.outputs import hidden_of, with_hidden
from tracer import open_trace, trace
from tracer.errors import UnsupportedError

NEW: dict[str, Any] = {"max_new_tokens": 5, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}


def test_a_deep_copy_is_a_model_of_its_own(tmp_path: Path) -> None:
    model, inputs = tiny_model(), batch()
    untraced = set(vars(copy.deepcopy(model)))
    with trace(model, path=tmp_path / "run.trace"):
        model.generate(**inputs, **NEW)
        twin = copy.deepcopy(model)
    assert set(vars(twin)) == untraced
    assert all("forward" not in vars(module) for module in twin.modules())
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    assert not twin(**inputs).logits.any()
    assert len(twin.generate(**inputs, **NEW)[0]) == len(model.generate(**inputs, **NEW)[0])


def test_a_copy_made_while_a_run_is_in_progress_is_one_too(tmp_path: Path) -> None:
    model, inputs, copies = tiny_model(), batch(), list[Any]()

    class Copying(LogitsProcessor):  # type: ignore[misc]
        def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            copies.append(copy.deepcopy(model))
            return scores

    with trace(model, path=tmp_path / "run.trace"):
        model.generate(
            **inputs, **{**NEW, "max_new_tokens": 1}, logits_processor=LogitsProcessorList([Copying()])
        )
    with torch.no_grad():
        for parameter in copies[0].parameters():
            parameter.zero_()
    assert not copies[0](**inputs).logits.any()


def steered(_module: nn.Module, _args: Any, output: Any) -> Any:
    return with_hidden(output, hidden_of(output) * 2)


def _deep(module: nn.Module) -> nn.Module:
    return copy.deepcopy(module)


def _shallow(module: nn.Module) -> nn.Module:
    return copy.copy(module)


def _pickled(module: nn.Module) -> nn.Module:
    found: nn.Module = pickle.loads(pickle.dumps(module))
    return found


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize("hooked", [False, True])
@pytest.mark.parametrize("how", [_deep, _shallow, _pickled])
def test_a_copy_of_any_part_in_mid_run_is_untraced(how: Any, hooked: bool, tmp_path: Path) -> None:
    model, inputs, copies = tiny_model(), batch(), dict[str, Any]()
    if hooked:
        model.model.layers[1].register_forward_hook(steered)
    expected = model.generate(**inputs, **NEW)
    untraced = {name: how(module) for name, module in model.named_modules()}

    class Copying(LogitsProcessor):  # type: ignore[misc]
        def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            copies.update({name: how(module) for name, module in model.named_modules()})
            return scores

    with trace(model, path=tmp_path / "run.trace") as session:
        processors = LogitsProcessorList([Copying()])
        assert torch.equal(model.generate(**inputs, **NEW, logits_processor=processors), expected)
        assert torch.equal(copies[""].generate(**inputs, **NEW), expected)
    assert session.steps == 5
    for name, twin in copies.items():
        if how is _shallow:  # what is below it is the original's
            assert vars(twin).keys() == vars(untraced[name]).keys()
            assert len(twin._forward_hooks) == len(untraced[name]._forward_hooks)
            continue
        for ours, theirs in zip(twin.modules(), untraced[name].modules(), strict=True):
            assert vars(ours).keys() == vars(theirs).keys()
            assert len(ours._forward_hooks) == len(theirs._forward_hooks)
    layer = copies["model.layers.1.mlp"]
    hidden = torch.ones(1, 2, model.config.hidden_size)
    assert torch.equal(layer(hidden), model.model.layers[1].mlp(hidden))
    if how is not _shallow:
        with torch.no_grad():
            layer.down_proj.weight.zero_()
        assert not layer(hidden).any()
        assert model.model.layers[1].mlp(hidden).any()


def test_pickles_are_those_of_an_untraced_model(tmp_path: Path) -> None:
    model, inputs = tiny_model(), batch()
    untraced = pickle.dumps(model)
    with trace(model, path=tmp_path / "run.trace"):
        assert pickle.dumps(model) == untraced
        torch.save(model, io.BytesIO())
        again = pickle.loads(pickle.dumps(model))
    assert torch.equal(again.generate(**inputs, **NEW), model.generate(**inputs, **NEW))
    assert model.state_dict().keys() == again.state_dict().keys()


@pytest.mark.parametrize("ending", ["exit", "exception", "generate"])
def test_a_forked_child_ends(tmp_path: Path, ending: str) -> None:
    model, inputs = tiny_model(), batch()
    torch.set_num_threads(1)  # a fork copies no threads, torch's neither
    with trace(model, path=tmp_path / "run.trace", strict=True) as session:
        expected = model.generate(**inputs, **NEW)
        child = os.fork()
        if not child:
            try:
                if ending == "generate":
                    assert torch.equal(model.generate(**inputs, **NEW), expected)
                session.flush()
                if ending == "exception":
                    raise RuntimeError
            finally:
                os._exit(0)
        deadline = time.monotonic() + 20
        while not (ended := os.waitpid(child, os.WNOHANG))[0]:
            if time.monotonic() > deadline:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                pytest.fail("the child hangs")
            time.sleep(0.02)
        assert ended[1] == 0
        model.generate(**inputs, **NEW)
    with open_trace(session.path) as recording:
        assert [len(run.steps) for run in recording.runs] == [5, 5]


def test_a_child_that_leaves_the_block_ends(tmp_path: Path) -> None:
    model = tiny_model()
    child = None
    try:
        with trace(model, path=tmp_path / "run.trace"):
            child = os.fork()
            if not child:
                raise SystemExit
    except SystemExit:
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


@pytest.mark.parametrize("where", ["model", "wrapper", *slow("layer", "forward", "inside")])
def test_compiled_code_runs_as_it_does_untraced(tmp_path: Path, where: str) -> None:
    torch._dynamo.reset()
    model, inputs = tiny_model("llama", num_hidden_layers=1), batch()
    expected = model.generate(**inputs, **NEW)
    graphs: list[int] = []

    def backend(graph: Any, _inputs: Any) -> Any:
        graphs.append(len(graph.graph.nodes))
        return graph.forward

    traced: Any = model
    if where == "model":
        model.compile(backend=backend)
    elif where == "layer":
        for layer in model.model.layers:
            layer.compile(backend=backend)
    elif where == "forward":
        model.forward = torch.compile(model.forward, backend=backend)
    elif where == "wrapper":
        traced = torch.compile(model, backend=backend)
    if where != "inside":
        assert torch.equal(traced.generate(**inputs, **NEW), expected)
        assert torch.equal(traced.generate(**inputs, **NEW), expected)
    compiled = len(graphs)
    with trace(traced, path=tmp_path / "run.trace") as session:
        if where == "inside":
            model.forward = torch.compile(model.forward, backend=backend)
        assert torch.equal(traced.generate(**inputs, **NEW), expected)
    if where != "inside":
        assert len(graphs) == compiled
    with open_trace(session.path) as recording:
        (run,) = recording.runs
        assert len(run.steps) == 5
        assert all(step.choice() is not None and not step.head.violations for step in run.steps)
        layouts = [step.layout.modules if step.layout else () for step in run.steps]
        names = {run.header.modules[index].name for called in layouts for index in called}
    assert ("model.layers.0.mlp" in names) == (where == "wrapper")
    assert ("lm_head" in names) == (where in ("layer", "wrapper"))


class Outer(nn.Module):
    """A module that holds a model."""

    def __init__(self, *models: nn.Module) -> None:
        super().__init__()
        self.models = nn.ModuleList(models)

    def generate(self, *args: Any, **kwargs: Any) -> Any:
        inner: Any = self.models[0]
        return inner.generate(*args, **kwargs)


def test_a_module_that_holds_a_model_is_traced_as_that_model(tmp_path: Path) -> None:
    outer, inputs = Outer(tiny_model()), batch()
    with trace(outer, path=tmp_path / "run.trace") as session:
        outer.generate(**inputs, **NEW)
    assert session.steps == 5


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Linear(2, 2), "Linear has no generate"),
        (
            Outer(tiny_model(), tiny_model("llama")),
            "Outer holds several models .*Qwen2ForCausalLM, LlamaForCausalLM",
        ),
        (object(), "object is not a torch module"),
    ],
)
def test_what_cannot_be_traced_is_refused_by_name(tmp_path: Path, model: Any, message: str) -> None:
    with pytest.raises(UnsupportedError, match=message), trace(model, path=tmp_path / "run.trace"):
        pass
    assert not [*tmp_path.iterdir()]


def test_a_block_that_records_nothing_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model()
    monkeypatch.setattr(type(model), "generate", lambda *_, **__: "an answer of its own")
    with (
        pytest.warns(RuntimeWarning, match="nothing was recorded"),
        trace(model, path=tmp_path / "run.trace"),
    ):
        assert model.generate() == "an answer of its own"


@pytest.mark.reference_only
def test_statistics_and_stored_tensors_are_what_the_caller_got(tmp_path: Path) -> None:
    model, inputs = tiny_model(num_hidden_layers=4), batch()
    handle = model.model.layers[1].register_forward_hook(
        lambda _module, _args, out: with_hidden(out, hidden_of(out) + 5)
    )
    save = ["modules=^model\\.layers\\.1$", "lens"]
    with trace(model, path=tmp_path / "run.trace", capture="tensors", save=save) as session:
        found = model.generate(**inputs, **NEW, output_hidden_states=True, return_dict_in_generate=True)
    handle.remove()
    true = found.hidden_states[0][2]
    with open_trace(session.path) as recording:
        (run,) = recording.runs
        step, names = run.steps[0], [each.name for each in run.header.modules]
        assert step.layout is not None
        assert step.modules is not None
        place = list(step.layout.modules).index(names.index("model.layers.1"))
        assert step.modules.mean[place] == pytest.approx(float(true.mean()), rel=1e-4)
        torch.testing.assert_close(torch.as_tensor(run.tensor(1, "modules/model.layers.1").copy()), true)
        assert not any(each.head.errors for each in run.steps)
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("everywhere", [False, True])
def test_hooks_added_while_a_run_is_in_progress_count_too(everywhere: bool) -> None:
    model, handles = tiny_model(), list[Any]()
    layer = model.model.layers[0].mlp

    class Adding(LogitsProcessor):  # type: ignore[misc]
        def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            if not handles:
                hook: Any = lambda module, _args, out: out * 0 if module is layer else None  # noqa: E731
                add = (
                    nn.modules.module.register_module_forward_hook
                    if everywhere
                    else layer.register_forward_hook
                )
                handles.append(add(hook))
            return scores

    with collected(model) as run:
        generate(model, batch(), **GREEDY, logits_processor=LogitsProcessorList([Adding()]))
    handles[0].remove()
    place = [each.name for each in run.header.modules].index("model.layers.0.mlp")
    means = [step.modules.mean[list(step.layout.modules).index(place)] for step in run.steps]  # type: ignore[union-attr]
    assert means[0] != 0
    assert not any(means[1:])
    assert run.problems() == []


class Late(Exception):  # noqa: N818 - what a program calls its timeout
    """A timeout of the program's own."""


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_an_exception_of_a_signal_handler_always_ends_the_generation(tmp_path: Path) -> None:
    # Libraries swallow exceptions in places of their own (transformers where it asks whether it is being
    # compiled, Python in finalisers), traced or not. This is about those that come up in our code.
    def ring(_: int, frame: FrameType | None) -> None:
        if frame is None or frame.f_globals["__name__"].partition(".")[0] not in ("hooks", "tracer"):
            signal.setitimer(signal.ITIMER_REAL, 0.0005)
            return
        raise Late

    def timed_out(seconds: float) -> None:
        with trace(model, path=tmp_path / "t", force=True, capture="tensors", save=save):
            signal.setitimer(signal.ITIMER_REAL, seconds)
            generate(model, inputs, **SAMPLING, max_new_tokens=400, eos_token_id=None)

    model, inputs = tiny_model(num_hidden_layers=4), batch()
    before = signal.signal(signal.SIGALRM, ring)
    save = ["logits", "kv", "hidden", "attention", "lens"]
    # What is imported at the first step is imported now.
    with trace(model, path=tmp_path / "t", capture="tensors", save=save):
        generate(model, inputs, **SAMPLING)
    try:
        for number in range(25):
            with pytest.raises(Late):
                timed_out(0.03 + number * 0.007)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert not any("forward" in vars(module) for module in model.modules())


@pytest.mark.parametrize("as_object", [False, True])
def test_whose_exception_it_is(as_object: bool) -> None:
    class Ringing:
        def __call__(self, *_: Any) -> None:
            raise Late

    def ring(_extra: str, *_: Any) -> None:
        raise Late

    handler: Any = Ringing() if as_object else functools.partial(ring, "x")
    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with pytest.raises(Late) as raised:
            signal.raise_signal(signal.SIGUSR1)
        assert not is_ours(raised.value)
        assert is_ours(ValueError("ours"))
        assert not is_ours(KeyboardInterrupt())
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_handler_that_uninstalls_itself_before_it_raises() -> None:
    def ring(number: int, *_: Any) -> None:
        signal.signal(number, signal.SIG_DFL)
        raise Late

    model, before = tiny_model(), signal.getsignal(signal.SIGUSR1)
    original = model.model.layers[0].mlp.forward

    def ringing(*args: Any) -> Any:
        signal.raise_signal(signal.SIGUSR1)
        return original(*args)

    try:
        signal.signal(signal.SIGUSR1, ring)
        with collected(model, save=("lens",)) as run, pytest.MonkeyPatch.context() as patch:
            # A fault of ours would cost the lens; this one is the program's, though our code is at work.
            patch.setattr(LensProbe, "finish", lambda *_: signal.raise_signal(signal.SIGUSR1))
            with pytest.raises(Late):
                generate(model, batch(), **GREEDY)
        assert run.ends[0].status == "failed"
        signal.signal(signal.SIGUSR1, ring)
        model.model.layers[0].mlp.forward = ringing
        with collected(model), pytest.raises(Late):
            generate(model, batch(), **GREEDY)
        assert vars(model.model.layers[0].mlp)["forward"] is ringing
    finally:
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("interrupted", range(6))
def test_what_is_undone_is_undone_though_a_timeout_comes_in_between(
    interrupted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, inputs, calls = tiny_model(), batch(), list[int]()
    before = {name: dict(vars(module)) for name, module in model.named_modules()}

    def interrupted_at(remove: Any) -> Any:
        def interrupted_remove(*args: Any) -> None:
            calls.append(1)
            if len(calls) == interrupted + 1:
                raise Late
            remove(*args)

        return interrupted_remove

    monkeypatch.setattr(installation, "remove_layer", interrupted_at(remove_layer))
    monkeypatch.setattr(model_modules, "remove_layers", interrupted_at(remove_layers))
    with pytest.raises(Late), collected(model) as run:
        generate(model, inputs, **GREEDY)
    assert len(run.ends) == 1
    assert {name: dict(vars(module)) for name, module in model.named_modules()} == before


def test_surely_does_everything_and_raises_the_first() -> None:
    done = list[str]()

    def late() -> None:
        done.append("late")
        raise Late

    with pytest.raises(Late):
        surely(lambda: done.append("first"), late, lambda: done.append("last"))
    assert done[0] == "first"
    assert done[-1] == "last"


def test_ids_without_a_batch_dimension(tmp_path: Path) -> None:
    model, inputs = tiny_model(), batch()
    expected = model.generate(**inputs, **NEW)
    prepare, forward = model.prepare_inputs_for_generation, model.forward

    @functools.wraps(prepare)
    def flat(*args: Any, **kwargs: Any) -> Any:
        prepared = prepare(*args, **kwargs)
        return {**prepared, "input_ids": prepared["input_ids"][0]}

    model.prepare_inputs_for_generation = flat
    model.forward = functools.wraps(forward)(lambda input_ids, **kwargs: forward(input_ids[None], **kwargs))
    with trace(model, path=tmp_path / "run.trace") as session:
        assert torch.equal(model.generate(**inputs, **NEW), expected)
    assert session.faults == ()
    with open_trace(session.path) as recording:
        (run,) = recording.runs
        chosen = [choice.token for step in run.steps if (choice := step.choice()) is not None]
        assert chosen == expected[0, -5:].tolist()


@pytest.mark.parametrize("method", ["note_call", "note_weights", "finish"])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_a_failing_probe_costs_its_own_record(
    method: str, attention: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise ValueError("broken")

    model, inputs = tiny_model(), batch()
    model.config._attn_implementation = attention
    monkeypatch.setattr(AttentionProbe, method, broken)
    monkeypatch.setattr(LensProbe, "finish", broken)
    expected = generate(model, inputs, **GREEDY)
    with collected(model, level="tensors", save=("attention", "lens", "logits")) as run:
        traced = generate(model, inputs, **GREEDY)
    assert torch.equal(traced.sequences, expected.sequences)
    for step, saved in zip(run.steps, run.saved, strict=True):
        assert step.scores is not None
        assert step.modules is not None
        assert "logits" in saved
        assert any("broken" in error.message for error in step.head.errors)


class Extra(LogitsProcessor):  # type: ignore[misc]
    """A processor whose third parameter the library asks for, or may not."""

    kind = "extra"

    def __call__(self, input_ids: Any, scores: Any, extra: Any) -> Any:
        return scores


class Optional(LogitsProcessor):  # type: ignore[misc]
    """A processor with a third parameter that has a default."""

    def __call__(self, input_ids: Any, scores: Any, extra: float = 2.0) -> Any:
        return scores * extra


class Slotted:
    """A processor without a ``__dict__``."""

    __slots__ = ("factor",)

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        return scores


@pytest.mark.parametrize("kind", [Extra, Optional, Slotted])
def test_a_processor_is_refused_as_it_is_untraced(kind: Any, tmp_path: Path) -> None:
    model, inputs = tiny_model(), batch()

    def outcome() -> Any:
        try:
            processors = LogitsProcessorList([kind()])
            return model.generate(**inputs, **NEW, logits_processor=processors).tolist()
        except Exception as error:  # noqa: BLE001 - the outcome is compared
            return type(error), str(error)

    expected = outcome()
    with trace(model, path=tmp_path / "run.trace"):
        assert outcome() == expected


def test_a_stand_in_is_like_its_original() -> None:
    seen: list[Any] = []
    originals: tuple[Any, ...] = (Extra(), Optional(), Slotted(), lambda _ids, scores: scores)
    for original in originals:
        twin = stand_in(original, seen.append)
        assert isinstance(twin, type(original))
        assert inspect.signature(twin.__call__) == inspect.signature(original.__call__)
        assert twin.__class__ is original.__class__
        assert callable(twin)
    first = Extra()
    twin = stand_in(first, seen.append)
    twin.level = 3
    assert vars(first) == {"level": 3}
    assert twin.kind == "extra"
    assert twin(1, 2, 3) == 2
    assert seen == [2]


def test_lists_and_criteria_keep_their_class(tmp_path: Path) -> None:
    model, inputs, seen = tiny_model(), batch(), list[Any]()

    class Criterion(StoppingCriteria):  # type: ignore[misc]
        def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
            return torch.zeros(len(input_ids), dtype=torch.bool)

    original = type(model)._sample

    def sample(self: Any, *args: Any, **kwargs: Any) -> Any:
        criteria, processors = kwargs["stopping_criteria"], kwargs["logits_processor"]
        seen.append((isinstance(criteria, StoppingCriteriaList), isinstance(processors, LogitsProcessorList)))
        seen.append((criteria.max_length, [isinstance(each, Criterion) for each in criteria]))
        return original(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(model), "_sample", sample)
        for _ in range(2):
            own = StoppingCriteriaList([Criterion()])
            if len(seen) == 2:
                with trace(model, path=tmp_path / "run.trace"):
                    model.generate(**inputs, **NEW, stopping_criteria=own)
            else:
                model.generate(**inputs, **NEW, stopping_criteria=own)
    assert seen[:2] == seen[2:]


def test_methods_look_as_they_do_untraced(tmp_path: Path) -> None:
    model = tiny_model()
    names = ("forward", "generate", "_sample", "prepare_inputs_for_generation")
    found: list[Any] = []

    def look() -> None:
        for name in names:
            method = getattr(model, name)
            found.append(
                (inspect.signature(method), inspect.getsource(method), method.__name__, method.__self__)
            )

    class Looking(LogitsProcessor):  # type: ignore[misc]
        def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            if input_ids.shape[1] == 6:
                look()
            return scores

    look()
    with trace(model, path=tmp_path / "run.trace"):
        model.generate(**batch(), **NEW, logits_processor=LogitsProcessorList([Looking()]))
    assert found[:4] == found[4:8]


def test_nothing_of_the_process_is_left_changed(tmp_path: Path) -> None:
    import threading

    def state() -> Any:
        handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)]
        return sys.gettrace(), sys.getprofile(), handlers, threading.Thread.start

    model = tiny_model()
    model.generate(**batch(), **NEW)
    before, held_before = state(), held()
    with trace(model, path=tmp_path / "run.trace", stops="choice", on_stop=lambda _halt: None):
        model.generate(**batch(), **NEW)
    assert state() == before
    assert not held() - held_before


@dataclass(eq=False)
class SlottedCriterion(StoppingCriteria):  # type: ignore[misc]
    """A criterion whose attribute is in a slot, beside the ``__dict__`` of its base."""

    __slots__ = ("eos_token_id",)
    eos_token_id: int

    def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
        return input_ids[:, -1] % 3 == 0


def test_rows_that_a_criterion_ends_are_filled_as_they_are_untraced(tmp_path: Path) -> None:
    model, inputs = tiny_model(), batch(3)
    settings = {**NEW, "max_new_tokens": 12}
    criteria = StoppingCriteriaList([SlottedCriterion(5)])
    expected = model.generate(**inputs, **settings, stopping_criteria=criteria)
    with trace(model, path=tmp_path / "run.trace"):
        assert torch.equal(model.generate(**inputs, **settings, stopping_criteria=criteria), expected)


def test_classes_that_keep_a_list_of_their_subclasses_are_left_alone(tmp_path: Path) -> None:
    known: list[str] = []

    class Registered(LogitsProcessor):  # type: ignore[misc]
        def __init_subclass__(cls) -> None:
            known.append(cls.__name__)

    class Own(Registered):
        def __call__(self, input_ids: Any, scores: Any) -> Any:
            return scores

    model = tiny_model()
    with trace(model, path=tmp_path / "run.trace"):
        model.generate(**batch(), **NEW, logits_processor=LogitsProcessorList([Own()]))
    assert known == ["Own"]


class Wordless(Exception):  # noqa: N818
    """An exception that cannot say what it is."""

    def __str__(self) -> str:
        raise RuntimeError


@dataclass(frozen=True)
class Frozen(Exception):  # noqa: N818
    """An exception that takes no other traceback."""


@pytest.mark.parametrize("kind", [Wordless, ValueError("bad \ud800")], ids=["wordless", "surrogate"])
def test_an_exception_is_the_programs_whatever_it_says(kind: Any, tmp_path: Path) -> None:
    class Raising(LogitsProcessor):  # type: ignore[misc]
        def __call__(self, input_ids: Any, scores: Any) -> Any:
            raise kind

    model = tiny_model()

    def generate_in_a_block() -> None:
        with trace(model, path=tmp_path / "run.trace"):
            model.generate(**batch(), **NEW, logits_processor=LogitsProcessorList([Raising()]))

    with pytest.raises(kind if isinstance(kind, type) else ValueError):
        generate_in_a_block()
    with open_trace(tmp_path / "run.trace") as recording:
        assert recording.runs[0].end is not None
        assert recording.runs[0].end.status.value == "failed"


@pytest.mark.reference_only
def test_an_exception_that_takes_no_traceback_passes_through_the_run() -> None:
    class Raising(LogitsProcessor):  # type: ignore[misc]
        def __call__(self, input_ids: Any, scores: Any) -> Any:
            raise Frozen

    model, seen = tiny_model(), list[Any]()
    with collected(model):
        try:
            model.generate(**batch(), **NEW, logits_processor=LogitsProcessorList([Raising()]))
        except BaseException as error:  # noqa: BLE001 - it is looked at
            seen.append(type(error))
    assert seen == [Frozen]


def test_modules_replaced_in_the_block_are_recorded(tmp_path: Path) -> None:
    model = tiny_model()
    save = ["lens", "hidden"]
    with trace(model, path=tmp_path / "run.trace", capture="tensors", save=save) as session:
        model.generate(**batch(), **NEW)
        model.model.layers[1] = copy.deepcopy(model.model.layers[0])
        model.model.layers[0].mlp = nn.Sequential(model.model.layers[0].mlp)
        model.model.layers[1].self_attn.layer_idx = 1
        model.generate(**batch(), **NEW)
    with open_trace(session.path) as recording:
        assert [len(run.steps) for run in recording.runs] == [5, 5]
        run = recording.runs[1]
        names = [module.name for module in run.header.modules]
        assert "model.layers.0.mlp.0.up_proj" in names
        assert not any(step.head.errors or step.head.violations for step in run.steps)
        called = {names[index] for step in run.steps if step.layout for index in step.layout.modules}
    assert {"model.layers.0.mlp.0", "model.layers.1.mlp"} <= called


def test_a_processor_that_runs_the_model_does_not_split_the_step(tmp_path: Path) -> None:
    model = tiny_model()

    class Peeking(LogitsProcessor):  # type: ignore[misc]
        def __call__(self, input_ids: Any, scores: Any) -> Any:
            model(**model.prepare_inputs_for_generation(input_ids, use_cache=False))
            return scores

    with trace(model, path=tmp_path / "run.trace") as session:
        model.generate(**batch(), **NEW, logits_processor=LogitsProcessorList([Peeking()]))
    with open_trace(session.path) as recording:
        (run,) = recording.runs
        assert len(run.steps) == 5
        assert not any(step.head.errors or step.head.violations for step in run.steps)

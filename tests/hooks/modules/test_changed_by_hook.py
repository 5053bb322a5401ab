"""Which outputs forward hooks of the user's have changed is part of a step's record."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from transformers import LogitsProcessor, LogitsProcessorList, PreTrainedModel

from hooks.tensors import info_of
from reports.view.stops.checks import alerts, stop_notes
from tests.support.models import GREEDY, CollectedRun, batch, collected, generate, tiny_model
from tests.support.outputs import hidden_of, with_hidden

pytestmark = pytest.mark.usefixtures("both_ways")

LAYER = "model.layers.1"


def changed(run: CollectedRun) -> list[set[str]]:
    modules = run.header.modules
    return [{modules[each.module].name for each in step.head.changed_by_hook} for step in run.steps]


def added(_module: nn.Module, _args: Any, output: Any) -> Any:
    return with_hidden(output, hidden_of(output) + 5)


def written(_module: nn.Module, _args: Any, output: Any) -> None:
    hidden_of(output).add_(5)


def looked_at(_module: nn.Module, _args: Any, output: Any) -> None:
    hidden_of(output).mean()


def wrapped_anew(_module: nn.Module, _args: Any, output: Any) -> Any:
    return output if isinstance(output, torch.Tensor) else (*output,)


@pytest.mark.parametrize(
    ("hook", "says"), [(added, True), (written, True), (looked_at, False), (wrapped_anew, False)]
)
def test_a_changed_output_is_named(hook: Any, says: bool) -> None:
    model = tiny_model()
    handle = model.model.layers[1].register_forward_hook(hook)
    with collected(model) as run:
        generate(model, batch(), **GREEDY)
    handle.remove()
    assert changed(run) == [{LAYER} if says else set()] * 6
    assert run.problems() == []
    notes = stop_notes(run.steps[0], "layers", run.header)
    assert any(note.text.startswith(f"changed by a hook: {LAYER};") for note in notes) == says
    assert not alerts(run.steps[0], run.header.modules)


@pytest.mark.parametrize("hook", [added, written])
@pytest.mark.parametrize("statistics", [True, False])
def test_what_the_module_gave_is_recorded_too(hook: Any, statistics: bool) -> None:
    model, given = tiny_model(), list[torch.Tensor]()
    layer = model.model.layers[1]
    handles = [
        layer.register_forward_hook(lambda _module, _args, output: given.append(hidden_of(output).clone())),
        layer.register_forward_hook(hook),
    ]
    with collected(model, level="stats" if statistics else "shapes") as run:
        generate(model, batch(), **GREEDY)
    for handle in handles:
        handle.remove()
    for step, output in zip(run.steps, given, strict=True):
        (change,) = step.head.changed_by_hook
        assert change.before == info_of(output)
        wide = output.float()
        expected = [wide.mean(), wide.std(correction=0), wide.min(), wide.max()]
        found = [change.mean, change.std, change.low, change.high]
        assert found == (pytest.approx([each.item() for each in expected]) if statistics else [None] * 4)
    note = next(
        note
        for note in stop_notes(run.steps[0], "layers", run.header)
        if note.text.startswith("before the hook: model.layers.1 ")
    )
    assert ("mean" in note.text) == statistics


def test_what_the_caller_got_is_recorded_beside_it() -> None:
    model, outputs = tiny_model(), list[torch.Tensor]()
    layer = model.model.layers[1]
    handles = [
        layer.register_forward_hook(added),
        layer.register_forward_hook(lambda _module, _args, output: outputs.append(hidden_of(output))),
    ]
    with collected(model) as run:
        generate(model, batch(), **GREEDY)
    for handle in handles:
        handle.remove()
    place = [each.name for each in run.header.modules].index(LAYER)
    for step, output in zip(run.steps, outputs, strict=True):
        assert step.modules is not None
        assert step.layout is not None
        recorded = step.modules.mean[list(step.layout.modules).index(place)]
        assert recorded == pytest.approx(float(output.mean()), rel=1e-4)


class InThirdStep(LogitsProcessor):  # type: ignore[misc]
    """Adds a hook before the choice of the third step, and removes it before that of the fifth."""

    def __init__(self, model: PreTrainedModel, everywhere: bool) -> None:
        self._model = model
        self._everywhere = everywhere
        self._calls = 0

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self._calls += 1
        layer = self._model.model.layers[1]
        if self._calls == 3 and self._everywhere:
            self._handle = nn.modules.module.register_module_forward_hook(
                lambda module, args, output: added(module, args, output) if module is layer else None
            )
        elif self._calls == 3:
            self._handle = layer.register_forward_hook(added)
        elif self._calls == 5:
            self._handle.remove()
        return scores


@pytest.mark.parametrize("everywhere", [False, True])
def test_a_hook_that_comes_and_goes(everywhere: bool) -> None:
    model = tiny_model()
    processors = LogitsProcessorList([InThirdStep(model, everywhere)])
    with collected(model) as run:
        generate(model, batch(), **GREEDY, logits_processor=processors)
    assert changed(run) == [set(), set(), set(), {LAYER}, {LAYER}, set()]
    assert not any(module._forward_hooks for module in model.modules())


def test_hooks_that_the_user_clears_are_seen_again() -> None:
    model, calls = tiny_model(), list[int]()
    layer = model.model.layers[1]

    class Clearing(LogitsProcessor):  # type: ignore[misc]
        def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            calls.append(1)
            layer._forward_hooks.clear()  # ours goes with them
            if len(calls) == 3:
                layer.register_forward_hook(added)
            return scores

    layer.register_forward_hook(added)
    with collected(model) as run:
        generate(model, batch(), **GREEDY, logits_processor=LogitsProcessorList([Clearing()]))
    assert changed(run) == [{LAYER}, set(), set(), {LAYER}, set(), set()]
    place = [each.name for each in run.header.modules].index(LAYER)
    assert all(place in step.layout.modules for step in run.steps if step.layout)
    assert run.problems() == []


def test_a_hook_in_inference_mode() -> None:
    model = tiny_model()
    handle = model.model.layers[1].register_forward_hook(added)
    with torch.inference_mode(), collected(model) as run:
        generate(model, batch(), **GREEDY)
    handle.remove()
    assert changed(run) == [{LAYER}] * 6


def by_data(_module: nn.Module, _args: Any, output: Any) -> None:
    hidden_of(output).data.add_(5)


def by_numpy(_module: nn.Module, _args: Any, output: Any) -> None:
    hidden_of(output).numpy().__iadd__(5)


def calling_again(module: nn.Module, args: Any, output: Any) -> Any:
    if vars(module).pop("again", None):
        return None
    vars(module)["again"] = True
    return module(*args) + output


@pytest.mark.parametrize("hook", [by_data, by_numpy])
def test_values_that_change_without_a_version(hook: Any) -> None:
    model = tiny_model()
    handle = model.model.layers[1].register_forward_hook(hook)
    with collected(model) as run, torch.no_grad():
        generate(model, batch(), **GREEDY)
    handle.remove()
    assert changed(run) == [{LAYER}] * 6


def test_values_that_change_in_inference_mode() -> None:
    model = tiny_model()
    handle = model.model.layers[1].register_forward_hook(written)
    with collected(model) as run, torch.inference_mode():
        generate(model, batch(), **GREEDY)
    handle.remove()
    assert changed(run) == [{LAYER}] * 6


def test_a_hook_that_calls_the_module_again() -> None:
    model = tiny_model()
    handle = model.model.layers[1].mlp.register_forward_hook(calling_again)
    with collected(model) as run:
        generate(model, batch(), **GREEDY)
    handle.remove()
    assert changed(run) == [{f"{LAYER}.mlp"}] * 6


class Direct(nn.Module):
    """Calls a module's ``forward`` by itself, so that torch runs none of its hooks."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.block.forward(*args, **kwargs)


def test_a_forward_that_is_called_by_itself_is_recorded() -> None:
    model = tiny_model()
    layer = model.model.layers[0]
    layer.mlp = Direct(layer.mlp)
    handle = layer.mlp.block.register_forward_hook(looked_at)
    with collected(model) as run:
        generate(model, batch(), **GREEDY)
    handle.remove()
    place = [each.name for each in run.header.modules].index("model.layers.0.mlp.block")
    for step in run.steps:
        assert step.layout is not None
        assert list(step.layout.modules).count(place) == 1


def test_a_hook_that_comes_while_its_module_runs() -> None:
    model, added_hooks = tiny_model(), list[Any]()

    def adding(_module: nn.Module, _args: Any, _output: Any) -> None:
        if not added_hooks:
            added_hooks.append(model.model.register_forward_hook(looked_at))

    added_hooks_of_layer = model.model.layers[0].register_forward_hook(adding)
    with collected(model) as run:
        generate(model, batch(), **GREEDY)
    place = [each.name for each in run.header.modules].index("model")
    assert all(place in step.layout.modules for step in run.steps if step.layout)
    for handle in (added_hooks_of_layer, *added_hooks):
        handle.remove()

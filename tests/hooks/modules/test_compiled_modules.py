"""What runs inside compiled code is named as not seen, and runs as it does untraced."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import LogitsProcessor, LogitsProcessorList, PreTrainedModel
from transformers.models.llama.modeling_llama import LlamaMLP

from hooks.modules.model_modules import ModelModules
from hooks.modules.tape import PlainWatched
from reports.view.run.header import header_view
from reports.view.stops.checks import stop_notes
from tests.support.models import batch, tiny_model
from tracer import open_trace, trace
from tracer.tracefile.reading.trace_run import TraceRun

NEW: dict[str, Any] = {"max_new_tokens": 5, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}

MLP = "model.layers.0.mlp"
INSIDE_MLP = {f"{MLP}.{name}" for name in ("gate_proj", "up_proj", "down_proj", "act_fn")}


class Graphs:
    """A backend that counts graphs and runs them as they are."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, graph: Any, _inputs: Any) -> Any:
        self.count += 1
        return graph.forward


@pytest.fixture
def graphs() -> Iterator[Graphs]:
    torch._dynamo.reset()
    yield Graphs()
    torch._dynamo.reset()


class Once(LogitsProcessor):  # type: ignore[misc]
    """Does something before the third step's choice."""

    def __init__(self, action: Callable[[], None]) -> None:
        self._action = action

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if input_ids.shape[1] == batch()["input_ids"].shape[1] + 2:
            self._action()
        return scores


def names(run: TraceRun, found: Any) -> set[str]:
    return {run.header.modules[each.module].name for each in found}


def called(run: TraceRun, step: int) -> set[str]:
    layout = run.steps[step].layout
    return set() if layout is None else {run.header.modules[index].name for index in layout.modules}


def compile_forward(model: PreTrainedModel, graphs: Graphs) -> None:
    mlp = model.model.layers[0].mlp
    mlp.forward = torch.compile(mlp.forward, backend=graphs)


def compile_method(model: PreTrainedModel, graphs: Graphs) -> None:
    mlp = model.model.layers[0].mlp
    mlp.inner = torch.compile(LlamaMLP.forward.__get__(mlp), backend=graphs, fullgraph=True)
    mlp.forward = lambda hidden: mlp.inner(hidden)


def compile_class(model: PreTrainedModel, graphs: Graphs) -> None:
    class Decorated(LlamaMLP):  # type: ignore[misc]
        forward = torch.compile(LlamaMLP.forward, backend=graphs, fullgraph=True)

    model.model.layers[0].mlp.__class__ = Decorated


def compile_wrapped(model: PreTrainedModel, graphs: Graphs) -> None:
    layer = model.model.layers[0]
    layer.mlp = torch.compile(layer.mlp, backend=graphs, fullgraph=True)


@pytest.mark.parametrize("how", [compile_forward, compile_method, compile_class, compile_wrapped])
def test_modules_inside_a_graph_are_named_in_the_header(how: Any, graphs: Graphs, tmp_path: Path) -> None:
    model = tiny_model("llama")
    expected = model.generate(**batch(), **NEW)
    how(model, graphs)
    assert torch.equal(model.generate(**batch(), **NEW), expected)
    compiled = graphs.count
    with trace(model, path=tmp_path / "run.trace"):
        assert torch.equal(model.generate(**batch(), **NEW), expected)
    assert torch.equal(model.generate(**batch(), **NEW), expected)
    assert graphs.count == compiled > 0
    with open_trace(tmp_path / "run.trace") as recording:
        (run,) = recording.runs
        inside = {name.replace("_orig_mod.", "") for name in names(run, run.header.not_seen)}
        assert inside >= INSIDE_MLP
        assert not called(run, 0) & names(run, run.header.not_seen)
        assert MLP in called(run, 0)
        assert {each.reason for each in run.header.not_seen} == {"compiled"}
        shown = {each.name: each.value for each in header_view(run.header, {}).metadata}
        assert "gate_proj" in shown["not seen: compiled"]
        assert not any(step.head.errors or step.head.violations or step.head.not_seen for step in run.steps)


def test_nothing_is_named_where_nothing_is_compiled(tmp_path: Path) -> None:
    model = tiny_model("llama")
    layer = model.model.layers[0]
    disable: Any = torch.compiler.disable
    layer.mlp.forward = disable(layer.mlp.forward)
    with trace(model, path=tmp_path / "run.trace"):
        model.generate(**batch(), **NEW)
    with open_trace(tmp_path / "run.trace") as recording:
        assert recording.header.not_seen == ()
        assert called(recording.runs[0], 0) >= INSIDE_MLP


def test_a_function_that_turns_out_to_call_modules(graphs: Graphs, tmp_path: Path) -> None:
    model = tiny_model("llama")
    mlp = model.model.layers[0].mlp
    expected = model.generate(**batch(), **NEW)

    def feed_forward(hidden: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = mlp.down_proj(mlp.act_fn(mlp.gate_proj(hidden)) * mlp.up_proj(hidden))
        return found

    compiled = torch.compile(feed_forward, backend=graphs, fullgraph=True)
    mlp.forward = lambda hidden: compiled(hidden)
    with trace(model, path=tmp_path / "run.trace"):
        assert torch.equal(model.generate(**batch(), **NEW), expected)
        before = graphs.count
        assert torch.equal(model.generate(**batch(), **NEW), expected)
    assert graphs.count == before
    with open_trace(tmp_path / "run.trace") as recording:
        first, second = recording.runs
        assert first.header.not_seen == ()
        assert names(first, first.steps[0].head.not_seen) == INSIDE_MLP
        assert not any(step.head.not_seen for step in list(first.steps)[1:])
        notes = stop_notes(first.steps[0], "layers", first.header)
        assert any(note.text.startswith("not seen: compiled, from this step on: ") for note in notes)
        assert names(second, second.header.not_seen) == INSIDE_MLP
        assert not any(step.head.errors for run in recording.runs for step in run.steps)


def compile_model_call(model: PreTrainedModel, graphs: Graphs) -> None:
    model.compile(backend=graphs)


def compile_layer_call(model: PreTrainedModel, graphs: Graphs) -> None:
    model.model.layers[0].compile(backend=graphs)


def compile_whole(model: PreTrainedModel, graphs: Graphs) -> None:
    model.model.layers[0].mlp.compile(backend=graphs, fullgraph=True)


def compile_model_forward(model: PreTrainedModel, graphs: Graphs) -> None:
    model.forward = torch.compile(model.forward, backend=graphs)


@pytest.mark.parametrize(
    "how",
    [
        pytest.param(compile_model_call, marks=pytest.mark.slow),
        pytest.param(compile_layer_call, marks=pytest.mark.slow),
        compile_whole,
        pytest.param(compile_model_forward, marks=pytest.mark.slow),
        pytest.param(compile_forward, marks=pytest.mark.slow),
    ],
)
def test_compiled_while_a_run_is_in_progress(
    how: Any, graphs: Graphs, tmp_path: Path, both_ways: str
) -> None:
    def generated(model: PreTrainedModel) -> Any:
        processor = Once(lambda: how(model, graphs))
        found = model.generate(**batch(), **NEW, logits_processor=LogitsProcessorList([processor]))
        return found.tolist(), graphs.count

    untraced = generated(tiny_model("llama"))
    torch._dynamo.reset()
    graphs.count = 0
    model = tiny_model("llama")
    with trace(model, path=tmp_path / "run.trace"):
        assert generated(model) == untraced
    assert not [name for name, module in model.named_modules() if "Watched" in repr(vars(module))]
    with open_trace(tmp_path / "run.trace") as recording:
        (run,) = recording.runs
        assert len(run.steps) == 5
        assert all(step.choice() is not None and not step.head.errors for step in run.steps)
        assert called(run, 2) >= INSIDE_MLP
        assert not called(run, 4) & INSIDE_MLP
        if how is not compile_model_forward:  # which takes the place of all that was there
            assert names(run, [each for step in run.steps for each in step.head.not_seen]) >= INSIDE_MLP


def test_a_stand_in_without_compiled_code_may_become_a_part_of_a_graph() -> None:
    layer = nn.Linear(2, 2)
    watched = PlainWatched(layer.forward, 0, 0, layer._forward_hooks, lambda *_: True)
    values = torch.ones(1, 2)
    graph = torch.compile(lambda given: watched(given) + 1, fullgraph=True, backend="eager")
    assert torch.equal(graph(values), layer(values) + 1)


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace.*:DeprecationWarning")
def test_torch_script(tmp_path: Path) -> None:
    model = tiny_model("llama")
    mlp = model.model.layers[0].mlp
    to_script: Any = torch.jit.trace
    model.model.layers[0].mlp = to_script(mlp, torch.randn(1, 6, 32))
    with trace(model, path=tmp_path / "run.trace"):
        model.generate(**batch(), **NEW)
    with open_trace(tmp_path / "run.trace") as recording:
        (run,) = recording.runs
        assert names(run, run.header.not_seen) == INSIDE_MLP
        assert {each.reason for each in run.header.not_seen} == {"scripted"}
        assert MLP in called(run, 0)


def test_what_comes_out_of_a_graph_is_not_deferred() -> None:
    compiled: Any = torch.compile(nn.Linear(2, 2), backend="eager")
    model = nn.Sequential(nn.Linear(2, 2), nn.Sequential(compiled))
    modules = ModelModules(model)
    modules.refresh()
    names = [name for name, _ in model.named_modules()]
    assert {names[index] for index in modules.overwritten} == {"", "1", "1.0"}

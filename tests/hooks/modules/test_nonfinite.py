"""NaN and infinite values: the module is always named, the row only where it is known."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, MixtralConfig, PreTrainedModel

from hooks.modules import tape
from hooks.modules.call_notes import EarlyResult
from hooks.modules.nonfinite import BatchLayout, describe_nonfinite
from hooks.modules.statistics import reduce_one
from hooks.modules.tape import PlainTape, PlainWatched, _plain_tapes
from hooks.native.compiled import TapeParts
from tests.support.models import CollectedRun, batch, collected, generate, tiny_model
from tracer.schema.checks import Violation

GREEDY: dict[str, Any] = {"do_sample": False, "eos_token_id": None}

pytestmark = pytest.mark.usefixtures("both_ways")


def mixtral() -> PreTrainedModel:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = MixtralConfig(
            vocab_size=100,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            num_local_experts=4,
            pad_token_id=0,
        )
        return AutoModelForCausalLM.from_config(config).eval()


def finite(run: CollectedRun) -> list[tuple[int, Violation]]:
    found = [(step.number, each) for step in run.steps for each in step.head.violations]
    return [(number, each) for number, each in found if each.check == "finite"]


def name_of(run: CollectedRun, violation: Violation) -> str:
    assert violation.module is not None
    return run.header.modules[violation.module].name


EXPERTS = {"qwen2_moe": "mlp.experts.{}.up_proj", "mixtral": "block_sparse_moe.experts.{}.w3"}


@pytest.mark.reference_only
@pytest.mark.parametrize("kind", EXPERTS)
def test_a_nan_in_an_expert_names_the_expert_and_no_row(kind: str) -> None:
    model = mixtral() if kind == "mixtral" else tiny_model("qwen2_moe")
    with torch.no_grad():
        for expert in range(4):
            name = f"model.layers.1.{EXPERTS[kind].format(expert)}"
            model.get_submodule(name).weight.fill_(torch.nan)
    with collected(model) as run:
        generate(model, batch(3), **GREEDY)
    assert run.faults == []
    assert len(run.steps) == 6
    assert all(step.scores is not None and step.modules is not None for step in run.steps)
    ((number, violation),) = finite(run)
    assert (number, violation.row) == (1, None)
    assert ".experts." in name_of(run, violation)
    assert violation.message.endswith("in which row is not known")
    assert all([c.failed for c in step.head.checks if c.name == "finite"] == [True] for step in run.steps)


@pytest.mark.reference_only
def test_a_single_row_is_always_known() -> None:
    model = mixtral()
    with torch.no_grad():
        for expert in model.model.layers[0].block_sparse_moe.experts:
            expert.w1.weight.fill_(torch.inf)
    with collected(model) as run:
        generate(model, batch(1), **GREEDY)
    ((_, violation),) = finite(run)
    assert violation.row == 0


def test_the_row_is_named_where_the_layout_is_known() -> None:
    model, calls = tiny_model(), 0

    def poison(_module: Any, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == 3:
            output[2, 0, 5] = torch.nan
        return output

    handle = model.model.layers[1].mlp.down_proj.register_forward_hook(poison)
    with collected(model) as run:
        generate(model, batch(3), **GREEDY)
    handle.remove()
    ((number, violation),) = finite(run)
    assert (number, violation.row, name_of(run, violation)) == (3, 2, "model.layers.1.mlp.down_proj")


class Masking(nn.Module):
    """Fills what it must not see with infinities inside, and returns none."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.fill: nn.Module = nn.Identity()

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        self.fill(torch.full_like(hidden, -torch.inf)).exp()
        inner: torch.Tensor = self.inner(hidden)
        return inner


class Fill(nn.Module):
    """Returns infinities."""

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return torch.full_like(hidden, -torch.inf)


def test_infinities_that_are_masked_are_no_fault_and_are_said() -> None:
    model = tiny_model()
    masking = Masking(model.model.layers[0].mlp)
    masking.fill = Fill()
    model.model.layers[0].mlp = masking
    with collected(model) as run:
        generate(model, batch(2), **GREEDY)
    assert run.problems() == []
    (check,) = [check for check in run.steps[0].head.checks if check.name == "finite"]
    assert check.held
    assert check.note == "not finite, but masked by the module around it: model.layers.0.mlp.fill"


def test_beside_masked_infinities_a_fault_is_found() -> None:
    model = tiny_model()
    masking = Masking(model.model.layers[0].mlp)
    masking.fill = Fill()
    model.model.layers[0].mlp = masking
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[0, 0] = torch.nan
    with collected(model) as run:
        generate(model, batch(2), **GREEDY)
    ((_, violation), *_) = finite(run)
    assert name_of(run, violation) == "model.layers.1.mlp.up_proj"


def test_an_output_without_memory_of_its_own_is_said() -> None:
    class Sparse(nn.Module):
        def forward(self, hidden: torch.Tensor) -> torch.Tensor:
            return hidden.detach().to_sparse()

    class Beside(Masking):
        def forward(self, hidden: torch.Tensor) -> torch.Tensor:
            self.fill(hidden)
            inner: torch.Tensor = self.inner(hidden)
            return inner

    model = tiny_model()
    beside = Beside(model.model.layers[0].mlp)
    beside.fill = Sparse()
    model.model.layers[0].mlp = beside
    with collected(model) as run:
        generate(model, batch(2), **GREEDY)
    assert run.problems() == []
    (check,) = [check for check in run.steps[0].head.checks if check.name == "finite"]
    assert check.note == "without statistics: model.layers.0.mlp.fill (a tensor of layout sparse_coo)"


@pytest.mark.parametrize("known", [True, False])
def test_rows_are_told_from_positions(known: bool) -> None:
    output = torch.zeros(3, 3, 4)
    output[2, 0, 1] = torch.nan
    assert describe_nonfinite(output, (), BatchLayout(3, 3, known)).rows == ((2,) if known else ())
    assert describe_nonfinite(output[:, :1], (), BatchLayout(3, 1, known)).rows == (2,)
    assert describe_nonfinite(output.flatten(1), (), BatchLayout(3, 3, known)).rows == ()
    assert describe_nonfinite(output, ()).rows == ()


def test_inputs_that_cannot_be_read_are_not_read() -> None:
    output, fine = torch.tensor([torch.nan]), torch.ones(2)
    gone = torch.ones(1000, dtype=torch.float16)
    gone.untyped_storage().resize_(0)
    sparse = torch.eye(3).to_sparse()
    assert describe_nonfinite(output, [fine]).inputs_finite is True
    assert describe_nonfinite(output, [fine, gone]).inputs_finite is None
    assert describe_nonfinite(output, [sparse, output]).inputs_finite is False


def test_of_a_prefill_on_a_gpu_it_is_said_what_nobody_has_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    def reduce_as_on_a_gpu(_inputs: Any, output: torch.Tensor, _batch: Any) -> EarlyResult:
        return EarlyResult(reduce_one(output), None)

    monkeypatch.setattr("hooks.modules.module_watch._reduce", reduce_as_on_a_gpu)
    monkeypatch.setattr("hooks.loop.run_capture.EARLY_TOKENS", 0)
    monkeypatch.setattr(tape, "parts", TapeParts(PlainTape, PlainWatched, _plain_tapes))
    model = tiny_model()
    with torch.no_grad():
        model.model.layers[1].mlp.down_proj.weight.fill_(torch.nan)
    with collected(model) as run:
        generate(model, batch(3), **GREEDY)
    ((number, violation),) = finite(run)
    assert (number, name_of(run, violation)) == (1, "model.layers.1.mlp.down_proj")
    assert violation.message == (
        "first non-finite output of the run: model.layers.1.mlp.down_proj, how many values is not known; "
        "whether its inputs were finite is not known; in which row is not known"
    )
    modules = run.steps[0].modules
    assert modules is not None
    assert modules.nonfinite.max() == 1

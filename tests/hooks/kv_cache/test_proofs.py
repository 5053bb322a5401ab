"""The proofs of every step: what holds is said to hold, what does not is caught at the first wrong step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers import DynamicCache

import hooks.kv_cache.proof
from tests.support.caches import cache_argument, layer_of, set_layer, static_cache
from tests.support.models import (
    CONFIGS,
    DEVICE,
    GREEDY,
    SAMPLING,
    CollectedRun,
    batch,
    collected,
    generate,
    tiny_model,
)
from tracer.schema.checks import Check, Violation

pytestmark = pytest.mark.usefixtures("both_ways")


def violations(run: CollectedRun) -> list[tuple[int, Violation]]:
    return [(step.number, violation) for step in run.steps for violation in step.head.violations]


def check(run: CollectedRun, step: int, name: str) -> Check:
    return next(found for found in run.steps[step - 1].head.checks if found.name == name)


class Overwriting(DynamicCache):  # type: ignore[misc]
    """Damages one old slot of one layer when it is updated for the fourth time."""

    def __init__(self, damage: Any) -> None:
        super().__init__()
        self.updates = 0
        self.damage = damage

    def update(self, key: Any, value: Any, layer_idx: int, *more: Any, **others: Any) -> Any:
        result = super().update(key, value, layer_idx, *more, **others)
        if layer_idx == 1:
            self.updates += 1
            if self.updates == 4:
                self.damage(*layer_of(self, 1))
        return result


def overwrite_value(_key: torch.Tensor, value: torch.Tensor) -> None:
    value[0, 1, 2, 3] += 1e-3


def exchange_slots(key: torch.Tensor, _value: torch.Tensor) -> None:
    key[0, 0, [1, 3]] = key[0, 0, [3, 1]].clone()


@pytest.mark.parametrize("damage", [overwrite_value, exchange_slots])
def test_a_changed_old_slot_is_caught_at_the_first_wrong_step(damage: Any) -> None:
    model, inputs = tiny_model(), batch()
    with collected(model) as run:
        generate(model, inputs, **GREEDY, **cache_argument(Overwriting(damage)))
    found = violations(run)
    assert found
    assert found[0][0] == 4
    assert (found[0][1].check, found[0][1].layer, found[0][1].row) == ("cache", 1, 0)
    head = "KV head 1: value" if damage is overwrite_value else "KV head 0: key"
    assert head in found[0][1].message
    assert {number for number, _ in found} == {4}


def test_a_cache_that_forgets_is_caught() -> None:
    class Forgetting(DynamicCache):  # type: ignore[misc]
        def update(self, key: Any, value: Any, layer_idx: int, *more: Any, **others: Any) -> Any:
            result = super().update(key, value, layer_idx, *more, **others)
            keys, values = layer_of(self, layer_idx)
            if keys.shape[-2] == 9:
                set_layer(self, layer_idx, keys[..., 1:, :], values[..., 1:, :])
            return result

    model, inputs = tiny_model(), batch()
    with collected(model) as run:
        generate(model, inputs, **GREEDY, **cache_argument(Forgetting()), max_new_tokens=4)
    step, violation = violations(run)[0]
    assert step == 4
    assert violation.message == "the cache holds 8 slots, expected 9"


def test_wrong_position_ids_are_caught_with_their_row() -> None:
    model, inputs = tiny_model(), batch(2)
    prepare, calls = model.prepare_inputs_for_generation, 0

    def wrong(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        prepared = prepare(*args, **kwargs)
        if calls == 3:
            prepared["position_ids"] = prepared["position_ids"] + torch.tensor([[0], [1]], device=DEVICE)
        return prepared

    model.prepare_inputs_for_generation = wrong
    with collected(model) as run:
        generate(model, inputs, **GREEDY)
    ((step, violation),) = violations(run)
    assert (step, violation.check, violation.row) == (3, "positions", 1)
    assert "position_ids is [8], expected [7]" in violation.message.replace(
        "[7], expected [6]", "[8], expected [7]"
    )


def test_positions_follow_the_mask_that_the_library_has_turned_into_pairs() -> None:
    model, inputs = tiny_model("llama"), batch(3)
    with collected(model) as run:
        generate(model, inputs, **GREEDY, cache_implementation="static", max_new_tokens=3)
    assert violations(run) == []


@pytest.mark.parametrize("mode", [GREEDY, SAMPLING], ids=["greedy", "sampling"])
@pytest.mark.parametrize("name", CONFIGS)
def test_everything_holds_on_sound_models(name: str, mode: dict[str, Any]) -> None:
    model, inputs = tiny_model(name), batch(3)
    with collected(model) as run:
        generate(model, inputs, **mode)
    assert violations(run) == []
    for step in run.steps:
        names = {found.name: found for found in step.head.checks}
        assert set(names) == {"cache", "positions", "modules", "finite"}
        assert all(found.held for found in names.values())
        assert names["positions"].checked == 3
        assert names["cache"].checked == 2


def test_static_cache_is_checked_too() -> None:
    model, inputs = tiny_model(), batch()
    cache = static_cache(model.config, 24)
    with collected(model) as run:
        generate(model, inputs, **GREEDY, **cache_argument(cache))
    assert run.problems() == []
    assert run.steps[2].head.cache_after.kind == "StaticCache"
    assert run.steps[2].head.cache_after.length == 8
    assert check(run, 3, "cache").checked == 2


def test_without_a_cache_every_step_reads_everything() -> None:
    model, inputs = tiny_model(), batch(2)
    with collected(model) as run:
        generate(model, inputs, **GREEDY, use_cache=False)
    assert run.problems() == []
    head = run.steps[2].head
    assert (head.cache_before.length, head.inputs.new_start) == (0, 0)
    assert head.inputs.tensor("input_ids").info.shape == (2, 8)  # type: ignore[union-attr]


def test_a_small_budget_checks_the_layers_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks.kv_cache.proof, "HOST_BUDGET", 1)
    monkeypatch.setattr(hooks.kv_cache.proof, "DEVICE_BUDGET", 1)
    model, inputs = tiny_model(num_hidden_layers=3), batch()
    with collected(model) as run:
        generate(model, inputs, **GREEDY, **cache_argument(Overwriting(overwrite_value)), max_new_tokens=8)
    assert [check(run, step, "cache").checked for step in range(1, 9)] == [1] * 8
    # Layer 1 is read in steps 2 and 5: damaged in step 4, it is found the next time it is its turn.
    assert [number for number, _ in violations(run)] == [5]


def plant(model: Any, name: str) -> None:
    with torch.no_grad():
        model.get_parameter(name)[0, 0] = torch.nan


def test_a_nan_in_a_weight_is_located() -> None:
    model, inputs = tiny_model(), batch()
    plant(model, "model.layers.1.mlp.up_proj.weight")
    with collected(model) as run:
        generate(model, inputs, **GREEDY)
    ((step, violation),) = violations(run)
    assert step == 1
    assert run.header.modules[violation.module or 0].name == "model.layers.1.mlp.up_proj"
    assert "its inputs were finite" in violation.message
    assert check(run, 1, "finite").failed
    assert check(run, 5, "finite").failed


def test_a_nan_at_one_step_only_is_located_with_step_and_row() -> None:
    model, inputs = tiny_model(), batch(2)
    calls = 0

    def poison(_module: Any, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == 7:
            output[1, 0, 5] = torch.inf
        return output

    handle = model.model.layers[0].self_attn.o_proj.register_forward_hook(poison)
    with collected(model) as run:
        generate(model, inputs, **GREEDY, max_new_tokens=9)
    handle.remove()
    step, violation = violations(run)[0]
    assert (step, violation.row) == (7, 1)
    # A hook changes what the caller of the module gets.
    assert run.header.modules[violation.module or 0].name == "model.layers.0.self_attn.o_proj"


def test_statistics_equal_torch() -> None:
    model, inputs = tiny_model("qwen2_moe"), batch(2)
    with collected(model, level="tensors", save=("modules=.*",)) as run:
        generate(model, inputs, **SAMPLING)
    for step, saved in zip(run.steps, run.saved, strict=True):
        assert step.modules is not None
        assert step.layout is not None
        seen: dict[str, int] = {}
        for call, index in enumerate(step.layout.modules):
            name = f"modules/{run.header.modules[index].name}"
            seen[name] = seen.get(name, 0) + 1
            tensor = saved[name if seen[name] == 1 else f"{name}#{seen[name]}"]
            if step.modules.nonfinite[call] < 0:
                continue
            expected = (tensor.mean(), tensor.std(correction=0), tensor.min(), tensor.max())
            got = (step.modules.mean, step.modules.std, step.modules.low, step.modules.high)
            np.testing.assert_allclose(
                [column[call] for column in got], [float(value) for value in expected], rtol=1e-4, atol=1e-6
            )


def test_norms_of_new_slots_equal_torch() -> None:
    model, inputs = tiny_model(), batch(2)
    with collected(model, level="tensors", save=("kv",)) as run:
        generate(model, inputs, **GREEDY)
    for step, saved in zip(run.steps, run.saved, strict=True):
        assert step.cache is not None
        for layer in range(2):
            np.testing.assert_allclose(
                step.cache.key_norm[layer], saved[f"kv/{layer}/key"].norm(dim=-1).numpy(), rtol=1e-5
            )
    whole = torch.cat([saved["kv/0/value"] for saved in run.saved], dim=-2)
    assert whole.shape[-2] == run.steps[-1].head.cache_after.length


def test_modules_not_called_are_listed() -> None:
    model, inputs = tiny_model(), batch()
    with collected(model) as run:
        generate(model, inputs, **GREEDY)
    layout = run.steps[0].layout
    assert layout is not None
    assert [run.header.modules[index].name for index in layout.not_called] == ["model.layers"]
    called = {run.header.modules[index].name for index in layout.modules}
    assert len(called) + 1 == len(run.header.modules)

"""The logit lens is what norm and head make of each layer's output."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    CohereConfig,
    FalconConfig,
    MptConfig,
    OPTConfig,
    PhiConfig,
    PretrainedConfig,
    PreTrainedModel,
    StableLmConfig,
)

from hooks.probes.decoder_parts import beside_layers, decoder_layers
from hooks.probes.selection import TensorSelection
from tests.hooks.test_unchanged import assert_same_result, attributes
from tests.support import causal_models
from tests.support.models import (
    CONFIGS,
    DEVICE,
    EOS,
    GREEDY,
    SAMPLING,
    VOCAB,
    CollectedRun,
    batch,
    collected,
    generate,
    tiny_model,
)
from tests.support.outputs import hidden_of
from tracer.errors import UnsupportedError
from tracer.schema.run import CaptureSettings

LENS: dict[str, Any] = {"save": ("lens",)}
_COMMON: dict[str, Any] = {"vocab_size": VOCAB, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": EOS}
_USUAL = {
    **_COMMON,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
OTHERS: dict[str, PretrainedConfig] = {
    "bloom": BloomConfig(**_COMMON, hidden_size=32, n_layer=2, n_head=4),
    "cohere": CohereConfig(**_USUAL),
    "falcon": FalconConfig(**_COMMON, hidden_size=32, num_hidden_layers=2, num_attention_heads=4),
    "mpt": MptConfig(**_COMMON, d_model=32, n_heads=4, n_layers=2, max_seq_len=64),
    "opt": OPTConfig(
        **_COMMON,
        hidden_size=32,
        ffn_dim=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        word_embed_proj_dim=32,
    ),
    "phi": PhiConfig(**_USUAL),
    "stablelm": StableLmConfig(**_USUAL, num_key_value_heads=4),
}


def model_of(name: str) -> PreTrainedModel:
    if name in CONFIGS:
        return tiny_model(name)
    config = OTHERS[name]
    config.initializer_range = 0.5
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(config).eval().to(DEVICE)


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("name", [*CONFIGS, *OTHERS])
def test_the_last_layer_is_the_models_own_prediction(name: str, rows: int) -> None:
    model, inputs = model_of(name), batch(rows)
    untraced = generate(model, inputs, **SAMPLING)
    before = attributes(model)
    with collected(model, **LENS) as run:
        traced = generate(model, inputs, **SAMPLING)
    assert_same_result(traced, untraced)
    assert attributes(model) == before
    assert run.problems() == []
    for step, saved, logits in zip(run.steps, run.saved, traced.logits, strict=True):
        assert sorted(saved) == ["lens/probabilities", "lens/probability", "lens/rank", "lens/tokens"]
        shares = torch.softmax(logits.float(), dim=-1).cpu()
        assert saved["lens/tokens"].shape == (len(decoder_layers(model)), rows, 5)
        top = saved["lens/tokens"][-1].long()
        np.testing.assert_allclose(saved["lens/probabilities"][-1], shares.gather(1, top), atol=1e-5)
        np.testing.assert_allclose(shares.gather(1, top[:, :1])[:, 0], shares.amax(-1), atol=1e-6)
        assert step.scores is not None
        np.testing.assert_array_equal(saved["lens/rank"][-1], step.scores.chosen_rank[0])


def last_layer_is_the_models(run: CollectedRun, logits: tuple[torch.Tensor, ...]) -> None:
    assert run.problems() == []
    assert [each for step in run.steps for each in step.head.uncaptured] == []
    for saved, theirs in zip(run.saved, logits, strict=True):
        shares = torch.softmax(theirs.float(), dim=-1).cpu()
        top = saved["lens/tokens"][-1].long()
        np.testing.assert_allclose(saved["lens/probabilities"][-1], shares.gather(1, top), atol=1e-5)


@pytest.mark.reference_only
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    "name",
    [
        "BertLMHeadModel",  # no norm behind its layers, and a head of several modules
        "MBartForCausalLM",  # a norm of its embeddings beside the final one
        "MegatronBertForCausalLM",
        "RecurrentGemmaForCausalLM",  # a soft cap
        "RobertaPreLayerNormForCausalLM",  # a final norm elsewhere than beside its layers
        "WhisperForCausalLM",
        "XGLMForCausalLM",
    ],
)
def test_the_way_to_the_logits_is_the_models_own(name: str) -> None:
    model, inputs = causal_models.model_of(name), batch(2)
    untraced = generate(model, inputs, **GREEDY)
    with collected(model, **LENS) as run:
        traced = generate(model, inputs, **GREEDY)
    assert_same_result(traced, untraced)
    last_layer_is_the_models(run, traced.logits)


def test_a_projection_behind_the_norm_belongs_to_the_way() -> None:
    config = OPTConfig(**_USUAL, ffn_dim=64, word_embed_proj_dim=16, init_std=0.5)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    with collected(model, **LENS) as run:
        traced = generate(model, batch(2), **GREEDY)
    last_layer_is_the_models(run, traced.logits)


def test_a_factor_of_the_models_own_is_found() -> None:
    model = tiny_model()

    class Scaled(type(model)):  # type: ignore[misc]
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            found = super().forward(*args, **kwargs)
            found.logits = found.logits / 3
            return found

    model.__class__ = Scaled
    with collected(model, **LENS) as run:
        traced = generate(model, batch(2), **GREEDY)
    last_layer_is_the_models(run, traced.logits)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_quantised_modules_project_or_say_why_once() -> None:
    if "fbgemm" not in torch.backends.quantized.supported_engines:
        pytest.skip("this torch has no quantised linear modules")
    quantise: Any = torch.ao.quantization.quantize_dynamic
    model = quantise(tiny_model().cpu(), {nn.Linear}, dtype=torch.qint8)
    inputs = {name: tensor.cpu() for name, tensor in batch(2).items()}
    untraced = generate(model, inputs, **GREEDY)
    with collected(model, **LENS) as run:
        assert_same_result(generate(model, inputs, **GREEDY), untraced)
    assert run.problems() == []
    assert all(step.modules is not None for step in run.steps)
    # What goes in is quantised by its own range, that of the prompt by the range of all positions.
    said = [(step.number, each.capture) for step in run.steps for each in step.head.uncaptured]
    assert said in ([], [(1, "lens")])
    assert all(run.saved[1:])


def test_a_fault_of_the_lens_costs_no_other_result(monkeypatch: pytest.MonkeyPatch) -> None:
    model, inputs = tiny_model(), batch(1, 80)  # long enough for outputs to be reduced at once

    def broken(*_: Any) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr("hooks.probes.lens.clone", broken)
    with collected(model, level="tensors", save=("lens", "hidden")) as run:
        generate(model, inputs, **GREEDY)
    assert run.problems() == ["layer 1: RuntimeError: broken"]
    assert run.steps[0].head.errors[0].capture == "lens"
    layers = [f"model.layers.{layer}" for layer in range(2)]
    for step, saved in zip(run.steps, run.saved, strict=True):
        assert sorted(saved) == ["hidden/0", "hidden/1"]
        assert step.modules is not None
        assert step.layout is not None
        calls = [run.header.modules[index].name for index in step.layout.modules]
        assert all(step.modules.nonfinite[calls.index(layer)] == 0 for layer in layers)


def test_what_is_known_to_have_no_lens_is_refused_by_name() -> None:
    for name in ("ReformerModelWithLMHead", "XLMWithLMHeadModel"):
        model = causal_models.model_of(name)
        with pytest.raises(UnsupportedError, match=f"save=lens: {name}: "), collected(model, **LENS):
            pass


def test_every_layer_is_projected_by_norm_and_head() -> None:
    model, inputs = tiny_model(num_hidden_layers=4), batch(2)
    outputs: list[torch.Tensor] = []
    handles = [
        layer.register_forward_hook(
            lambda _module, _args, output: outputs.append(hidden_of(output)[:, -1].clone())
        )
        for layer in decoder_layers(model)
    ]
    with collected(model, **LENS) as run:
        generate(model, inputs, **GREEDY)
    for handle in handles:
        handle.remove()
    for number, (step, saved) in enumerate(zip(run.steps, run.saved, strict=True)):
        for layer in range(4):
            with torch.no_grad():
                logits = model.lm_head(model.model.norm(outputs[4 * number + layer]))
            shares = torch.softmax(logits, -1)
            assert step.scores is not None
            for row, chosen in enumerate(step.scores.chosen.tolist()):
                rank = 1 + int((logits[row] > logits[row, chosen]).sum())
                assert int(saved["lens/rank"][layer, row]) == rank
                assert float(saved["lens/probability"][layer, row]) == pytest.approx(
                    float(shares[row, chosen]), abs=1e-6
                )


def test_hooks_of_the_user_see_the_models_calls_only() -> None:
    model, inputs, calls = tiny_model(), batch(), [0]
    handle = model.lm_head.register_forward_hook(lambda *_: calls.__setitem__(0, calls[0] + 1))
    with collected(model, **LENS) as run:
        generate(model, inputs, **GREEDY)
    handle.remove()
    assert calls[0] == len(run.steps)


def test_nothing_is_watched_when_it_is_off() -> None:
    model = tiny_model()
    with collected(model, level="stats") as run:
        assert TensorSelection(CaptureSettings(level="stats"), model).probes(model) == ()
        generate(model, batch(), **GREEDY)
    assert all(not saved for saved in run.saved)


def test_several_chunks_are_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    model, inputs = tiny_model(num_hidden_layers=4), batch(3)
    found = []
    for size in (1 << 24, 500):
        monkeypatch.setattr("hooks.probes.lens._CHUNK", size)
        with collected(model, **LENS) as run:
            generate(model, inputs, **GREEDY)
        found.append(run.saved)
    for ours, theirs in zip(*found, strict=True):
        for name, tensor in ours.items():
            np.testing.assert_allclose(tensor, theirs[name], atol=1e-6)


def test_a_lens_that_is_not_the_models_is_said() -> None:
    model, inputs = tiny_model(), batch()

    class Turning(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, hidden: torch.Tensor) -> torch.Tensor:
            calls[0] += 1
            logits: torch.Tensor = self.inner(hidden)
            return logits.roll(calls[0], -1)

    calls = [0]
    model.lm_head = Turning(model.lm_head)
    with collected(model, **LENS) as run:
        generate(model, inputs, **GREEDY)
    assert run.problems() == []
    assert not any(run.saved)
    missed = [(step.number, each.capture, each.reason) for step in run.steps for each in step.head.uncaptured]
    reason = "the model's logits are not given by the modules that it calls behind its last layer"
    assert missed == [(1, "lens", reason)]


def test_a_model_without_a_final_norm_is_refused() -> None:
    model = tiny_model()
    model.model.norm = nn.Identity()
    before = attributes(model)
    with pytest.raises(UnsupportedError, match="no final norm"), collected(model, **LENS):
        pass
    assert attributes(model) == before


def test_beside_the_layers_are_embeddings_norms_and_head() -> None:
    model = model_of("bloom")
    found = beside_layers(model, decoder_layers(model))
    parts = model.transformer
    assert found == [parts.word_embeddings, parts.word_embeddings_layernorm, parts.ln_f, model.lm_head]


@pytest.mark.reference_only
def test_experts_are_no_layers() -> None:
    model = tiny_model("qwen2_moe")
    assert len(model.model.layers[0].mlp.experts) > len(model.model.layers)
    assert decoder_layers(model) == list(model.model.layers)
    with collected(model, level="tensors", save=("hidden",)) as run:
        generate(model, batch(), **GREEDY)
    assert sorted(run.saved[0]) == ["hidden/0", "hidden/1"]

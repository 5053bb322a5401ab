"""The original walkthrough's figures: real tokenizer, real shapes, logits that give its choice."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import DynamicCache, Qwen2Config, Qwen2ForCausalLM, Qwen2TokenizerFast

from hooks.known_models import ANY_MODEL
from hooks.kv_cache.signature import cache_signature
from hooks.kv_cache.view import view_cache
from hooks.modules.records import CallDescriber
from tests.support.models import reduced_calls, watching
from tests.support.qwen_tokenizer import qwen_tokenizer
from tracer import Recording, open_trace, trace
from tracer.loading.prompts import PreparedInputs, PromptSpec, prepare_inputs
from tracer.schema.tensors import TensorInfo

PROMPT = "Give me a short introduction to large language model."
IDS = [
    *(151644, 8948, 198, 2610, 525, 264, 10950, 17847, 13, 151645, 198, 151644, 872, 198, 35127),
    *(752, 264, 2805, 16800, 311, 3460, 4128, 1614, 13, 151645, 198, 151644, 77091, 198),
]
A, LARGE = 32, 34253
VOCAB, LAYERS, QUERY_HEADS, KV_HEADS, HEAD_DIM = 152064, 28, 28, 4, 4
HIDDEN = QUERY_HEADS * HEAD_DIM


@pytest.fixture(scope="session")
def tokenizer(pytestconfig: pytest.Config) -> Qwen2TokenizerFast:
    cache = pytestconfig.cache
    assert cache is not None
    return qwen_tokenizer(Path(cache.mkdir("qwen2-tokenizer")))


@pytest.fixture(scope="module")
def inputs(tokenizer: Qwen2TokenizerFast) -> PreparedInputs:
    return prepare_inputs(PromptSpec(prompts=(PROMPT,)), tokenizer, 32768)


@pytest.fixture(scope="module")
def recording(
    tokenizer: Qwen2TokenizerFast, inputs: PreparedInputs, tmp_path_factory: pytest.TempPathFactory
) -> Recording:
    model = scaled_model()
    aim_at_reference_logits(model, inputs.tensors["input_ids"])
    path = tmp_path_factory.mktemp("fidelity") / "run.trace"
    torch.manual_seed(0)
    with trace(model, tokenizer, path, prompt_texts=inputs.texts):
        model.generate(
            **inputs.tensors,
            max_new_tokens=2,
            do_sample=True,
            temperature=0.7,
            top_p=0.8,
            top_k=20,
            repetition_penalty=1.05,
            eos_token_id=[151645, 151643],
            pad_token_id=151643,
        )
    return open_trace(path)


def scaled_model() -> Qwen2ForCausalLM:
    """Qwen2-7B-Instruct's vocabulary, depth and grouping of heads; only the width is scaled down."""
    config = Qwen2Config(
        vocab_size=VOCAB,
        hidden_size=HIDDEN,
        intermediate_size=2 * HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=QUERY_HEADS,
        num_key_value_heads=KV_HEADS,
        tie_word_embeddings=False,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Qwen2ForCausalLM(config).eval()


def aim_at_reference_logits(model: Qwen2ForCausalLM, input_ids: torch.Tensor) -> None:
    """Give ``lm_head`` the rows at which the last prompt position has the walkthrough's raw logits."""
    wanted = torch.zeros(VOCAB)
    wanted[1000:1018] = 20.6  # what is left of the probability, spread over the rest of the top 20
    wanted[A], wanted[LARGE] = 25.125, 24.125
    with torch.no_grad():
        hidden = model.model(input_ids).last_hidden_state[0, -1].double()
        model.lm_head.weight.copy_(torch.outer(wanted.double(), hidden / hidden.dot(hidden)))


def info(*shape: int, dtype: str = "float32") -> TensorInfo:
    return TensorInfo(shape=shape, dtype=dtype, device="cpu")


def test_prompt_gives_the_29_tokens(inputs: PreparedInputs, recording: Recording) -> None:
    assert inputs.tensors["input_ids"].tolist() == [IDS]
    assert recording.header.prompt[0].token_ids == tuple(IDS)
    assert recording.tokens[LARGE].text == "Large"


def test_first_step_reads_the_whole_prompt_into_an_empty_cache(recording: Recording) -> None:
    head = recording.steps[0].head
    given = head.inputs.tensor("input_ids")
    position = head.inputs.tensor("cache_position")
    assert given is not None
    assert given.info == info(1, 29, dtype="int64")
    assert position is not None
    assert position.values is not None
    assert position.values.decode().tolist() == list(range(29))
    assert head.cache_before.length == 0
    assert head.cache_before.groups == ()
    assert head.forward is not None
    assert head.forward.hidden_states == info(1, 29, HIDDEN)
    assert head.forward.logits == info(1, 29, VOCAB)
    assert head.forward.next_logits == info(1, VOCAB)


def test_two_candidates_remain_with_the_reference_figures(recording: Recording) -> None:
    first, second = recording.steps[0].candidates
    assert (first.token, second.token) == (A, LARGE)
    assert (round(first.raw, 4), round(second.raw, 4)) == (25.125, 24.125)
    assert (round(first.score, 4), round(second.score, 4)) == (35.8929, 34.4643)
    assert (round(first.probability, 4), round(second.probability, 4)) == (0.8067, 0.1933)
    scores = recording.steps[0].scores
    assert scores is not None
    assert scores.candidates.tolist() == [2]
    names = [processor.class_name for processor in recording.header.processors]
    kept = dict(zip(names, scores.kept[1:, 0].tolist(), strict=True))
    assert kept == {
        "RepetitionPenaltyLogitsProcessor": VOCAB,
        "TemperatureLogitsWarper": VOCAB,
        "TopKLogitsWarper": 20,
        "TopPLogitsWarper": 2,
    }


def test_the_cache_after_step_1_and_the_input_of_step_2(recording: Recording) -> None:
    head = recording.steps[0].head
    (group,) = head.cache_after.groups
    assert (group.first, group.last) == (0, LAYERS - 1)
    assert group.key == group.value == info(1, KV_HEADS, 29, HEAD_DIM)
    assert head.ids_after == info(1, 30, dtype="int64")
    assert head.update is not None
    assert head.update.cache_position is not None
    assert head.update.cache_position.decode().tolist() == [29]
    second = recording.steps[1].head
    given = second.inputs.tensor("input_ids")
    assert given is not None
    assert given.info.shape == (1, 1)
    assert second.cache_before.length == 29
    assert second.cache_after.length == 30
    assert second.forward is not None
    assert second.forward.hidden_states == info(1, 1, HIDDEN)
    assert recording.end is not None
    assert recording.end.status == "complete"


def test_anchors_of_this_release(recording: Recording) -> None:
    lines = {anchor.stop: (anchor.file, anchor.line) for anchor in recording.header.anchors}
    utils = "transformers/generation/utils.py"
    assert lines == {
        "model-call": (utils, 2982),
        "forward-result": ("transformers/models/qwen2/modeling_qwen2.py", 1121),
        "next-logits": (utils, 2989),
        "processors": (utils, 2992),
        "warpers": (utils, 2994),
        "softmax": (utils, 3018),
        "choice": (utils, 3020),
        "append": (utils, 3029),
        "update": (utils, 3032),
        "stopping": (utils, 3038),
    }


def test_functions_begin_where_the_walkthrough_says() -> None:
    from transformers import GenerationMixin

    assert GenerationMixin._sample.__code__.co_firstlineno == 2888
    forward = Qwen2ForCausalLM.forward
    while hasattr(forward, "__wrapped__"):
        forward = forward.__wrapped__
    # The decorators stand above the definition.
    assert forward.__code__.co_firstlineno <= 1057 <= forward.__code__.co_firstlineno + 3


def test_full_size_shapes() -> None:
    config = Qwen2Config(
        vocab_size=VOCAB,
        hidden_size=3584,
        intermediate_size=18944,
        num_hidden_layers=28,
        num_attention_heads=28,
        num_key_value_heads=4,
        torch_dtype="bfloat16",
    )
    with torch.device("meta"):
        model = Qwen2ForCausalLM(config).to(torch.bfloat16).eval()
    with torch.device("meta"), watching(model) as watch:
        describer = CallDescriber(len(watch.modules.infos))
        cache = DynamicCache()
        for length, positions in ((29, torch.arange(29)), (1, torch.tensor([29]))):
            watch.begin(early=True)
            model(
                torch.zeros((1, length), dtype=torch.int64), past_key_values=cache, cache_position=positions
            )
            notes = watch.take()
            assert notes is not None
            calls = describer.describe(reduced_calls(watch, notes))
            names = [watch.modules.infos[index].name for index in calls.layout.modules]
            shapes = {
                name: calls.shapes[int(number)]
                for name, number in zip(names, calls.columns.shapes, strict=True)
            }
            projection = shapes["model.layers.0.self_attn.k_proj"]
            assert projection.inputs[0].shape == (1, length, 3584)
            assert projection.outputs[0].shape == (1, length, 512)
            assert shapes["model"].outputs[0].shape == (1, length, 3584)
            assert shapes[""].outputs[0].shape == (1, length, VOCAB)
            assert shapes["model"].outputs[0].dtype == "bfloat16"
    state = cache_signature(view_cache(cache, ANY_MODEL, 30)).record
    (group,) = state.groups
    assert (state.layers, state.length) == (28, 30)
    assert group.key.shape == group.value.shape == (1, 4, 30, 128)

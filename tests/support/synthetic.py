"""Runs that never happened, made from the walkthrough's figures: for tests that need records but no model."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tracer.analysis.scores.summary import summarise
from tracer.library.loops.sample import SAMPLE_5
from tracer.schema.cache import CacheGroup, CacheState
from tracer.schema.calls import CallLayout, CallShape
from tracer.schema.checks import Check
from tracer.schema.columns import CacheColumns, ModuleColumns, ScoreColumns
from tracer.schema.run import (
    Anchor,
    CaptureSettings,
    CriterionInfo,
    ModelInfo,
    ModuleInfo,
    ProcessorInfo,
    PromptRow,
    RunEnd,
    RunHeader,
    RunStatus,
    StopName,
    TokenText,
)
from tracer.schema.step import Criterion, Draw, ForwardResult, KwargsUpdate, ModelInputs, Step, StepHead
from tracer.schema.tensors import IntValues, NamedTensor, TensorInfo

PROMPT_TEXT = (
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
    "Give me a short introduction to large language model.<|im_end|>\n<|im_start|>assistant\n"
)
HIDDEN, KV_HEADS, HEAD_DIM, VOCAB = 3584, 4, 128, 2048
PROMPT_LENGTH = 29

_ANCHORS: dict[StopName, tuple[str, int, str]] = {
    "model-call": (
        "transformers/generation/utils.py",
        2982,
        "outputs = self(**model_inputs, return_dict=True)",
    ),
    "forward-result": ("transformers/models/qwen2/modeling_qwen2.py", 1121, "loss = None"),
    "next-logits": (
        "transformers/generation/utils.py",
        2989,
        "next_token_logits = outputs.logits[:, -1, :].clone()",
    ),
    "processors": (
        "transformers/generation/utils.py",
        2992,
        "next_token_scores = logits_processor(input_ids, next_token_logits)",
    ),
    "warpers": (
        "transformers/generation/utils.py",
        2994,
        "next_token_scores = logits_warper(input_ids, next_token_scores)",
    ),
    "softmax": (
        "transformers/generation/utils.py",
        3018,
        "probs = nn.functional.softmax(next_token_scores, dim=-1)",
    ),
    "choice": (
        "transformers/generation/utils.py",
        3020,
        "next_tokens = torch.multinomial(probs, num_samples=1).squeeze(1)",
    ),
    "append": (
        "transformers/generation/utils.py",
        3029,
        "input_ids = torch.cat([input_ids, next_tokens[:, None]], dim=-1)",
    ),
    "update": (
        "transformers/generation/utils.py",
        3032,
        "model_kwargs = self._update_model_kwargs_for_generation(",
    ),
    "stopping": (
        "transformers/generation/utils.py",
        3038,
        "unfinished_sequences = unfinished_sequences & ~stopping_criteria(input_ids, scores)",
    ),
}


def merged_header(processors: tuple[ProcessorInfo, ...], *, do_sample: bool = True) -> RunHeader:
    """A header of a run whose processors and warpers are one list, as in today's transformers."""
    header = synthetic_header(do_sample=do_sample)
    versions = {**header.versions, "transformers": "5.24.0"}
    return header.model_copy(update={"processors": processors, "stops": SAMPLE_5.stops, "versions": versions})


def synthetic_header(*, rows: int = 1, layers: int = 28, do_sample: bool = True) -> RunHeader:
    """A header like the reference walkthrough's, with a small vocabulary."""
    processors = [
        ProcessorInfo(
            list_name="logits_processor",
            class_name="RepetitionPenaltyLogitsProcessor",
            settings={"penalty": "1.05"},
        )
    ]
    if do_sample:
        processors += [
            ProcessorInfo(
                list_name="logits_warper",
                class_name="TemperatureLogitsWarper",
                settings={"temperature": "0.7"},
            ),
            ProcessorInfo(
                list_name="logits_warper",
                class_name="TopKLogitsWarper",
                settings={"top_k": "20", "filter_value": "-inf"},
            ),
            ProcessorInfo(
                list_name="logits_warper",
                class_name="TopPLogitsWarper",
                settings={"top_p": "0.8", "filter_value": "-inf"},
            ),
        ]
    return RunHeader(
        model=ModelInfo(
            name="Qwen2-7B-Instruct",
            class_name="Qwen2ForCausalLM",
            layers=layers,
            hidden_size=HIDDEN,
            intermediate_size=18944,
            query_heads=28,
            kv_heads=KV_HEADS,
            head_dim=HEAD_DIM,
            max_positions=32768,
            vocab_size=VOCAB,
            parameters=7_615_616_512,
            dtype="bfloat16",
            attention="sdpa",
            devices={"": "cuda:0"},
            tree="Qwen2ForCausalLM(\n  (model): Qwen2Model(...)\n  (lm_head): Linear(...)\n)",
            config="{}",
        ),
        generation_config={"do_sample": str(do_sample), "temperature": "0.7", "top_p": "0.8", "top_k": "20"},
        do_sample=do_sample,
        max_length=PROMPT_LENGTH + 512,
        seed=0,
        prompt=tuple(
            PromptRow(token_ids=tuple(range(100, 100 + PROMPT_LENGTH)), padding=row, text=PROMPT_TEXT)
            for row in range(rows)
        ),
        processors=tuple(processors),
        criteria=(
            CriterionInfo(class_name="MaxLengthCriteria", settings={"max_length": str(PROMPT_LENGTH + 512)}),
            CriterionInfo(class_name="EosTokenCriteria", settings={"eos_token_id": "[7, 8]"}),
        ),
        modules=tuple(_modules(layers)),
        anchors=tuple(
            Anchor(
                stop=stop,
                file=file,
                path=f"/site-packages/{file}",
                line=line,
                text=text,
                excerpt_start=line - 1,
                excerpt=(
                    "            # the line before",
                    f"            {text}",
                    "            # the line after",
                ),
            )
            for stop, (file, line, text) in _ANCHORS.items()
            if do_sample or stop not in ("warpers", "softmax")
        ),
        capture=CaptureSettings(),
        versions={"python": "3.11.7", "torch": "2.13.0", "transformers": "4.44.2", "trace-generate": "0.1.0"},
        started_at="2026-01-02T03:04:05Z",
    )


def synthetic_tokens() -> dict[int, TokenText]:
    """Texts for the whole synthetic vocabulary; a few are awkward on purpose."""
    awkward = {
        0: "\n",
        1: " ",
        2: "\t",
        3: "\ufffd",
        4: "日",
        5: "\x1b[31m",
        6: "</script>",
        7: "<|im_end|>",
        8: "<|endoftext|>",
    }
    return {
        token: TokenText(
            id=token,
            text=awkward.get(token, f" word{token}" if token % 2 else f"sub{token}"),
            piece=f"Ġword{token}" if token % 2 else f"sub{token}",
            special=token in (7, 8),
        )
        for token in range(VOCAB)
    }


def synthetic_steps(
    header: RunHeader, count: int = 8, *, run: int = 1, seed: int = 0, stats: bool = True
) -> Iterator[Step]:
    """Consistent steps for a header: shapes, cache and positions grow as in a real run."""
    rng = np.random.default_rng(seed)
    rows, layers = len(header.prompt), header.model.layers or 1
    for number in range(1, count + 1):
        yield _step(header, run, number, rows, layers, rng, last=number == count, stats=stats)


def synthetic_end(header: RunHeader, steps: int) -> RunEnd:
    """The end record of a complete run."""
    return RunEnd(
        status=RunStatus.COMPLETE,
        steps=steps,
        seconds=0.25 * steps,
        sequences=tuple(row.token_ids + tuple(range(11, 11 + steps)) for row in header.prompt),
        texts=tuple("A large language model is a model of language." for _ in header.prompt),
        queue_peak_bytes=123_456,
    )


def _modules(layers: int) -> Iterator[ModuleInfo]:
    yield ModuleInfo(name="", class_name="Qwen2ForCausalLM")
    yield ModuleInfo(name="model", class_name="Qwen2Model")
    yield ModuleInfo(name="model.embed_tokens", class_name="Embedding")
    for layer in range(layers):
        prefix = f"model.layers.{layer}"
        yield ModuleInfo(name=prefix, class_name="Qwen2DecoderLayer")
        yield ModuleInfo(name=f"{prefix}.self_attn", class_name="Qwen2SdpaAttention")
        yield ModuleInfo(name=f"{prefix}.self_attn.q_proj", class_name="Linear")
        yield ModuleInfo(name=f"{prefix}.mlp", class_name="Qwen2MLP")
    yield ModuleInfo(name="model.norm", class_name="Qwen2RMSNorm")
    yield ModuleInfo(name="lm_head", class_name="Linear")


def _info(*shape: int, dtype: str = "bfloat16", device: str = "cuda:0") -> TensorInfo:
    return TensorInfo(shape=shape, dtype=dtype, device=device)


def _named(name: str, values: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> NamedTensor:
    return NamedTensor(name=name, info=_info(*values.shape, dtype="int64"), values=IntValues.encode(values))


def _cache(rows: int, layers: int, length: int) -> CacheState:
    if not length:
        return CacheState(kind="DynamicCache", length=0)
    slot = _info(rows, KV_HEADS, length, HEAD_DIM)
    return CacheState(
        kind="DynamicCache",
        length=length,
        groups=(CacheGroup(first=0, last=layers - 1, key=slot, value=slot),),
    )


def _step(
    header: RunHeader,
    run: int,
    number: int,
    rows: int,
    layers: int,
    rng: np.random.Generator,
    *,
    last: bool,
    stats: bool,
) -> Step:
    before = PROMPT_LENGTH + number - 1
    new = before if number == 1 else 1
    start = before - new
    mask = np.ones((rows, before), dtype=np.int64)
    for row, prompt in enumerate(header.prompt):
        mask[row, : prompt.padding] = 0
    positions = np.maximum(mask.cumsum(-1) - 1, 0)[:, start:]
    ids = np.array([(*row.token_ids, *range(11, 11 + number - 1)) for row in header.prompt])[:, start:]
    head = StepHead(
        run=run,
        step=number,
        inputs=ModelInputs(
            tensors=(
                _named("input_ids", ids),
                _named("position_ids", positions),
                _named("cache_position", np.arange(start, before)),
                _named("attention_mask", mask),
            ),
            others={"use_cache": "True"},
            sequence_length=before,
            new_start=start,
        ),
        cache_before=_cache(rows, layers, start),
        cache_after=_cache(rows, layers, before),
        forward=ForwardResult(
            hidden_states=_info(rows, new, HIDDEN),
            logits=_info(rows, new, VOCAB, dtype="float32"),
            next_logits=_info(rows, VOCAB, dtype="float32"),
        ),
        stages=1 + len(header.processors),
        vocab_size=VOCAB,
        ids_before=_info(rows, before, dtype="int64"),
        ids_after=_info(rows, before + 1, dtype="int64"),
        update=KwargsUpdate(
            attention_mask=_info(rows, before + 1, dtype="int64"), cache_position=IntValues.encode([before])
        ),
        criteria=(
            Criterion(index=0, fired=()),
            Criterion(index=1, fired=tuple(range(rows)) if last else ()),
        ),
        unfinished=() if last else tuple(range(rows)),
        layout=1,
        draw=Draw(device="cpu", digest=f"{number:016x}", follows=number > 1) if header.do_sample else None,
        checks=(
            Check.made("cache", holds=True, checked=layers, total=layers),
            Check.made("positions", holds=True, checked=rows, total=rows),
            Check.made("modules", holds=True, checked=len(header.modules), total=len(header.modules)),
        ),
        started=0.25 * (number - 1),
        forward_seconds=0.2,
        seconds=0.25,
    )
    calls = len(header.modules)
    shape = CallShape(inputs=(_info(rows, new, HIDDEN),), outputs=(_info(rows, new, HIDDEN),))
    low = -np.abs(rng.normal(5, 1, calls)).astype(np.float32)
    modules = ModuleColumns(
        shapes=np.full(calls, 1 if number == 1 else 2, dtype=np.int32),
        mean=rng.normal(0, 0.1, calls).astype(np.float32),
        std=np.abs(rng.normal(1, 0.2, calls)).astype(np.float32),
        low=low,
        high=-low,
        nonfinite=np.zeros(calls, dtype=np.int32),
    )
    norms = np.abs(rng.normal(8, 2, (2, layers, rows, KV_HEADS, new))).astype(np.float32)
    return Step(
        head=head,
        scores=_scores(header, number, rows, rng),
        modules=modules if stats else None,
        cache=CacheColumns(key_norm=norms[0], value_norm=norms[1]) if stats else None,
        layout=CallLayout(modules=(*tuple(range(1, calls)), 0), not_called=()),
        shapes={1: shape, 2: shape},
    )


def _scores(header: RunHeader, number: int, rows: int, rng: np.random.Generator) -> ScoreColumns:
    raw = rng.normal(0, 3, (rows, VOCAB)).astype(np.float32)
    first, second = (10 + number) % VOCAB, (40 + number) % VOCAB
    raw[:, first], raw[:, second] = 25.125, 24.125
    stages = [raw, np.where(np.arange(VOCAB) == 40, raw / np.float32(1.05), raw).astype(np.float32)]
    if header.do_sample:
        stages.append(stages[-1] / np.float32(0.7))
        cut = np.sort(stages[-1], axis=-1)[:, -20:-19]
        stages.append(np.where(stages[-1] < cut, np.float32(-np.inf), stages[-1]))
        stages.append(np.where(stages[-1] < stages[-1][:, [second]], np.float32(-np.inf), stages[-1]))
    chosen = np.full(rows, first, dtype=np.int32)
    return summarise(stages, chosen, np.zeros(rows, dtype=np.bool_), header.capture.candidates)

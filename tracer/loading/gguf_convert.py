"""Turn a GGUF file of the Llama family into an ordinary checkpoint folder of ``Qwen2ForCausalLM``.

Qwen2 is Llama with biases on the query, key and value projections; with zero biases both compute the same
function. transformers 4.44.2 cannot read Q4_1 itself, so the ``gguf`` package dequantises.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from gguf import GGUFReader, dequantize
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

_Weights = npt.NDArray[np.float32]

_SPECIAL = 3
"""GGUF's token type of control tokens."""

_LAYER_NAMES = {
    "attn_norm.weight": "input_layernorm.weight",
    "attn_q.weight": "self_attn.q_proj.weight",
    "attn_k.weight": "self_attn.k_proj.weight",
    "attn_v.weight": "self_attn.v_proj.weight",
    "attn_output.weight": "self_attn.o_proj.weight",
    "ffn_norm.weight": "post_attention_layernorm.weight",
    "ffn_gate.weight": "mlp.gate_proj.weight",
    "ffn_up.weight": "mlp.up_proj.weight",
    "ffn_down.weight": "mlp.down_proj.weight",
}

_TOP_NAMES = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}


def convert(source: Path, folder: Path, generation: dict[str, Any]) -> None:
    """Convert a GGUF file: write config, weights, tokenizer, chat template and generation config.

    Weights are written in float32: the quantised values are not exact in bfloat16, and float32 is the
    fastest on a CPU.

    Args:
        source: the GGUF file.
        folder: an existing folder.
        generation: settings of the generation config besides the special tokens.

    Raises:
        ValueError: the file lacks a weight of the model.
    """
    reader = GGUFReader(source)
    meta = _Metadata(reader)
    config = _config(meta)
    with torch.device("meta"):
        model = Qwen2ForCausalLM(config)
    state = {name: torch.tensor(values) for name, values in _tensors(reader, config)}
    for name, parameter in model.named_parameters():
        if name.endswith("_proj.bias"):
            state[name] = torch.zeros(parameter.shape)
    missing = model.load_state_dict(state, strict=False, assign=True).missing_keys
    if config.tie_word_embeddings:
        model.tie_weights()
        missing = [name for name in missing if name != "lm_head.weight"]
    if missing:
        raise ValueError(f"the GGUF file lacks {', '.join(missing)}")
    model.generation_config = GenerationConfig(
        bos_token_id=config.bos_token_id,
        eos_token_id=config.eos_token_id,
        pad_token_id=config.pad_token_id,
        **generation,
    )
    model.save_pretrained(folder)
    _tokenizer(meta).save_pretrained(folder)


class _Metadata:
    """The key-value part of a GGUF file."""

    def __init__(self, reader: GGUFReader) -> None:
        self._fields = reader.fields

    def __getitem__(self, key: str) -> Any:
        return self._fields[key].contents()

    def get(self, key: str, default: Any = None) -> Any:
        return self[key] if key in self._fields else default


def _config(meta: _Metadata) -> Qwen2Config:
    return Qwen2Config(
        vocab_size=len(meta["tokenizer.ggml.tokens"]),
        hidden_size=meta["llama.embedding_length"],
        intermediate_size=meta["llama.feed_forward_length"],
        num_hidden_layers=meta["llama.block_count"],
        num_attention_heads=meta["llama.attention.head_count"],
        num_key_value_heads=meta["llama.attention.head_count_kv"],
        max_position_embeddings=meta["llama.context_length"],
        rope_theta=meta["llama.rope.freq_base"],
        # Stored in single precision: 9.999999747378752e-06 was 1e-05.
        rms_norm_eps=float(
            np.format_float_positional(np.float32(meta["llama.attention.layer_norm_rms_epsilon"]))
        ),
        tie_word_embeddings=True,
        use_sliding_window=False,
        bos_token_id=meta["tokenizer.ggml.bos_token_id"],
        eos_token_id=meta["tokenizer.ggml.eos_token_id"],
        pad_token_id=meta["tokenizer.ggml.padding_token_id"],
        torch_dtype="float32",
    )


def _tensors(reader: GGUFReader, config: Qwen2Config) -> Iterator[tuple[str, _Weights]]:
    heads = {"attn_q.weight": config.num_attention_heads, "attn_k.weight": config.num_key_value_heads}
    for tensor in reader.tensors:
        values = np.ascontiguousarray(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
        if tensor.name in _TOP_NAMES:
            yield _TOP_NAMES[tensor.name], values
            continue
        _, layer, part = tensor.name.split(".", 2)
        if part in heads:
            values = _undo_rope_order(values, heads[part])
        yield f"model.layers.{layer}.{_LAYER_NAMES[part]}", values


def _undo_rope_order(weights: _Weights, heads: int) -> _Weights:
    """Undo GGUF's order of rows, which interleaves the two halves of each query and key head for its RoPE.

    Args:
        weights: ``[heads · head dim, hidden]``.
        heads: number of heads in these rows.
    """
    rows = weights.shape[0]
    return np.ascontiguousarray(
        weights.reshape(heads, rows // heads // 2, 2, -1).swapaxes(1, 2).reshape(weights.shape)
    )


def _tokenizer(meta: _Metadata) -> PreTrainedTokenizerFast:
    tokens: list[str] = meta["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ", 1)) for merge in meta["tokenizer.ggml.merges"]]
    core = Tokenizer(BPE(vocab={token: index for index, token in enumerate(tokens)}, merges=merges))
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    core.decoder = decoders.ByteLevel()
    special = [
        token
        for token, kind in zip(tokens, meta["tokenizer.ggml.token_type"], strict=True)
        if kind == _SPECIAL
    ]

    def special_token(key: str) -> str:
        return tokens[int(meta[f"tokenizer.ggml.{key}_token_id"])]

    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token=special_token("bos"),
        eos_token=special_token("eos"),
        unk_token=special_token("unknown"),
        pad_token=special_token("padding"),
        additional_special_tokens=special,
        model_max_length=meta["llama.context_length"],
        # Without token_type_ids, which this class produces otherwise and Qwen2 does not take.
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
        chat_template=meta["tokenizer.chat_template"],
    )

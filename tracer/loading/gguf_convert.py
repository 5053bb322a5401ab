"""Turn a GGUF file of the Llama family into an ordinary checkpoint folder of ``Qwen2ForCausalLM``.

Qwen2 is Llama with biases on the query, key and value projections; with zero biases both compute the same
function. transformers 4.44.2 cannot read Q4_1 itself, so the ``gguf`` package dequantises. The files are
written here and not by transformers, so that every traced release reads the same folder: 4.44.2 cannot read a
tokenizer that 4.57 wrote, and in a configuration that 5.x wrote it would not find the base of the rotary
embedding.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from gguf import GGUFReader, dequantize
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE

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
    weights = {**_zero_biases(config), **dict(_tensors(reader, config))}
    missing = sorted(_needed(config) - weights.keys())
    if missing:
        raise ValueError(f"the GGUF file lacks {', '.join(missing)}")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    special = {f"{name}_token_id": config[f"{name}_token_id"] for name in ("bos", "eos", "pad")}
    _write(folder / "config.json", config)
    _write(folder / "generation_config.json", {**special, **generation})
    _write(folder / "tokenizer.json", _tokenizer(meta))
    _write(folder / "tokenizer_config.json", _tokenizer_config(meta))


def _write(file: Path, content: dict[str, Any]) -> None:
    file.write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


class _Metadata:
    """The key-value part of a GGUF file."""

    def __init__(self, reader: GGUFReader) -> None:
        self._fields = reader.fields

    def __getitem__(self, key: str) -> Any:
        return self._fields[key].contents()

    def get(self, key: str, default: Any = None) -> Any:
        return self[key] if key in self._fields else default


def _config(meta: _Metadata) -> dict[str, Any]:
    return {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "vocab_size": len(meta["tokenizer.ggml.tokens"]),
        "hidden_size": meta["llama.embedding_length"],
        "intermediate_size": meta["llama.feed_forward_length"],
        "num_hidden_layers": meta["llama.block_count"],
        "num_attention_heads": meta["llama.attention.head_count"],
        "num_key_value_heads": meta["llama.attention.head_count_kv"],
        "hidden_act": "silu",
        "max_position_embeddings": meta["llama.context_length"],
        "rope_theta": meta["llama.rope.freq_base"],
        # Stored in single precision: 9.999999747378752e-06 was 1e-05.
        "rms_norm_eps": float(
            np.format_float_positional(np.float32(meta["llama.attention.layer_norm_rms_epsilon"]))
        ),
        "tie_word_embeddings": True,
        "use_sliding_window": False,
        "bos_token_id": meta["tokenizer.ggml.bos_token_id"],
        "eos_token_id": meta["tokenizer.ggml.eos_token_id"],
        "pad_token_id": meta["tokenizer.ggml.padding_token_id"],
        "torch_dtype": "float32",
    }


def _tensors(reader: GGUFReader, config: dict[str, Any]) -> Iterator[tuple[str, _Weights]]:
    heads = {"attn_q.weight": config["num_attention_heads"], "attn_k.weight": config["num_key_value_heads"]}
    for tensor in reader.tensors:
        values = np.ascontiguousarray(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
        if tensor.name in _TOP_NAMES:
            yield _TOP_NAMES[tensor.name], values
            continue
        _, layer, part = tensor.name.split(".", 2)
        if part in heads:
            values = _undo_rope_order(values, heads[part])
        yield f"model.layers.{layer}.{_LAYER_NAMES[part]}", values


def _zero_biases(config: dict[str, Any]) -> dict[str, _Weights]:
    width = config["hidden_size"] // config["num_attention_heads"]
    narrow = width * config["num_key_value_heads"]
    rows = {"q": config["hidden_size"], "k": narrow, "v": narrow}
    return {
        f"model.layers.{layer}.self_attn.{name}_proj.bias": np.zeros(size, dtype=np.float32)
        for layer in range(config["num_hidden_layers"])
        for name, size in rows.items()
    }


def _needed(config: dict[str, Any]) -> set[str]:
    """Names of the weights that the model reads; those of its output are the embedding's."""
    layers = range(config["num_hidden_layers"])
    in_layers = {f"model.layers.{layer}.{name}" for layer in layers for name in _LAYER_NAMES.values()}
    return in_layers | {_TOP_NAMES[name] for name in ("token_embd.weight", "output_norm.weight")}


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


def _tokenizer(meta: _Metadata) -> dict[str, Any]:
    tokens: list[str] = meta["tokenizer.ggml.tokens"]
    merges: list[str] = meta["tokenizer.ggml.merges"]
    pairs = [tuple(merge.split(" ", 1)) for merge in merges]
    core = Tokenizer(BPE(vocab={token: index for index, token in enumerate(tokens)}, merges=pairs))
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in _special(meta)])
    content: dict[str, Any] = json.loads(core.to_str())
    # Newer writers make each a list of two, which older readers do not take; all of them take a text.
    content["model"]["merges"] = merges
    return content


def _special(meta: _Metadata) -> list[str]:
    pairs = zip(meta["tokenizer.ggml.tokens"], meta["tokenizer.ggml.token_type"], strict=True)
    return [token for token, kind in pairs if kind == _SPECIAL]


def _tokenizer_config(meta: _Metadata) -> dict[str, Any]:
    tokens: list[str] = meta["tokenizer.ggml.tokens"]

    def special_token(key: str) -> str:
        return tokens[int(meta[f"tokenizer.ggml.{key}_token_id"])]

    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": special_token("bos"),
        "eos_token": special_token("eos"),
        "unk_token": special_token("unknown"),
        "pad_token": special_token("padding"),
        "additional_special_tokens": _special(meta),
        "model_max_length": meta["llama.context_length"],
        # Without token_type_ids, which this class produces otherwise and Qwen2 does not take.
        "model_input_names": ["input_ids", "attention_mask"],
        "clean_up_tokenization_spaces": False,
        "chat_template": meta["tokenizer.chat_template"],
    }

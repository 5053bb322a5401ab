"""Metadata of a run before its first step: the model, its settings, the prompt, versions."""

from __future__ import annotations

import functools
import json
import platform
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from transformers import GenerationConfig, PreTrainedModel

from hooks.decoding.constraint_states import constraints_text
from hooks.faults import is_ours
from hooks.loop.adapters import describe_adapters
from hooks.printing import printed
from hooks.tensors import to_host
from tracer.checkpoint_faults import faults_of
from tracer.schema.run import ModelInfo, PromptRow
from tracer.version import __version__

_ALIASES = {
    "layers": ("num_hidden_layers", "n_layer", "num_layers"),
    "hidden_size": ("hidden_size", "n_embd", "d_model"),
    "intermediate_size": ("intermediate_size", "n_inner", "ffn_dim"),
    "query_heads": ("num_attention_heads", "n_head"),
    "kv_heads": ("num_key_value_heads", "num_kv_heads"),
    "head_dim": ("head_dim",),
    "max_positions": ("max_position_embeddings", "n_positions", "max_seq_len"),
    "vocab_size": ("vocab_size",),
}


def describe_model(
    model: PreTrainedModel,
    name: str | None,
    given: object = None,
    parameters: Iterable[torch.Tensor] | None = None,
) -> ModelInfo:
    """Read the configuration under its various names.

    Args:
        model: the model.
        name: what reports call it; by default what it was loaded from.
        given: what was traced, where the model is inside of it.
        parameters: its parameters, each once, where they are at hand.
    """
    config = model.config
    sizes: dict[str, int | None] = {size: _first(config, names) for size, names in _ALIASES.items()}
    heads, hidden = sizes["query_heads"], sizes["hidden_size"]
    sizes["kv_heads"] = sizes["kv_heads"] or heads
    sizes["head_dim"] = sizes["head_dim"] or (hidden // heads if hidden and heads else None)
    return ModelInfo(
        name=printed(name or getattr(config, "_name_or_path", "") or type(model).__name__),
        class_name=type(model).__name__,
        parameters=sum(each.numel() for each in (model.parameters() if parameters is None else parameters)),
        dtype=str(model.dtype).removeprefix("torch."),
        attention=getattr(config, "_attn_implementation", None),
        devices=_devices(model),
        tree=printed(model),
        config=_json(config),
        quantization=_quantization(getattr(config, "quantization_config", None)),
        adapters=describe_adapters(given, model),
        checkpoint_faults=faults_of(model),
        **sizes,
    )


_LOADED = ("load_in_4bit", "_load_in_4bit", "load_in_8bit", "_load_in_8bit")
"""How a configuration of bitsandbytes says its width."""


def _quantization(settings: Any) -> str | None:
    """Method and width of a ``quantization_config``, which is a dict or an object."""
    if settings is None:
        return None
    known = settings if isinstance(settings, dict) else vars(settings)
    method = known.get("quant_method", type(settings).__name__)
    bits = [f"{known['bits']} bits"] if "bits" in known else []
    loaded = next((name for name in _LOADED if known.get(name)), None)
    bits += [f"{loaded[-4]} bits"] if loaded else []
    kinds = [str(known[name]) for name in ("weights", "bnb_4bit_quant_type") if known.get(name)]
    return ", ".join([str(getattr(method, "value", method)), *bits, *kinds[:1]])


def _first(config: Any, names: tuple[str, ...]) -> int | None:
    values = (getattr(config, name, None) for name in names)
    return next((value for value in values if isinstance(value, int)), None)


def _json(config: Any) -> str:
    """The configuration as JSON; where it cannot be written so, its settings as texts."""
    try:
        return printed(config.to_json_string(use_diff=False))
    except Exception as error:
        if not is_ours(error):
            raise
        return json.dumps({printed(name): printed(value) for name, value in vars(config).items()}, indent=2)


def _devices(model: PreTrainedModel) -> dict[str, str]:
    mapping = getattr(model, "hf_device_map", None)
    if isinstance(mapping, Mapping) and len(mapping) > 1:
        return {str(prefix): _device_name(device) for prefix, device in mapping.items()}
    return {"": str(model.device if model.device.type != "meta" else _executing_device(model))}


def _executing_device(model: PreTrainedModel) -> str:
    """Where a model computes whose weights are elsewhere between its calls, as Accelerate's hooks say."""
    for module in model.modules():
        hook = getattr(module, "_hf_hook", None)
        for each in (hook, *getattr(hook, "hooks", ())):
            device = getattr(each, "execution_device", None)
            if device is not None:
                return _device_name(device)
    return "meta"


def _device_name(device: Any) -> str:
    return f"cuda:{device}" if isinstance(device, int) else str(device)


def settings_in_force(config: GenerationConfig) -> dict[str, str]:
    """The settings that differ from what they are where nobody sets them, as text.

    A greedy run does not use the sampling settings that were unset for it; they are left out.
    """
    # Since 5.0 a bare config has nothing in it, and generate() fills in what nobody set.
    filled_in: dict[str, Any] = getattr(GenerationConfig, "_get_default_generation_params", dict)()
    bare = {**vars(GenerationConfig()), **filled_in}
    return {
        printed(name): printed(value, constraints_text if name == "constraints" else str)
        for name, value in sorted(vars(config).items())
        if (value is not None or config.do_sample)
        and not name.startswith("_")
        and name != "transformers_version"
        and _differs(value, bare.get(name))
        and not (value is False and bare.get(name) is None)  # a flag that nobody set
    }


def _differs(value: Any, other: Any) -> bool:
    """Whether two settings differ; one that cannot be compared, or is more than one number, does."""
    try:
        return bool(value != other)
    except Exception as error:
        if not is_ours(error):
            raise
        return True


def prompt_rows(
    input_ids: torch.Tensor, attention_mask: torch.Tensor | None, image_id: int | None = None
) -> tuple[PromptRow, ...]:
    """One record a row.

    Args:
        input_ids: ``[batch, length]``.
        attention_mask: ``[batch, length]`` with zeros at the padding, or None.
        image_id: the id that stands for an image, None where the model takes none.
    """
    ids = input_ids.tolist()
    padding = [0] * len(ids)
    if attention_mask is not None and attention_mask.shape == input_ids.shape and input_ids.shape[1]:
        # Leading zeros: the running sum is still 0 there.
        padding = (to_host(attention_mask).astype(np.int64).cumsum(-1) == 0).sum(-1).tolist()
    return tuple(
        PromptRow(
            token_ids=tuple(row),
            padding=pad,
            images=tuple(place for place, token in enumerate(row) if token == image_id),
        )
        for row, pad in zip(ids, padding, strict=True)
    )


def with_texts(rows: tuple[PromptRow, ...], texts: Sequence[str]) -> tuple[PromptRow, ...]:
    """The rows with the texts that they were made of.

    Args:
        rows: of the batch; several one after another for each prompt, where ``generate()`` makes them for
            beams or for several answers.
        texts: one for each prompt.

    Returns:
        The rows as they are, where the texts cannot be those of the rows.
    """
    several, rest = divmod(len(rows), len(texts)) if texts else (0, 0)
    if not several or rest:
        return rows
    # Rows without ids, whose prompts are embeddings, look alike whatever they are made of.
    alike = all(row == rows[place - place % several] and row.token_ids for place, row in enumerate(rows))
    if several > 1 and not alike:
        return rows
    return tuple(row.model_copy(update={"text": texts[place // several]}) for place, row in enumerate(rows))


def image_id(config: Any) -> int | None:
    """The id that stands for an image in prompts of a model, None where it takes none."""
    return _first(config, ("image_token_index", "image_token_id"))


def embedded_positions(input_ids: torch.Tensor, embeddings: torch.Tensor | None) -> int:
    """Positions of the prompt that are given as embeddings and have no token id.

    Args:
        input_ids: ``[batch, length]``.
        embeddings: ``inputs_embeds`` ``[batch, positions, hidden]``, None where the prompt is all ids.
    """
    return 0 if embeddings is None else max(0, embeddings.shape[1] - input_ids.shape[1])


def versions() -> dict[str, str]:
    """Versions of everything that affects the result, and the number of threads, which does too."""
    return {**_installed(), "threads": str(torch.get_num_threads())}


@functools.cache
def _installed() -> Mapping[str, str]:
    names = ("torch", "transformers", "tokenizers", "accelerate", "numpy")
    found = {"trace-generate": __version__, "python": platform.python_version()}
    found.update({name: metadata.version(name) for name in names})
    if torch.cuda.is_available():
        found["cuda"] = str(torch.version.cuda)
    return MappingProxyType(found)
